#include "device.hpp"

#include <cmath>
#include <stdexcept>

namespace lrisc {
namespace {

Options with_serial(SoapySDR::Kwargs arguments) {
    if (!arguments.count("serial") || arguments["serial"].empty()) {
        const auto get = [&](const char *key, const char *otherwise) { return arguments.count(key) ? arguments[key] : otherwise; };
        const std::string profile = get("profile", "hackrf");
        arguments["serial"] = free_serial(get("air", "default"), load_profile(profile).name);
    }
    return read_options(arguments);
}

std::string to_text(double value) {
    char text[32];
    snprintf(text, sizeof text, "%.12g", value);
    return text;
}

} // namespace

Device::Device(const SoapySDR::Kwargs &arguments)
    : options_(with_serial(arguments)),
      rendezvous_(options_.air, options_.serial, options_.pace == Pace::real ? "real" : "free"), shared_(options_),
      teller_(shared_, context_, rendezvous_.endpoint(options_.serial)), asker_(shared_, context_, rendezvous_),
      sender_(shared_, teller_, rendezvous_), true_clock_(1 + options_.truth.ppm * 1e-6),
      noise_seed_(mix(mix(options_.seed, "noise"), options_.serial)) {
    const auto &profile = options_.profile;
    rx_.elements = profile.gains_rx, tx_.elements = profile.gains_tx;
    rx_.antennas = profile.antennas_rx, tx_.antennas = profile.antennas_tx;
    rx_.full_scale_dbm = profile.rx_full_scale_dbm, tx_.full_scale_dbm = profile.tx_full_scale_dbm;
    rx_.gain_error_db = options_.truth.rx_gain_error_db, tx_.gain_error_db = options_.truth.tx_gain_error_db;
    for (Front *side : {&rx_, &tx_}) {
        side->antenna = side->antennas.front();
        for (const auto &gain : side->elements) side->gains_db[gain.name] = gain.initial;
        side->rate_hz = side->bandwidth_hz = std::min(std::max(4e6, profile.minimum_rate_hz), profile.maximum_rate_hz);
        side->frequency_hz = std::min(std::max(100e6, profile.minimum_frequency_hz), profile.maximum_frequency_hz);
    }
    tune_sender();
}

Device::~Device() {
    if (rx_.active) asker_.stop();
}

std::string Device::getDriverKey() const { return "lrisc"; }
std::string Device::getHardwareKey() const { return options_.profile.hardware; }
size_t Device::getNumChannels(int) const { return 1; }
bool Device::getFullDuplex(int, size_t) const { return options_.profile.full_duplex; }

SoapySDR::Kwargs Device::getHardwareInfo() const {
    return {{"serial", options_.serial}, {"air", options_.air}, {"profile", options_.profile.name},
            {"pace", options_.pace == Pace::real ? "real" : "free"}, {"virtual", "true"}};
}

// ---------------------------------------------------------------- time
// The device counts the ticks of its own oscillator and takes them for what they ought to be.

long long Device::to_device(Time time) const {
    return std::llround(time * Time(true_clock_) * 1e9L) + time_offset_ns_;
}

Time Device::to_air(long long time_ns) const { return Time(time_ns - time_offset_ns_) / 1e9L / Time(true_clock_); }

bool Device::hasHardwareTime(const std::string &what) const { return what.empty() && options_.profile.timestamps; }

long long Device::getHardwareTime(const std::string &what) const {
    if (!hasHardwareTime(what)) throw std::runtime_error("a radio of profile " + options_.profile.name + " has no clock '" + what + "'");
    if (options_.pace == Pace::real) return to_device(seconds(Clock::now()));
    auto &shared = const_cast<Shared &>(shared_);
    const std::lock_guard<std::mutex> guard(shared.mutex);
    return to_device(std::max({shared.sent.floor(), shared.position, shared.sent.end()}));
}

void Device::setHardwareTime(long long time_ns, const std::string &what) {
    const long long now = getHardwareTime(what);
    time_offset_ns_ += time_ns - now;
}

// ---------------------------------------------------------------- the truth

std::vector<std::string> Device::listSensors() const {
    return {"malformed", "silenced", "overflows", "underflows", "tx_clipped", "rx_clipped", "rx_noise_dbm",
            "rx_full_scale_dbm", "tx_full_scale_dbm"};
}

SoapySDR::ArgInfo Device::getSensorInfo(const std::string &key) const {
    static const std::map<std::string, std::pair<const char *, const char *>> about = {
        {"malformed", {"messages", "came from the air and were none"}},
        {"silenced", {"times", "another device was alive but did not answer"}},
        {"overflows", {"times", "samples were lost because the program did not read"}},
        {"underflows", {"times", "the program did not write in time"}},
        {"tx_clipped", {"samples", "were beyond the DAC's full scale"}},
        {"rx_clipped", {"samples", "were beyond the ADC's full scale"}},
        {"rx_noise_dbm", {"dBm", "thermal noise at the input within the sample rate"}},
        {"rx_full_scale_dbm", {"dBm", "true power of a carrier that fills the ADC at the present gain"}},
        {"tx_full_scale_dbm", {"dBm", "true power of a full-scale carrier at the present gain"}},
    };
    const auto found = about.find(key);
    if (found == about.end()) throw std::runtime_error("unknown sensor '" + key + "' of the virtual radio");
    SoapySDR::ArgInfo info;
    info.key = info.name = key;
    info.units = found->second.first;
    info.description = found->second.second;
    info.type = info.units == "dBm" ? SoapySDR::ArgInfo::FLOAT : SoapySDR::ArgInfo::INT;
    return info;
}

std::string Device::readSensor(const std::string &key) const {
    const auto &counters = shared_.counters;
    if (key == "malformed") return std::to_string(counters.malformed);
    if (key == "silenced") return std::to_string(counters.silenced);
    if (key == "overflows") return std::to_string(counters.overflows);
    if (key == "underflows") return std::to_string(counters.underflows);
    if (key == "tx_clipped") return std::to_string(counters.tx_clipped);
    if (key == "rx_clipped") return std::to_string(counters.rx_clipped);
    const std::lock_guard<std::mutex> guard(settings_mutex_);
    if (key == "rx_noise_dbm") return to_text(noise_dbm());
    if (key == "rx_full_scale_dbm") return to_text(full_scale_dbm(SOAPY_SDR_RX));
    if (key == "tx_full_scale_dbm") return to_text(full_scale_dbm(SOAPY_SDR_TX));
    throw std::runtime_error("unknown sensor '" + key + "' of the virtual radio");
}

SoapySDR::ArgInfoList Device::getSettingInfo() const {
    SoapySDR::ArgInfoList list;
    const auto add = [&](const std::string &key, const std::string &units, const std::string &description) {
        SoapySDR::ArgInfo info;
        info.key = info.name = key;
        info.value = readSetting(key);
        info.units = units;
        info.description = description;
        info.type = SoapySDR::ArgInfo::FLOAT;
        list.push_back(info);
    };
    add("path_loss_db", "dB", "from any other device to this one");
    add("overflow_every_samples", "samples", "lose a transfer whenever so many were received; 0: never");
    add("underflow_every_samples", "samples", "leave a gap whenever so many were sent; 0: never");
    add("unplug_after_samples", "samples", "fail for good when so many were received or sent; 0: never");
    for (const auto &key : impairment_keys) add(key.name, key.unit, std::string(key.description) + " (read only)");
    return list;
}

void Device::writeSetting(const std::string &key, const std::string &value) {
    const double number = to_number(key, value);
    if (number < 0 || std::isinf(number)) throw std::runtime_error("setting " + key + "=" + value + " is out of range");
    if (key == "path_loss_db") shared_.path_loss_db = number;
    else if (key == "overflow_every_samples") shared_.overflow_every_samples = int64_t(number);
    else if (key == "underflow_every_samples") shared_.underflow_every_samples = int64_t(number);
    else if (key == "unplug_after_samples") shared_.unplug_after_samples = int64_t(number);
    else throw std::runtime_error("setting '" + key + "' of the virtual radio is unknown, or fixed when it is opened");
}

std::string Device::readSetting(const std::string &key) const {
    if (key == "path_loss_db") return to_text(shared_.path_loss_db);
    if (key == "overflow_every_samples") return std::to_string(shared_.overflow_every_samples);
    if (key == "underflow_every_samples") return std::to_string(shared_.underflow_every_samples);
    if (key == "unplug_after_samples") return std::to_string(shared_.unplug_after_samples);
    for (const auto &known : impairment_keys)
        if (key == known.name) return to_text(options_.truth.*known.value);
    throw std::runtime_error("unknown setting '" + key + "' of the virtual radio");
}

} // namespace lrisc
