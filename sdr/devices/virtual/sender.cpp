#include "sender.hpp"

#include <algorithm>

namespace lrisc {
namespace {

using std::chrono::milliseconds;

constexpr size_t most_kept = size_t(1) << 22; // samples: 32 MiB
constexpr Time kept_s = 3;                    // at pace=real, for receivers that lag behind
constexpr double lead_s = 0.002;              // from program to antenna, at pace=real
constexpr auto look_interval = milliseconds(100);

} // namespace

Sender::Sender(Shared &shared, Teller &teller, const Rendezvous &rendezvous)
    : shared_(shared), teller_(teller), rendezvous_(rendezvous) {}

Time Sender::now_or_floor() const { // of a transmission that begins
    const Time here = std::max(shared_.sent.floor(), shared_.receiving ? shared_.position : 0);
    return shared_.options.pace == Pace::real ? std::max(here, seconds(Clock::now()) + lead_s) : here;
}

void Sender::start(Time earliest, bool at_once) {
    const std::lock_guard<std::mutex> guard(shared_.mutex);
    shared_.sent.silence_until(earliest);
    shared_.written_at = not_before_ = Clock::now();
    if (at_once && shared_.options.pace == Pace::free) shared_.sent.begin(now_or_floor(), shared_.tx_rate_hz);
}

// Forgets those who died, and no longer waits for those who do not read.
void Sender::look_after_readers() {
    const auto now = Clock::now();
    if (now - looked_ < look_interval) return;
    looked_ = now;
    for (auto reader = shared_.readers.begin(); reader != shared_.readers.end();) {
        if (now - reader->second.asked > duration(shared_.options.patience_s)) reader->second.gates = false;
        reader = rendezvous_.alive(reader->second.serial) ? std::next(reader) : shared_.readers.erase(reader);
    }
}

bool Sender::has_room(size_t count) {
    const auto &sent = shared_.sent;
    const Time buffer = Time(shared_.options.profile.buffer_samples) / Time(shared_.tx_rate_hz);
    const Time more = Time(count) / Time(shared_.tx_rate_hz);
    look_after_readers();
    if (!joined_) joined_ = int(shared_.readers.size()) >= shared_.options.peers;
    if (!joined_) return false;
    if (shared_.options.pace == Pace::real) return !sent.sending() || sent.end() + more <= seconds(Clock::now()) + buffer;

    bool anyone = false;
    Time slowest = 0;
    for (const auto &[session, reader] : shared_.readers) {
        if (!reader.gates) continue;
        slowest = anyone ? std::min(slowest, reader.position) : reader.position;
        anyone = true;
    }
    if (!anyone) return Clock::now() >= not_before_; // nobody listens: no faster than the clock
    return !sent.sending() || sent.end() + more <= slowest + buffer;
}

bool Sender::wait_for_room(size_t count, Clock::time_point deadline) {
    std::unique_lock<std::mutex> lock(shared_.mutex);
    while (!has_room(count)) {
        const auto now = Clock::now();
        if (now >= deadline) return false;
        shared_.changed.wait_until(lock, std::min(deadline, now + milliseconds(5)));
    }
    return true;
}

bool Sender::push(std::vector<Sample> samples, double full_scale_dbm, Time at) {
    {
        const std::lock_guard<std::mutex> guard(shared_.mutex);
        auto &sent = shared_.sent;
        const auto now = Clock::now();
        const bool real = shared_.options.pace == Pace::real;
        const auto &options = shared_.options;
        if (sent.sending() && (sent.floor() > sent.end() || (real && sent.end() < seconds(now)))) shared_.underflow();
        if (sent.sending() && shared_.underflow_every_samples > 0 && since_underflow_ >= shared_.underflow_every_samples) {
            shared_.underflow();
            since_underflow_ = 0;
            sent.silence_until(sent.floor() + Time(std::max<size_t>(options.profile.transfer_samples, 1024)) / shared_.tx_rate_hz);
        }
        if (!sent.sending()) {
            const Time earliest = now_or_floor();
            if (at >= 0 && at < earliest - 1e-9L) return false;
            sent.begin(std::max(earliest, at), shared_.tx_rate_hz);
        }
        since_underflow_ += int64_t(samples.size());
        not_before_ = next_due(not_before_, double(samples.size()), shared_.tx_rate_hz);
        sent.append(std::move(samples), shared_.tx_frequency_hz, full_scale_dbm);
        shared_.written_at = now;
        if (real) sent.forget(seconds(now) - kept_s);
        else if (shared_.readers.empty()) sent.forget(sent.end());
        while (sent.kept() > most_kept) sent.forget_oldest();
    }
    teller_.nudge();
    return true;
}

void Sender::end_burst() {
    {
        const std::lock_guard<std::mutex> guard(shared_.mutex);
        if (shared_.sent.sending()) shared_.burst_ends.push_back(shared_.sent.end());
        shared_.sent.stop();
    }
    teller_.nudge();
}

void Sender::stop(bool drain) {
    std::unique_lock<std::mutex> lock(shared_.mutex);
    auto &sent = shared_.sent;
    const bool real = shared_.options.pace == Pace::real;
    if (real && !drain) sent.cut(seconds(Clock::now()));
    const Time end = sent.end();
    sent.stop();
    teller_.nudge();
    for (; !shared_.is_out(end); look_after_readers()) shared_.changed.wait_for(lock, milliseconds(5));
}

} // namespace lrisc
