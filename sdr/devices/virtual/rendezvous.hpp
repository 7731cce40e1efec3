// Where the devices of one air find each other: a folder with a socket and a locked file for each of them.
//
// The lock is the kernel's: it falls the moment that its process ends, kill -9 included. So nobody has to say
// goodbye, a dead device is told from a slow one, and its serial number is free again at once.
#pragma once

#include <string>
#include <vector>

namespace lrisc {

class Rendezvous {
public:
    // Throws std::runtime_error if `serial` is in use on this air, or a name or the folder will not do.
    Rendezvous(const std::string &air, const std::string &serial, const std::string &pace);
    ~Rendezvous();
    Rendezvous(const Rendezvous &) = delete;
    Rendezvous &operator=(const Rendezvous &) = delete;

    const std::string &serial() const { return serial_; }
    std::string endpoint(const std::string &serial) const;
    std::vector<std::string> others() const; // the live ones
    bool alive(const std::string &serial) const;

private:
    std::string lock_file(const std::string &serial) const;

    std::string folder_, serial_;
    int lock_ = -1;
};

// The first of PREFIX-0, PREFIX-1, ... that nobody uses on this air.
std::string free_serial(const std::string &air, const std::string &prefix);

} // namespace lrisc
