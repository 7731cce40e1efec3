#include "asker.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <thread>

namespace lrisc {
namespace {

using std::chrono::milliseconds;

constexpr auto scan_interval = milliseconds(100), again_after = milliseconds(250), look_after = milliseconds(50);
constexpr auto greeting_time = milliseconds(1000);
// How long a live process that says nothing (stopped, swapped out) is waited for.
constexpr auto patience_free = milliseconds(2000), patience_real = milliseconds(250);
// At pace=real a stretch of time is put together this much after it has passed: senders have written it by then.
constexpr double latency_s = 0.015;

} // namespace

Asker::Asker(Shared &shared, zmq::context_t &context, const Rendezvous &rendezvous)
    : shared_(shared), context_(context), rendezvous_(rendezvous) {}

void Asker::scan(const Tuning &) {
    scanned_ = Clock::now();
    const auto others = rendezvous_.others();
    for (auto peer = peers_.begin(); peer != peers_.end();) {
        const bool alive = std::find(others.begin(), others.end(), peer->first) != others.end();
        const bool finished = !peer->second.told || peer->second.told->head.settled <= index_;
        peer = !alive && finished ? peers_.erase(peer) : std::next(peer);
    }
    for (const auto &serial : others) {
        if (peers_.count(serial)) continue;
        Peer peer{zmq::socket_t(context_, zmq::socket_type::dealer), 0, {}, scanned_, {}, false};
        peer.socket.set(zmq::sockopt::linger, 100);
        peer.socket.set(zmq::sockopt::sndhwm, 4);
        peer.socket.set(zmq::sockopt::rcvhwm, 4);
        peer.socket.set(zmq::sockopt::reconnect_ivl, 10);
        peer.socket.connect(rendezvous_.endpoint(serial));
        peers_.emplace(serial, std::move(peer));
    }
}

void Asker::question(Peer &peer, Ask ask) {
    ask.id = peer.id = ++last_id_;
    ask.session = shared_.session;
    std::strncpy(ask.serial, rendezvous_.serial().c_str(), sizeof ask.serial - 1);
    peer.asked = Clock::now();
    send(peer.socket, &ask, sizeof ask);
}

void Asker::listen(Clock::duration longest) {
    std::vector<zmq_pollitem_t> items;
    for (auto &[serial, peer] : peers_) items.push_back({peer.socket.handle(), 0, ZMQ_POLLIN, 0});
    if (items.empty()) return;
    wait_for_any(items.data(), items.size(), std::chrono::ceil<milliseconds>(longest));
    zmq::message_t message;
    for (auto &[serial, peer] : peers_) {
        while (lrisc::receive(peer.socket, message)) {
            const bool single = !peer.socket.get(zmq::sockopt::rcvmore);
            auto told = single ? read_told(message.data(), message.size()) : std::nullopt;
            if (!told) {
                ++shared_.counters.malformed;
            } else if (peer.id && told->head.id == peer.id) {
                peer.id = 0;
                peer.told = std::move(told);
                peer.suspended = false;
                peer.waited_since = Clock::now();
            }
        }
    }
}

// Asks everybody the same thing and waits for the answers, but not for those who are dead or silent.
void Asker::question_all(Kind kind, double rate_hz) {
    Ask ask = make_ask(kind);
    ask.rate_hz = rate_hz;
    for (auto &[serial, peer] : peers_) {
        peer.told.reset();
        question(peer, ask);
    }
    const auto until = Clock::now() + greeting_time;
    const auto pending = [this](const auto &entry) { return entry.second.id && rendezvous_.alive(entry.first); };
    while (Clock::now() < until && std::any_of(peers_.begin(), peers_.end(), pending)) listen(milliseconds(20));
}

void Asker::start(const Tuning &tuning) {
    tuned_ = tuning;
    {
        const std::lock_guard<std::mutex> guard(shared_.mutex);
        const Time here = std::max(shared_.position, shared_.sent.floor());
        index_ = index_at(shared_.options.pace == Pace::real ? seconds(Clock::now()) : here, tuning.rate_hz);
        shared_.receiving = true;
        shared_.position = shared_.committed = Time(index_) / Time(tuning.rate_hz);
        shared_.window = Time(shared_.options.profile.buffer_samples) / Time(tuning.rate_hz);
        shared_.read_at = not_before_ = Clock::now();
        shared_.rescan = true;
    }
    scan(tuning);
    question_all(Kind::hello, tuning.rate_hz);
    if (shared_.options.pace == Pace::free)
        for (const auto &[serial, peer] : peers_)
            if (peer.told) index_ = std::max(index_, peer.told->head.settled);
    for (auto &[serial, peer] : peers_) peer.told.reset();
    const std::lock_guard<std::mutex> guard(shared_.mutex);
    shared_.position = Time(index_) / Time(tuning.rate_hz);
    shared_.committed = std::max(shared_.committed, shared_.position);
}

void Asker::stop() {
    for (auto &[serial, peer] : peers_) question(peer, make_ask(Kind::bye));
    peers_.clear();
    const std::lock_guard<std::mutex> guard(shared_.mutex);
    shared_.receiving = false;
}

Time Asker::wake(double rate_hz) {
    scan({});
    question_all(Kind::wake, rate_hz);
    Time latest = 0;
    const std::lock_guard<std::mutex> guard(shared_.mutex);
    for (const auto &[serial, peer] : peers_) {
        if (!peer.told || !peer.told->head.receiving) continue;
        const Time there = Time(peer.told->head.settled) / Time(rate_hz);
        latest = std::max(latest, there);
        shared_.readers.insert({peer.told->head.session, {serial, there, there, Clock::now(), Clock::now(), true}});
    }
    return latest;
}

void Asker::lose(int64_t index) {
    index_ = index;
    since_overflow_ = 0;
    for (auto &[serial, peer] : peers_) peer.told.reset();
    ++shared_.counters.overflows;
}

// peers=N: time stands still until N others have taken part.
bool Asker::enough_peers(const Tuning &tuning) {
    if (joined_ || shared_.options.peers == 0) return true;
    scan(tuning);
    question_all(Kind::hello, tuning.rate_hz);
    int busy = 0;
    for (auto &[serial, peer] : peers_) {
        if (!peer.told) continue;
        busy += peer.told->head.took_part;
        if (shared_.options.pace == Pace::free) index_ = std::max(index_, peer.told->head.settled);
        peer.told.reset();
    }
    joined_ = busy >= shared_.options.peers;
    return joined_;
}

// Waits until the clock allows the next `count` samples. False: not before the deadline.
bool Asker::wait_for_air(int64_t count, const Tuning &tuning, Clock::time_point deadline, bool &overflow) {
    auto due = not_before_;
    if (shared_.options.pace == Pace::real) {
        const Time passed = seconds(Clock::now()) - latency_s;
        const int64_t behind = index_at(passed, tuning.rate_hz) - index_ - count;
        if (behind > int64_t(shared_.options.profile.buffer_samples)) {
            lose(index_ + behind);
            overflow = true;
            return true;
        }
        due = Clock::now() + duration(double(Time(index_ + count) / Time(tuning.rate_hz) - passed));
    } else if (somebody_sends_) {
        return true; // as fast as the slowest
    }
    std::this_thread::sleep_until(std::min(due, deadline));
    return due <= deadline;
}

bool Asker::all_told(const Tuning &tuning, int64_t count, int64_t need) {
    const auto now = Clock::now();
    const auto patience = shared_.options.pace == Pace::real ? patience_real : patience_free;
    bool complete = true;
    for (auto &[serial, peer] : peers_) {
        if (peer.told && peer.told->head.settled >= index_ + need) continue;
        if (!peer.id) peer.waited_since = now;
        if (!peer.id || now - peer.asked > again_after) {
            peer.told.reset();
            Ask ask = make_ask(Kind::ask);
            ask.index = index_;
            ask.count = int32_t(count);
            ask.need = int32_t(need);
            ask.rate_hz = tuning.rate_hz;
            ask.frequency_hz = tuning.frequency_hz;
            question(peer, ask);
        }
        if (!peer.suspended && now - peer.waited_since > look_after &&
            (!rendezvous_.alive(serial) || now - peer.waited_since > patience)) {
            peer.suspended = true;
            ++shared_.counters.silenced;
        }
        complete = complete && peer.suspended;
    }
    return complete;
}

Outcome Asker::receive(std::vector<Sample> &block, bool whole, const Tuning &tuning, Clock::time_point deadline) {
    const auto count = int64_t(block.size()), need = whole ? count : 1;
    if (tuning.rate_hz != tuned_.rate_hz) index_ = index_at(Time(index_) / Time(tuned_.rate_hz), tuning.rate_hz);
    if (tuning.rate_hz != tuned_.rate_hz || tuning.frequency_hz != tuned_.frequency_hz)
        for (auto &[serial, peer] : peers_) peer.told.reset(), peer.id = 0;
    tuned_ = tuning;

    bool overflow = false, rescan = false;
    while (!enough_peers(tuning)) {
        if (Clock::now() >= deadline) return Outcome::timeout;
        std::this_thread::sleep_until(std::min(deadline, Clock::now() + milliseconds(10)));
    }
    {
        const std::lock_guard<std::mutex> guard(shared_.mutex);
        shared_.read_at = Clock::now();
        shared_.position = Time(index_) / Time(tuning.rate_hz);
        shared_.committed = Time(index_ + count) / Time(tuning.rate_hz);
        std::swap(rescan, shared_.rescan);
    }
    if (rescan || Clock::now() - scanned_ > scan_interval) scan(tuning);
    if (!wait_for_air(count, tuning, deadline, overflow)) return Outcome::timeout;
    if (overflow) return Outcome::overflow;
    listen(Clock::duration::zero()); // to those, too, who are not waited for
    while (!all_told(tuning, count, need)) {
        const auto left = deadline - Clock::now();
        if (left <= Clock::duration::zero()) return Outcome::timeout;
        listen(std::min<Clock::duration>(left, milliseconds(20)));
    }

    int64_t until = index_ + count, oldest = index_;
    somebody_sends_ = false;
    for (const auto &[serial, peer] : peers_) {
        if (!peer.told || peer.suspended) continue;
        until = std::min(until, peer.told->head.settled);
        somebody_sends_ = somebody_sends_ || peer.told->head.sending;
        if (shared_.options.pace == Pace::free) oldest = std::max(oldest, peer.told->head.oldest);
    }
    const int64_t every = shared_.overflow_every_samples;
    if (oldest == index_ && every > 0 && since_overflow_ >= every)
        oldest += int64_t(std::max<size_t>(shared_.options.profile.transfer_samples, 1024));
    if (oldest > index_) {
        lose(oldest);
        return Outcome::overflow;
    }

    block.assign(size_t(until - index_), Sample());
    for (const auto &[serial, peer] : peers_) {
        if (!peer.told || peer.suspended) continue;
        for (const auto &piece : peer.told->pieces) {
            const Overlap overlap(piece.about.rate_hz, tuning.rate_hz, piece.about.frequency_hz - tuning.frequency_hz);
            const double gain_db = piece.about.full_scale_dbm - shared_.path_loss_db - tuning.full_scale_dbm;
            if (overlap.heard)
                resampler_.add(piece.about, piece.samples.data(), overlap, float(std::pow(10, gain_db / 20)), index_, block);
        }
    }
    not_before_ = next_due(not_before_, double(block.size()), tuning.rate_hz);
    since_overflow_ += until - index_;
    index_ = until;
    const std::lock_guard<std::mutex> guard(shared_.mutex);
    shared_.position = Time(index_) / Time(tuning.rate_hz);
    return Outcome::received;
}

} // namespace lrisc
