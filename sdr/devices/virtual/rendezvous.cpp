#include "rendezvous.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <stdexcept>

namespace fs = std::filesystem;

namespace lrisc {
namespace {

// Locks of fcntl belong to the process, and fall when it closes *any* descriptor of the file: files that this
// process has locked are never opened a second time.
std::mutex own_mutex;
std::map<std::string, std::string> own_files; // with the pace of each

bool is_own(const std::string &file) {
    const std::lock_guard<std::mutex> guard(own_mutex);
    return own_files.count(file) > 0;
}

struct flock whole_file() {
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    return lock;
}

bool is_locked(const std::string &file) {
    if (is_own(file)) return true;
    const int descriptor = open(file.c_str(), O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return false;
    struct flock lock = whole_file();
    const bool locked = fcntl(descriptor, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    close(descriptor);
    return locked;
}

void check_name(const std::string &what, const std::string &name) {
    const bool good = !name.empty() && name.size() <= 39 && name[0] != '.' &&
                      name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
                          std::string::npos;
    if (!good) throw std::runtime_error(what + " '" + name + "': 1...39 letters, digits, '-', '_' or '.' expected");
}

// Only this user can reach it: whoever can write here can put anything on the air. Not $TMPDIR, in which two processes
// of a user may differ.
std::string air_folder(const std::string &air) {
    check_name("air", air);
    const char *chosen = std::getenv("LRISC_AIR_DIR"), *session = std::getenv("XDG_RUNTIME_DIR");
    std::string root = chosen && *chosen      ? std::string(chosen)
                       : session && *session ? std::string(session) + "/lrisc-air"
                                             : P_tmpdir "/lrisc-air-" + std::to_string(geteuid());
    for (const std::string &folder : {root, root + "/" + air}) {
        struct stat found;
        if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
            throw std::runtime_error("cannot make " + folder + ": " + std::strerror(errno));
        if (lstat(folder.c_str(), &found) != 0 || !S_ISDIR(found.st_mode) || found.st_uid != geteuid())
            throw std::runtime_error(folder + " is not a folder of this user; set LRISC_AIR_DIR to another");
    }
    return root + "/" + air;
}

std::string pace_of(const std::string &file) {
    {
        const std::lock_guard<std::mutex> guard(own_mutex);
        if (const auto own = own_files.find(file); own != own_files.end()) return own->second;
    }
    char note[16] = {};
    const int descriptor = open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return "";
    const auto size = read(descriptor, note, sizeof note - 1);
    close(descriptor);
    return size > 0 ? std::string(note, size_t(size)) : "";
}

} // namespace

Rendezvous::Rendezvous(const std::string &air, const std::string &serial, const std::string &pace)
    : folder_(air_folder(air)), serial_(serial) {
    check_name("serial", serial);
    if (endpoint(serial).size() - std::strlen("ipc://") >= sizeof(sockaddr_un::sun_path))
        throw std::runtime_error("path " + endpoint(serial) + " is too long for a socket; set LRISC_AIR_DIR to a shorter one");
    const std::string file = lock_file(serial);
    {
        const std::lock_guard<std::mutex> guard(own_mutex);
        if (!own_files.emplace(file, pace).second)
            throw std::runtime_error("radio '" + serial + "' is in use on air '" + air + "' (by this process)");
    }
    try {
        for (const auto &other : others()) {
            const std::string theirs = pace_of(lock_file(other));
            if (!theirs.empty() && theirs != pace)
                throw std::runtime_error("air '" + air + "' runs at pace=" + theirs + " (radio '" + other + "'), not " + pace);
        }
        struct stat opened, named;
        do { // until the locked file is the one of that name: its last owner may just have removed it
            if (lock_ >= 0) close(lock_);
            lock_ = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
            if (lock_ < 0) throw std::runtime_error("cannot make " + file + ": " + std::strerror(errno));
            struct flock lock = whole_file();
            if (fcntl(lock_, F_SETLK, &lock) != 0)
                throw std::runtime_error("radio '" + serial + "' is in use on air '" + air + "' (by another process)");
        } while (fstat(lock_, &opened) != 0 || stat(file.c_str(), &named) != 0 || opened.st_ino != named.st_ino);
        if (ftruncate(lock_, 0) != 0 || pwrite(lock_, pace.data(), pace.size(), 0) != ssize_t(pace.size()))
            throw std::runtime_error("cannot write " + file + ": " + std::strerror(errno));
    } catch (...) {
        if (lock_ >= 0) close(lock_);
        const std::lock_guard<std::mutex> guard(own_mutex);
        own_files.erase(file);
        throw;
    }
}

Rendezvous::~Rendezvous() {
    unlink(endpoint(serial_).c_str() + std::strlen("ipc://"));
    unlink(lock_file(serial_).c_str());
    close(lock_);
    const std::lock_guard<std::mutex> guard(own_mutex);
    own_files.erase(lock_file(serial_));
}

std::string Rendezvous::lock_file(const std::string &serial) const { return folder_ + "/" + serial + ".lock"; }

std::string Rendezvous::endpoint(const std::string &serial) const { return "ipc://" + folder_ + "/" + serial + ".sock"; }

bool Rendezvous::alive(const std::string &serial) const { return is_locked(lock_file(serial)); }

std::vector<std::string> Rendezvous::others() const {
    std::vector<std::string> found;
    std::error_code nothing;
    for (const auto &entry : fs::directory_iterator(folder_, nothing))
        if (entry.path().extension() == ".lock" && entry.path().stem() != serial_ && is_locked(entry.path()))
            found.push_back(entry.path().stem());
    return found;
}

std::string free_serial(const std::string &air, const std::string &prefix) {
    const std::string folder = air_folder(air);
    for (int number = 0;; ++number) {
        const std::string serial = prefix + "-" + std::to_string(number);
        if (!is_locked(folder + "/" + serial + ".lock")) return serial;
    }
}

} // namespace lrisc
