// The sending half of a device: when there is room for more samples, and where in time they go.
#pragma once

#include "rendezvous.hpp"
#include "shared.hpp"
#include "teller.hpp"

namespace lrisc {

class Sender {
public:
    Sender(Shared &shared, Teller &teller, const Rendezvous &rendezvous);

    // The transmitter runs from now on, and nothing goes out before `earliest`.
    void start(Time earliest, bool at_once);
    // Waits until `count` samples more may go on their way: at pace=real until the clock has come close enough, at
    // pace=free until all who listen have. False: not before the deadline.
    bool wait_for_room(size_t count, Clock::time_point deadline);
    // `at`, if it is not negative: when the first of them is sent. False: that is over.
    bool push(std::vector<Sample> samples, double full_scale_dbm, Time at);
    void end_burst();
    // Ends the transmission; with `drain` all that was pushed still goes out, else what has not by now is lost.
    void stop(bool drain);

private:
    bool has_room(size_t count);
    void look_after_readers();
    Time now_or_floor() const;

    Shared &shared_;
    Teller &teller_;
    const Rendezvous &rendezvous_;
    bool joined_ = false;
    Clock::time_point not_before_, looked_;
    int64_t since_underflow_ = 0;
};

} // namespace lrisc
