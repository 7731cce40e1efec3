// What the arguments of SoapySDR::Device::make say about one device.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "profile.hpp"

namespace lrisc {

enum class Pace { real, free };

struct Options {
    Profile profile;
    Impairments truth; // this device's own: drawn within the profile's spread, unless an argument says it
    std::string serial, air = "default";
    Pace pace = Pace::free;
    uint64_t seed = 0;
    int peers = 0;             // the clock of this device stands still until so many others have sent or received
    double path_loss_db = 40;  // from anybody to this receiver
    double patience_s = 10;    // how long a receiver that does not read holds up senders
    double idle_s = 2;         // how long a sender that does not write holds up receivers
    int64_t overflow_every_samples = 0, underflow_every_samples = 0; // 0: only those that happen
    int64_t unplug_after_samples = 0;                                // 0: never
};

using Arguments = std::map<std::string, std::string>;

// Throws std::runtime_error, which names the argument, for an unknown key or a value that makes no sense.
Options read_options(const Arguments &arguments);

// The whole of `text` as a number, or std::runtime_error naming `key`.
double to_number(const std::string &key, const std::string &text);

// Well mixed bits of a number or a text: the root of all that is random here.
uint64_t mix(uint64_t value);
uint64_t mix(uint64_t seed, const std::string &text);

} // namespace lrisc
