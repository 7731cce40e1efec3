#include "teller.hpp"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmath>
#include <stdexcept>

namespace lrisc {
namespace {

constexpr auto longest_wait = std::chrono::milliseconds(50); // then "not yet": the one who asks sees that we live
constexpr size_t most_waiting = 256;
constexpr int64_t history_samples = 8192; // kept behind the slowest receiver: more than any filter reaches back

int64_t whole(Time index) { return int64_t(std::floor(index + 1e-4L)); }

} // namespace

Teller::Teller(Shared &shared, zmq::context_t &context, const std::string &endpoint)
    : shared_(shared), socket_(context, zmq::socket_type::router), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (wake_ < 0) throw std::runtime_error("no more file descriptors for a virtual radio");
    socket_.set(zmq::sockopt::linger, 500);
    socket_.set(zmq::sockopt::sndhwm, 16);
    socket_.set(zmq::sockopt::rcvhwm, 64);
    socket_.set(zmq::sockopt::maxmsgsize, int64_t(1) << 16);
    socket_.bind(endpoint);
    // Signals are the program's: none of them is handled by this thread.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Teller::~Teller() {
    stop_ = true;
    nudge();
    thread_.join();
    close(wake_);
}

void Teller::nudge() { (void)!eventfd_write(wake_, 1); }

void Teller::run() {
    while (!stop_) {
        zmq_pollitem_t items[] = {{socket_.handle(), 0, ZMQ_POLLIN, 0}, {nullptr, wake_, ZMQ_POLLIN, 0}};
        wait_for_any(items, 2, std::chrono::milliseconds(waiting_.empty() ? 1000 : 10));
        eventfd_t value;
        (void)!eventfd_read(wake_, &value);
        take();
        for (auto entry = waiting_.begin(); entry != waiting_.end();) {
            auto &question = entry->second;
            const auto told = answer(question.ask, question.come);
            if (!told) {
                ++entry;
                continue;
            }
            const auto bytes = write_told(*told);
            if (send(socket_, question.from.data(), question.from.size(), true)) send(socket_, bytes.data(), bytes.size());
            entry = waiting_.erase(entry);
        }
    }
}

void Teller::take() {
    zmq::message_t from, body;
    while (receive(socket_, from)) {
        size_t frames = 1; // all of a message come together
        for (; socket_.get(zmq::sockopt::rcvmore) && receive(socket_, body); ++frames) {}
        const auto ask = frames == 2 ? read_ask(body.data(), body.size()) : std::nullopt;
        if (!ask || (waiting_.size() >= most_waiting && !waiting_.count(ask->session))) {
            ++shared_.counters.malformed;
            continue;
        }
        waiting_.insert_or_assign(ask->session, Question{std::move(from), *ask, Clock::now()});
    }
}

std::optional<Told> Teller::answer(const Ask &ask, Clock::time_point come) {
    const std::lock_guard<std::mutex> guard(shared_.mutex);
    auto &sent = shared_.sent;
    Told told;
    told.head = make_tell(ask);
    told.head.session = shared_.session;
    told.head.sending = sent.sending();
    told.head.receiving = shared_.receiving;
    told.head.took_part = shared_.receiving || sent.end() > 0 || sent.sending();
    const auto known = shared_.readers.find(ask.session);
    switch (ask.kind) {
    case Kind::hello: {
        Time here = std::max(sent.floor(), shared_.receiving ? shared_.position : 0);
        if (sent.sending()) here = std::max(here, sent.end());
        if (known != shared_.readers.end()) here = known->second.position;
        else shared_.readers[ask.session] = {ask.serial, here, here, Clock::now(), Clock::now(), true};
        told.head.settled = index_at(here, ask.rate_hz);
        break;
    }
    case Kind::wake:
        shared_.rescan = true;
        told.head.settled = index_at(shared_.committed, ask.rate_hz);
        break;
    case Kind::bye:
        shared_.readers.erase(ask.session);
        break;
    case Kind::ask:
        return answer_ask(ask, std::move(told), come);
    }
    shared_.changed.notify_all();
    return told;
}

std::optional<Told> Teller::answer_ask(const Ask &ask, Told told, Clock::time_point come) {
    auto &sent = shared_.sent;
    const auto now = Clock::now();
    const auto &options = shared_.options;
    const Time from = Time(ask.index) / Time(ask.rate_hz);
    auto &reader = shared_.readers[ask.session];
    reader.serial = ask.serial;
    reader.gates = true;
    reader.asked = now;
    if (reader.position != from) {
        reader.position = from;
        reader.moved = now;
        shared_.changed.notify_all();
    }

    const Overlap overlap(shared_.tx_rate_hz, ask.rate_hz, shared_.tx_frequency_hz - ask.frequency_hz);
    const Time margin = Time(overlap.half) / Time(shared_.tx_rate_hz);
    int64_t until = ask.index + ask.count;
    if (options.pace == Pace::free) {
        const bool tired = now - std::max(shared_.written_at, reader.moved) > duration(options.idle_s);
        if (sent.sending() && tired && whole((sent.end() - margin) * Time(ask.rate_hz)) < ask.index + ask.need)
            shared_.underflow();
        if (sent.sending()) until = std::min(until, whole((sent.end() - margin) * Time(ask.rate_hz)));
        if (shared_.receiving && now - shared_.read_at < duration(options.patience_s))
            until = std::min(until, whole((shared_.position + shared_.window) * Time(ask.rate_hz)));
    }
    if (until < ask.index + std::max(ask.need, 1) && now - come < longest_wait) return {};

    told.head.sending = sent.sending();
    told.head.settled = std::max(until, ask.index);
    told.head.oldest = index_at(sent.oldest(), ask.rate_hz);
    if (until > ask.index) {
        const Time to = Time(until) / Time(ask.rate_hz);
        if (overlap.heard) told.pieces = sent.collect(from - margin, to + margin);
        sent.silence_until(to + margin);
        reader.told = to;
        Time slowest = from;
        for (const auto &[session, other] : shared_.readers)
            if (other.gates) slowest = std::min(slowest, other.position);
        sent.forget(slowest - Time(history_samples) / Time(shared_.tx_rate_hz));
        shared_.changed.notify_all();
    }
    return told;
}

} // namespace lrisc
