#include "device.hpp"

#include <SoapySDR/Errors.hpp>
#include <SoapySDR/Formats.hpp>
#include <SoapySDR/Logger.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "frontend.hpp"

namespace lrisc {
namespace {

constexpr size_t largest_block = 16384; // of radios without fixed transfers
constexpr double longest_block_s = 0.005;

// Streams have no state of their own: the pointer only says which of the two it is.
char stream_names[2];
SoapySDR::Stream *to_stream(int direction) {
    return reinterpret_cast<SoapySDR::Stream *>(&stream_names[direction == SOAPY_SDR_RX]);
}
int direction_of(SoapySDR::Stream *stream) {
    if (stream == to_stream(SOAPY_SDR_RX)) return SOAPY_SDR_RX;
    if (stream == to_stream(SOAPY_SDR_TX)) return SOAPY_SDR_TX;
    throw std::runtime_error("not a stream of a virtual radio");
}

template <typename Number> void from_integers(const void *from, Sample *to, size_t count) {
    constexpr float scale = float(1 << (8 * sizeof(Number) - 1));
    const auto *values = static_cast<const Number *>(from);
    for (size_t at = 0; at < count; ++at) to[at] = {values[2 * at] / scale, values[2 * at + 1] / scale};
}

template <typename Number> void to_integers(const Sample *from, void *to, size_t count) {
    constexpr float scale = float(1 << (8 * sizeof(Number) - 1));
    auto *values = static_cast<Number *>(to);
    const auto round = [](float value) { return Number(std::rint(std::min(std::max(value * scale, -scale), scale - 1))); };
    for (size_t at = 0; at < count; ++at) values[2 * at] = round(from[at].real()), values[2 * at + 1] = round(from[at].imag());
}

void read_samples(const std::string &format, const void *from, Sample *to, size_t count) {
    if (format == SOAPY_SDR_CS8) from_integers<int8_t>(from, to, count);
    else if (format == SOAPY_SDR_CS16) from_integers<int16_t>(from, to, count);
    else std::memcpy(static_cast<void *>(to), from, count * sizeof(Sample));
}

void write_samples(const std::string &format, const Sample *from, void *to, size_t count) {
    if (format == SOAPY_SDR_CS8) to_integers<int8_t>(from, to, count);
    else if (format == SOAPY_SDR_CS16) to_integers<int16_t>(from, to, count);
    else std::memcpy(to, from, count * sizeof(Sample));
}

Clock::time_point deadline_after(long timeout_us) { return Clock::now() + std::chrono::microseconds(std::max(timeout_us, 0L)); }

} // namespace

std::vector<std::string> Device::getStreamFormats(int, size_t) const {
    return {SOAPY_SDR_CF32, SOAPY_SDR_CS16, SOAPY_SDR_CS8};
}

std::string Device::getNativeStreamFormat(int, size_t, double &full_scale) const {
    const auto &format = options_.profile.native_format;
    full_scale = format == SOAPY_SDR_CS8 ? 128 : format == SOAPY_SDR_CS16 ? 32768 : 1;
    return format;
}

SoapySDR::Stream *Device::setupStream(int direction, const std::string &format, const std::vector<size_t> &channels,
                                      const SoapySDR::Kwargs &arguments) {
    if (channels.size() > 1) throw std::runtime_error("a virtual radio has one channel in each direction");
    auto &side = front(direction, channels.empty() ? 0 : channels.front());
    const auto formats = getStreamFormats(direction, 0);
    if (std::find(formats.begin(), formats.end(), format) == formats.end())
        throw std::runtime_error("no stream format " + format + " on a virtual radio: CF32, CS16, CS8");
    for (const auto &[key, value] : arguments) throw std::runtime_error("unknown stream argument '" + key + "' of the virtual radio");
    if (side.open) throw std::runtime_error("this stream of radio " + options_.serial + " is open already");
    side.open = true;
    side.format = format;
    return to_stream(direction);
}

void Device::closeStream(SoapySDR::Stream *stream) {
    deactivateStream(stream, 0, 0);
    front(direction_of(stream), 0).open = false;
}

size_t Device::getStreamMTU(SoapySDR::Stream *) const { return options_.profile.mtu_samples; }

int Device::activateStream(SoapySDR::Stream *stream, int flags, long long, size_t count) {
    const int direction = direction_of(stream);
    auto &side = front(direction, 0), &other = direction == SOAPY_SDR_RX ? tx_ : rx_;
    if (flags || count) return SOAPY_SDR_NOT_SUPPORTED;
    if (side.active) return 0;
    if (other.active && !options_.profile.full_duplex) {
        SoapySDR::logf(SOAPY_SDR_ERROR, "radio %s is half duplex: it cannot receive and transmit at once", options_.serial.c_str());
        return SOAPY_SDR_STREAM_ERROR;
    }
    if (direction == SOAPY_SDR_RX) {
        asker_.start(tuning());
        received_.clear();
        received_used_ = 0;
    } else {
        staged_.clear();
        late_burst_ = false;
        // A radio without bursts runs its DAC from the start; one with them begins with the first sample.
        sender_.start(Asker(shared_, context_, rendezvous_).wake(tuning().rate_hz), options_.profile.transfer_samples > 1);
    }
    side.active = true;
    return 0;
}

int Device::deactivateStream(SoapySDR::Stream *stream, int flags, long long) {
    const int direction = direction_of(stream);
    auto &side = front(direction, 0);
    if (flags) return SOAPY_SDR_NOT_SUPPORTED;
    if (!side.active) return 0;
    side.active = false;
    if (direction == SOAPY_SDR_RX) asker_.stop();
    else sender_.stop(options_.profile.timestamps || options_.pace == Pace::free);
    return 0;
}

bool Device::unplugged() const {
    const int64_t after = shared_.unplug_after_samples;
    return after > 0 && passed_samples_ >= after;
}

// ---------------------------------------------------------------- receiving

bool Device::fill(std::vector<Sample> &block, Outcome &outcome, Clock::time_point deadline) {
    const auto &profile = options_.profile;
    const auto &truth = options_.truth;
    const Tuning now = tuning();
    const bool whole = profile.transfer_samples > 1;
    const auto longest = std::min(largest_block, std::max<size_t>(256, size_t(now.rate_hz * longest_block_s)));
    block.resize(whole ? profile.transfer_samples : longest);
    outcome = asker_.receive(block, whole, now, deadline);
    if (outcome != Outcome::received) return false;
    received_index_ = asker_.index() - int64_t(block.size());

    double noise_dbfs;
    {
        const std::lock_guard<std::mutex> guard(settings_mutex_);
        noise_dbfs = noise_dbm() - now.full_scale_dbm;
    }
    add_noise(block, std::pow(10, noise_dbfs / 10), noise_seed_, received_index_);
    unbalance(block, truth.rx_iq_gain_db, truth.rx_iq_phase_deg);
    for (auto &sample : block) sample += Sample(float(truth.rx_dc_i), float(truth.rx_dc_q));
    shared_.counters.rx_clipped += quantise(block, profile.bits);
    return true;
}

int Device::readStream(SoapySDR::Stream *stream, void *const *buffers, size_t count, int &flags, long long &time_ns, long timeout_us) {
    const auto deadline = deadline_after(timeout_us);
    flags = 0;
    if (direction_of(stream) != SOAPY_SDR_RX) return SOAPY_SDR_NOT_SUPPORTED;
    if (!rx_.active) {
        std::this_thread::sleep_until(deadline);
        return SOAPY_SDR_TIMEOUT;
    }
    if (unplugged()) return SOAPY_SDR_STREAM_ERROR;
    if (received_used_ == received_.size()) {
        std::vector<Sample> block;
        Outcome outcome;
        if (!fill(block, outcome, deadline)) return outcome == Outcome::timeout ? SOAPY_SDR_TIMEOUT : SOAPY_SDR_OVERFLOW;
        received_ = std::move(block);
        received_used_ = 0;
    }
    const size_t given = std::min(count, received_.size() - received_used_);
    if (options_.profile.timestamps) {
        flags = SOAPY_SDR_HAS_TIME;
        time_ns = to_device(Time(received_index_ + int64_t(received_used_)) / Time(tuning().rate_hz));
    }
    write_samples(rx_.format, received_.data() + received_used_, buffers[0], given);
    received_used_ += given;
    passed_samples_ += int64_t(given);
    return int(given);
}

// ---------------------------------------------------------------- transmitting

int Device::transmit(std::vector<Sample> samples, Time at, Clock::time_point deadline) {
    const auto &truth = options_.truth;
    if (!sender_.wait_for_room(samples.size(), deadline)) return SOAPY_SDR_TIMEOUT;
    const auto count = int(samples.size());
    shared_.counters.tx_clipped += quantise(samples, options_.profile.bits);
    unbalance(samples, truth.tx_iq_gain_db, truth.tx_iq_phase_deg);
    for (auto &sample : samples) sample += Sample(float(truth.tx_dc_i), float(truth.tx_dc_q));
    double level_dbm;
    {
        const std::lock_guard<std::mutex> guard(settings_mutex_);
        level_dbm = full_scale_dbm(SOAPY_SDR_TX);
    }
    passed_samples_ += count;
    late_burst_ = !sender_.push(std::move(samples), level_dbm, at);
    return count;
}

int Device::writeStream(SoapySDR::Stream *stream, const void *const *buffers, size_t count, int &flags, long long time_ns, long timeout_us) {
    const auto deadline = deadline_after(timeout_us);
    if (direction_of(stream) != SOAPY_SDR_TX) return SOAPY_SDR_NOT_SUPPORTED;
    if (!tx_.active) {
        std::this_thread::sleep_until(deadline);
        return SOAPY_SDR_TIMEOUT;
    }
    if (unplugged()) return SOAPY_SDR_STREAM_ERROR;
    const size_t transfer = options_.profile.transfer_samples;
    if (transfer > 1) { // fills transfers; only whole ones go out, and there are neither bursts nor times
        if (staged_.size() == transfer) {
            if (transmit(staged_, -1, deadline) < 0) return SOAPY_SDR_TIMEOUT;
            staged_.clear();
        }
        const size_t taken = std::min(count, transfer - staged_.size());
        staged_.resize(staged_.size() + taken);
        read_samples(tx_.format, buffers[0], staged_.data() + staged_.size() - taken, taken);
        if (staged_.size() == transfer && transmit(staged_, -1, Clock::now()) >= 0) staged_.clear();
        return int(taken);
    }

    const bool timed = flags & SOAPY_SDR_HAS_TIME;
    size_t taken = std::min(count, largest_block);
    if (timed && !late_burst_) {
        const std::lock_guard<std::mutex> guard(shared_.mutex);
        if (shared_.sent.sending()) shared_.sent.stop(); // a time in the middle begins the next burst
    }
    if (!late_burst_ && taken) {
        std::vector<Sample> samples(taken);
        read_samples(tx_.format, buffers[0], samples.data(), taken);
        const double rate = getSampleRate(SOAPY_SDR_TX, 0) * true_clock_;
        const Time at = timed ? Time(std::llround(to_air(time_ns) * Time(rate))) / Time(rate) : -1;
        const int done = transmit(std::move(samples), at, deadline);
        if (done < 0) return done;
        if (late_burst_) {
            const std::lock_guard<std::mutex> guard(shared_.mutex);
            shared_.report(SOAPY_SDR_TIME_ERROR, 0, to_air(time_ns));
        }
    }
    if ((flags & SOAPY_SDR_END_BURST) && taken == count) {
        if (!late_burst_) sender_.end_burst();
        late_burst_ = false;
    }
    return int(taken);
}

int Device::readStreamStatus(SoapySDR::Stream *stream, size_t &channels, int &flags, long long &time_ns, long timeout_us) {
    if (direction_of(stream) != SOAPY_SDR_TX) return SOAPY_SDR_NOT_SUPPORTED;
    channels = 1;
    flags = 0;
    const auto deadline = deadline_after(timeout_us);
    std::unique_lock<std::mutex> lock(shared_.mutex);
    for (;;) {
        auto &ends = shared_.burst_ends;
        for (; !ends.empty() && shared_.is_out(ends.front()); ends.pop_front())
            shared_.report(0, SOAPY_SDR_END_BURST, ends.front());
        if (!shared_.events.empty()) break;
        if (Clock::now() >= deadline) return SOAPY_SDR_TIMEOUT;
        shared_.changed.wait_until(lock, std::min(deadline, Clock::now() + std::chrono::milliseconds(5)));
    }
    const Event event = shared_.events.front();
    shared_.events.pop_front();
    flags = event.flags;
    if (options_.profile.timestamps) {
        flags |= SOAPY_SDR_HAS_TIME;
        time_ns = to_device(event.time);
    }
    return event.code;
}

} // namespace lrisc
