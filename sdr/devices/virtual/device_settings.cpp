#include "device.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace lrisc {

using Guard = std::lock_guard<std::mutex>;

Device::Front &Device::front(int direction, size_t channel) {
    if (channel != 0 || (direction != SOAPY_SDR_RX && direction != SOAPY_SDR_TX))
        throw std::runtime_error("a virtual radio has one channel, number 0, in each direction");
    return direction == SOAPY_SDR_RX ? rx_ : tx_;
}

const Device::Front &Device::front(int direction, size_t channel) const {
    return const_cast<Device *>(this)->front(direction, channel);
}

void Device::tune_sender() {
    const Guard guard(shared_.mutex);
    if (shared_.tx_rate_hz != tx_.rate_hz * true_clock_) shared_.sent.stop(); // goes on at the new rate
    shared_.tx_rate_hz = tx_.rate_hz * true_clock_;
    shared_.tx_frequency_hz = tx_.frequency_hz * true_clock_;
}

Tuning Device::tuning() const {
    const Guard guard(settings_mutex_);
    return {rx_.rate_hz * true_clock_, rx_.frequency_hz * true_clock_, full_scale_dbm(SOAPY_SDR_RX)};
}

// ---------------------------------------------------------------- antennas

std::vector<std::string> Device::listAntennas(int direction, size_t channel) const { return front(direction, channel).antennas; }

void Device::setAntenna(int direction, size_t channel, const std::string &name) {
    auto &side = front(direction, channel);
    if (std::find(side.antennas.begin(), side.antennas.end(), name) == side.antennas.end())
        throw std::runtime_error("no antenna '" + name + "' on a radio of profile " + options_.profile.name);
    const Guard guard(settings_mutex_);
    side.antenna = name;
}

std::string Device::getAntenna(int direction, size_t channel) const {
    const Guard guard(settings_mutex_);
    return front(direction, channel).antenna;
}

// ---------------------------------------------------------------- gains and levels

double Device::full_scale_dbm(int direction) const {
    const auto &side = front(direction, 0);
    double below_maximum = 0;
    for (const auto &gain : side.elements) below_maximum += gain.maximum - side.gains_db.at(gain.name);
    if (direction == SOAPY_SDR_RX) return side.full_scale_dbm + below_maximum - side.gain_error_db;
    return side.full_scale_dbm - below_maximum + side.gain_error_db;
}

double Device::noise_dbm() const { return -174 + options_.truth.noise_figure_db + 10 * std::log10(rx_.rate_hz); }

const GainElement &Device::element(const Front &side, const std::string &name) const {
    for (const auto &gain : side.elements)
        if (gain.name == name) return gain;
    throw std::runtime_error("no gain '" + name + "' on a radio of profile " + options_.profile.name);
}

std::vector<std::string> Device::listGains(int direction, size_t channel) const {
    std::vector<std::string> names;
    for (const auto &gain : front(direction, channel).elements) names.push_back(gain.name);
    return names;
}

void Device::setGain(int direction, size_t channel, const std::string &name, double value) {
    auto &side = front(direction, channel);
    const auto &gain = element(side, name);
    value = std::min(std::max(value, gain.minimum), gain.maximum);
    if (gain.step > 0) value = gain.minimum + std::floor((value - gain.minimum) / gain.step + 1e-9) * gain.step;
    const Guard guard(settings_mutex_);
    side.gains_db[name] = value;
}

double Device::getGain(int direction, size_t channel, const std::string &name) const {
    const auto &side = front(direction, channel);
    const Guard guard(settings_mutex_);
    return side.gains_db.at(element(side, name).name);
}

SoapySDR::Range Device::getGainRange(int direction, size_t channel, const std::string &name) const {
    const auto &gain = element(front(direction, channel), name);
    return {gain.minimum, gain.maximum, gain.step};
}

// ---------------------------------------------------------------- frequencies

std::vector<std::string> Device::listFrequencies(int, size_t) const { return {"RF"}; }

SoapySDR::RangeList Device::getFrequencyRange(int direction, size_t channel, const std::string &name) const {
    front(direction, channel);
    if (name != "RF") throw std::runtime_error("no frequency '" + name + "' on a virtual radio, only RF");
    return {{options_.profile.minimum_frequency_hz, options_.profile.maximum_frequency_hz}};
}

void Device::setFrequency(int direction, size_t channel, const std::string &name, double frequency_hz, const SoapySDR::Kwargs &) {
    const auto range = getFrequencyRange(direction, channel, name).front();
    if (!(frequency_hz >= range.minimum() && frequency_hz <= range.maximum()))
        throw std::runtime_error("frequency " + std::to_string(frequency_hz) + " Hz is beyond a radio of profile " + options_.profile.name);
    const Guard guard(settings_mutex_);
    front(direction, channel).frequency_hz = frequency_hz;
    tune_sender();
}

double Device::getFrequency(int direction, size_t channel, const std::string &name) const {
    getFrequencyRange(direction, channel, name);
    const Guard guard(settings_mutex_);
    return front(direction, channel).frequency_hz;
}

// ---------------------------------------------------------------- rates and bandwidths

SoapySDR::RangeList Device::getSampleRateRange(int, size_t) const {
    return {{options_.profile.minimum_rate_hz, options_.profile.maximum_rate_hz}};
}

std::vector<double> Device::listSampleRates(int, size_t) const {
    std::vector<double> rates;
    for (double rate = 1e6; rate <= options_.profile.maximum_rate_hz; rate += rate < 10e6 ? 1e6 : 2e6)
        if (rate >= options_.profile.minimum_rate_hz) rates.push_back(rate);
    return rates;
}

void Device::setSampleRate(int direction, size_t channel, double rate_hz) {
    if (!(rate_hz >= options_.profile.minimum_rate_hz && rate_hz <= options_.profile.maximum_rate_hz))
        throw std::runtime_error("rate " + std::to_string(rate_hz) + " Hz is beyond a radio of profile " + options_.profile.name);
    const Guard guard(settings_mutex_);
    auto &side = front(direction, channel);
    side.rate_hz = side.bandwidth_hz = rate_hz;
    tune_sender();
}

double Device::getSampleRate(int direction, size_t channel) const {
    const Guard guard(settings_mutex_);
    return front(direction, channel).rate_hz;
}

SoapySDR::RangeList Device::getBandwidthRange(int direction, size_t channel) const { return getSampleRateRange(direction, channel); }

// Remembered, not applied: the band of a virtual radio is its sample rate.
void Device::setBandwidth(int direction, size_t channel, double bandwidth_hz) {
    const Guard guard(settings_mutex_);
    front(direction, channel).bandwidth_hz = bandwidth_hz;
}

double Device::getBandwidth(int direction, size_t channel) const {
    const Guard guard(settings_mutex_);
    return front(direction, channel).bandwidth_hz;
}

} // namespace lrisc
