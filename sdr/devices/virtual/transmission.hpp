// What one device has sent and may still be asked for. No locks, no sockets: the one who calls sees to that.
#pragma once

#include <deque>

#include "message.hpp"

namespace lrisc {

// First index at or after `time`. The tolerance is that of the arithmetic: a time that came from an index is its own.
int64_t index_at(Time time, double rate_hz);
// Index of another clock, as far as its fraction matters.
inline Time convert(int64_t index, double from_hz, double to_hz) { return Time(index) * (Time(to_hz) / Time(from_hz)); }

class Transmission {
public:
    bool sending() const { return sending_; }
    Time floor() const { return floor_; }    // nothing may be sent before: others were told that nothing is there
    Time oldest() const { return oldest_; }  // all before is forgotten
    Time end() const { return Time(next_) / Time(rate_hz_); } // of the last sample so far

    void silence_until(Time time);
    // Starts sending, at the first sample that is neither before `earliest` nor before the floor.
    void begin(Time earliest, double rate_hz);
    void append(std::vector<Sample> samples, double frequency_hz, double full_scale_dbm);
    void stop();
    void cut(Time after);    // what was to be sent later is not
    void forget(Time before);
    void forget_oldest();

    // Everything in [from, to), pieces of one kind joined.
    std::vector<Told::Piece> collect(Time from, Time to) const;
    size_t kept() const { return kept_; } // samples

private:
    std::deque<Told::Piece> pieces_;
    size_t kept_ = 0;
    bool sending_ = false;
    int64_t next_ = 0;
    double rate_hz_ = 1;
    Time floor_ = 0, oldest_ = 0;
};

} // namespace lrisc
