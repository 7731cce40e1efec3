#include "profile.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <stdexcept>

#include <yaml-cpp/yaml.h>

namespace fs = std::filesystem;

namespace lrisc {

const std::vector<ImpairmentKey> impairment_keys = {
    {"ppm", "ppm", "frequency error of the oscillator behind carrier and sample clock", &Impairments::ppm},
    {"noise_figure_db", "dB", "noise figure of the receiver; -inf: no thermal noise", &Impairments::noise_figure_db},
    {"tx_gain_error_db", "dB", "transmitted power above what the gains say", &Impairments::tx_gain_error_db},
    {"rx_gain_error_db", "dB", "receiver's gain above what the gains say", &Impairments::rx_gain_error_db},
    {"tx_iq_gain_db", "dB", "transmitter's Q rail above its I rail", &Impairments::tx_iq_gain_db},
    {"tx_iq_phase_deg", "deg", "transmitter's rails off 90 degrees", &Impairments::tx_iq_phase_deg},
    {"rx_iq_gain_db", "dB", "receiver's Q rail above its I rail", &Impairments::rx_iq_gain_db},
    {"rx_iq_phase_deg", "deg", "receiver's rails off 90 degrees", &Impairments::rx_iq_phase_deg},
    {"tx_dc_i", "full scale", "transmitter's DC offset, I (carrier leakage)", &Impairments::tx_dc_i},
    {"tx_dc_q", "full scale", "transmitter's DC offset, Q", &Impairments::tx_dc_q},
    {"rx_dc_i", "full scale", "receiver's DC offset, I", &Impairments::rx_dc_i},
    {"rx_dc_q", "full scale", "receiver's DC offset, Q", &Impairments::rx_dc_q},
};

namespace {

fs::path profile_folder() {
    Dl_info info;
    if (!dladdr(reinterpret_cast<void *>(&load_profile), &info))
        throw std::runtime_error("the driver cannot find its own folder");
    return fs::absolute(info.dli_fname).parent_path() / "profiles";
}

// Reads keys one by one and knows at the end which were never asked for.
class Reader {
public:
    Reader(YAML::Node node, std::string where) : node_(std::move(node)), where_(std::move(where)) {
        if (!node_.IsMap()) throw std::runtime_error(where_ + ": not a list of keys and values");
    }

    YAML::Node operator[](const std::string &key) {
        used_.insert(key);
        if (!node_[key]) throw std::runtime_error(where_ + ": key '" + key + "' is missing");
        return node_[key];
    }

    template <typename T> T get(const std::string &key) {
        try {
            return (*this)[key].template as<T>();
        } catch (const YAML::Exception &) {
            throw std::runtime_error(where_ + ": value of '" + key + "' cannot be read");
        }
    }

    bool has(const std::string &key) const { return bool(node_[key]); }

    void refuse_unknown() const {
        for (const auto &entry : node_)
            if (const auto key = entry.first.as<std::string>(); !used_.count(key))
                throw std::runtime_error(where_ + ": unknown key '" + key + "'");
    }

private:
    const YAML::Node node_;
    const std::string where_;
    std::set<std::string> used_;
};

std::vector<GainElement> read_gains(Reader &reader, const std::string &key) {
    const auto ranges = reader.get<std::map<std::string, std::vector<double>>>(key);
    std::vector<GainElement> gains;
    for (const auto &entry : reader[key]) { // in the order of the file, not of the alphabet
        const auto name = entry.first.as<std::string>();
        const auto &range = ranges.at(name);
        if (range.size() != 4 || range[0] > range[3] || range[3] > range[1])
            throw std::runtime_error("gain '" + name + "' of a profile: [minimum, maximum, step, initial] expected");
        gains.push_back({name, range[0], range[1], range[2], range[3]});
    }
    return gains;
}

std::pair<double, double> read_range(Reader &reader, const std::string &key) {
    const auto range = reader.get<std::vector<double>>(key);
    if (range.size() != 2 || range[0] > range[1])
        throw std::runtime_error("'" + key + "' of a profile: [minimum, maximum] expected");
    return {range[0], range[1]};
}

} // namespace

std::vector<std::string> profile_names() {
    std::vector<std::string> names;
    std::error_code nothing;
    for (const auto &entry : fs::directory_iterator(profile_folder(), nothing))
        if (entry.path().extension() == ".yaml") names.push_back(entry.path().stem());
    std::sort(names.begin(), names.end());
    return names;
}

Profile load_profile(const std::string &name_or_path) {
    const bool is_path = name_or_path.find('/') != std::string::npos;
    const fs::path file = is_path ? fs::path(name_or_path) : profile_folder() / (name_or_path + ".yaml");
    YAML::Node root;
    try {
        root = YAML::LoadFile(file);
    } catch (const YAML::BadFile &) {
        std::string known;
        for (const auto &name : profile_names()) known += (known.empty() ? "" : ", ") + name;
        throw std::runtime_error("no profile '" + name_or_path + "'; there are " + known);
    } catch (const YAML::Exception &error) {
        throw std::runtime_error(file.string() + ": " + error.what());
    }

    Reader reader(root, file.string());
    Profile profile;
    profile.name = file.stem();
    profile.hardware = reader.get<std::string>("hardware");
    profile.native_format = reader.get<std::string>("native_format");
    profile.bits = reader.get<int>("bits");
    profile.full_duplex = reader.get<bool>("full_duplex");
    profile.timestamps = reader.get<bool>("timestamps");
    profile.transfer_samples = reader.get<size_t>("transfer_samples");
    profile.mtu_samples = reader.get<size_t>("mtu_samples");
    profile.buffer_samples = reader.get<size_t>("buffer_samples");
    std::tie(profile.minimum_frequency_hz, profile.maximum_frequency_hz) = read_range(reader, "frequency_hz");
    std::tie(profile.minimum_rate_hz, profile.maximum_rate_hz) = read_range(reader, "rate_hz");
    profile.antennas_rx = reader.get<std::vector<std::string>>("antennas_rx");
    profile.antennas_tx = reader.get<std::vector<std::string>>("antennas_tx");
    profile.gains_rx = read_gains(reader, "gains_rx_db");
    profile.gains_tx = read_gains(reader, "gains_tx_db");
    profile.tx_full_scale_dbm = reader.get<double>("tx_full_scale_dbm");
    profile.rx_full_scale_dbm = reader.get<double>("rx_full_scale_dbm");
    profile.noise_figure_db = reader.get<double>("noise_figure_db");
    Reader spread(reader["spread"], file.string() + ": spread");
    for (const auto &key : impairment_keys)
        if (spread.has(key.name)) profile.spread.*key.value = spread.get<double>(key.name);
    spread.refuse_unknown();
    reader.refuse_unknown();

    const auto wrong = [&](const std::string &what) { throw std::runtime_error(file.string() + ": " + what); };
    if (profile.bits != 0 && (profile.bits < 2 || profile.bits > 16)) wrong("bits is 0 or 2...16");
    if (profile.minimum_rate_hz <= 0) wrong("rate_hz is above 0");
    if (profile.antennas_rx.empty() || profile.antennas_tx.empty()) wrong("a radio has antennas");
    if (!profile.transfer_samples || !profile.mtu_samples) wrong("transfer_samples and mtu_samples are above 0");
    if (profile.buffer_samples < std::max(profile.transfer_samples, profile.mtu_samples) || profile.buffer_samples > 1 << 21)
        wrong("buffer_samples holds at least one transfer, and at most 2097152");
    if (profile.native_format != "CS8" && profile.native_format != "CS16" && profile.native_format != "CF32")
        wrong("native_format is CS8, CS16 or CF32");
    return profile;
}

} // namespace lrisc
