// What converters and mixers of one device do to samples.
#pragma once

#include "message.hpp"

namespace lrisc {

// I is left alone; Q is `gain_db` stronger and `phase_deg` off.
void unbalance(std::vector<Sample> &samples, double gain_db, double phase_deg);

// To the nearest of 2^bits levels on either rail, -1 ... 1 - 2^(1 - bits), clipped there; 0 bits: untouched.
// NaN becomes 0, as float to integer does in a driver. Returns how many samples were clipped.
size_t quantise(std::vector<Sample> &samples, int bits);

// Adds complex Gaussian noise of mean power `power`. What sample `index` gets depends on `seed` and `index` alone.
void add_noise(std::vector<Sample> &samples, double power, uint64_t seed, int64_t index);

} // namespace lrisc
