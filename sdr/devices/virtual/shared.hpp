// What the threads of one device share: the one that tells others (teller.hpp) and those of the program.
#pragma once

#include <SoapySDR/Errors.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>

#include "options.hpp"
#include "transmission.hpp"

namespace lrisc {

using Clock = std::chrono::steady_clock; // the kernel's, the same in every process: the air's time at pace=real

inline Time seconds(Clock::time_point point) { return std::chrono::duration<Time>(point.time_since_epoch()).count(); }
inline Clock::duration duration(double seconds) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// When the next samples are due, for a device that has nobody to wait for: `last` is when these were. Small delays are
// made up for; time that passed faster than the clock, in lock-step with others, does not have to be waited for.
inline Clock::time_point next_due(Clock::time_point last, double samples, double rate_hz) {
    const auto now = Clock::now();
    return std::clamp(last, now - std::chrono::milliseconds(50), now) + duration(samples / rate_hz);
}

// Someone who receives, as seen by a sender.
struct Reader {
    std::string serial;
    Time position, told;            // asks from here on; was told up to there
    Clock::time_point moved, asked; // first asked from there; last sign of life
    bool gates;                     // holds up this sender: false once it has not read for too long
};

struct Event { // for readStreamStatus
    int code, flags;
    Time time;
};

struct Counters {
    std::atomic<uint64_t> malformed{0}, silenced{0}, overflows{0}, underflows{0}, tx_clipped{0}, rx_clipped{0};
};

struct Shared {
    explicit Shared(const Options &chosen)
        : options(chosen), session(mix(uint64_t(Clock::now().time_since_epoch().count()), chosen.serial)), path_loss_db(chosen.path_loss_db), overflow_every_samples(chosen.overflow_every_samples),
          underflow_every_samples(chosen.underflow_every_samples), unplug_after_samples(chosen.unplug_after_samples) {}

    const Options options;
    const uint64_t session; // tells a device from the one that had its serial number before
    std::atomic<double> path_loss_db; // these may be changed at any time
    std::atomic<int64_t> overflow_every_samples, underflow_every_samples, unplug_after_samples;
    Counters counters;

    std::mutex mutex; // of all below
    std::condition_variable changed;

    Transmission sent;
    double tx_rate_hz = 1, tx_frequency_hz = 0; // true
    Clock::time_point written_at;
    std::map<uint64_t, Reader> readers; // by session
    std::deque<Event> events;
    std::deque<Time> burst_ends; // not reported yet

    bool receiving = false;
    Time position = 0, committed = 0; // received up to here; may be up to there before any newcomer is noticed
    Time window = 0;                  // how far others may run ahead of this receiver
    Clock::time_point read_at;
    bool rescan = true;

    void report(int code, int flags, Time time) {
        events.push_back({code, flags, time});
        if (events.size() > 256) events.pop_front(); // nobody looks at them
        changed.notify_all();
    }

    void underflow() {
        ++counters.underflows;
        sent.stop();
        report(SOAPY_SDR_UNDERFLOW, 0, sent.end());
    }

    // Whether everything before `end` has left this device: by the clock, or because all who listen have it.
    bool is_out(Time end) const {
        if (options.pace == Pace::real) return seconds(Clock::now()) >= end;
        return std::all_of(readers.begin(), readers.end(), [end](const auto &entry) {
            return !entry.second.gates || entry.second.told >= end;
        });
    }
};

} // namespace lrisc
