// The receiving half of a device: asks every other one what it sends and adds that up.
#pragma once

#include "rendezvous.hpp"
#include "resample.hpp"
#include "shared.hpp"
#include "sockets.hpp"

namespace lrisc {

struct Tuning { // true rate and frequency, and what fills the ADC at the present gain
    double rate_hz, frequency_hz, full_scale_dbm;
};

enum class Outcome { received, timeout, overflow };

class Asker {
public:
    Asker(Shared &shared, zmq::context_t &context, const Rendezvous &rendezvous);

    // Joins the others where they are in time.
    void start(const Tuning &tuning);
    void stop();

    // The next samples, without noise: all of `block`, or as many as there are now if `whole` is false.
    // On a time-out nothing is lost; after an overflow `index` is where it goes on.
    Outcome receive(std::vector<Sample> &block, bool whole, const Tuning &tuning, Clock::time_point deadline);
    int64_t index() const { return index_; } // of the sample after the last one received

    // Tells everybody that this device is about to send. Returns the time at which all can hear it.
    Time wake(double rate_hz);

private:
    struct Peer {
        zmq::socket_t socket;
        uint64_t id = 0; // of the question that is on its way; 0: none
        Clock::time_point asked, waited_since;
        std::optional<Told> told;
        bool suspended = false; // alive, but has not answered for long
    };

    void scan(const Tuning &tuning);
    void question(Peer &peer, Ask ask);
    void listen(Clock::duration longest);
    void question_all(Kind kind, double rate_hz);
    bool enough_peers(const Tuning &tuning);
    bool wait_for_air(int64_t count, const Tuning &tuning, Clock::time_point deadline, bool &overflow);
    bool all_told(const Tuning &tuning, int64_t count, int64_t need);
    void lose(int64_t index);

    Shared &shared_;
    zmq::context_t &context_;
    const Rendezvous &rendezvous_;
    Resampler resampler_;
    std::map<std::string, Peer> peers_; // by serial
    Tuning tuned_{};
    int64_t index_ = 0, since_overflow_ = 0;
    uint64_t last_id_ = 0;
    bool joined_ = false, somebody_sends_ = false;
    Clock::time_point scanned_, not_before_;
};

} // namespace lrisc
