// Sockets that signals do not disturb: Ctrl-C ends a program in its own way, not in the middle of a message.
#pragma once

#include <zmq.hpp>

#include <chrono>

namespace lrisc {

inline void wait_for_any(zmq_pollitem_t *items, size_t count, std::chrono::milliseconds longest) {
    (void)zmq_poll(items, int(count), long(longest.count())); // interrupted is as good as timed out
}

// False: there is nothing (yet).
inline bool receive(zmq::socket_t &socket, zmq::message_t &message) {
    return zmq_msg_recv(message.handle(), socket.handle(), ZMQ_DONTWAIT) >= 0;
}

// What cannot be sent at once is not sent: whoever misses it asks again.
inline bool send(zmq::socket_t &socket, const void *data, size_t size, bool more = false) {
    return zmq_send(socket.handle(), data, size, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)) >= 0;
}

} // namespace lrisc
