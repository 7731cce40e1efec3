// The thread of a device that answers others: what it sends, and how far they may go.
#pragma once

#include <thread>

#include "resample.hpp"
#include "shared.hpp"
#include "sockets.hpp"

namespace lrisc {

class Teller {
public:
    Teller(Shared &shared, zmq::context_t &context, const std::string &endpoint);
    ~Teller();
    void nudge(); // there is something new to tell

private:
    struct Question {
        zmq::message_t from;
        Ask ask;
        Clock::time_point come;
    };

    void run();
    void take();
    std::optional<Told> answer(const Ask &ask, Clock::time_point come);
    std::optional<Told> answer_ask(const Ask &ask, Told told, Clock::time_point come);

    Shared &shared_;
    zmq::socket_t socket_;
    const int wake_;
    std::atomic<bool> stop_{false};
    std::map<uint64_t, Question> waiting_; // by session: one question each
    std::thread thread_;                   // last: it uses all of them
};

} // namespace lrisc
