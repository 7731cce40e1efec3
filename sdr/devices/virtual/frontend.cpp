#include "frontend.hpp"

#include <cmath>

#include "options.hpp"

namespace lrisc {

void unbalance(std::vector<Sample> &samples, double gain_db, double phase_deg) {
    if (gain_db == 0 && phase_deg == 0) return;
    const double gain = std::pow(10, gain_db / 20), phase = phase_deg * 3.14159265358979323846 / 180;
    const float along = float(gain * std::cos(phase)), across = float(gain * std::sin(phase));
    for (auto &sample : samples) sample = {sample.real(), along * sample.imag() + across * sample.real()};
}

size_t quantise(std::vector<Sample> &samples, int bits) {
    if (bits == 0) return 0;
    const float scale = float(1 << (bits - 1)), least = -scale, most = scale - 1;
    size_t clipped = 0;
    const auto level = [=](float value, bool &outside) {
        value = std::rint(value * scale);
        if (!(value >= least && value <= most)) {
            // A full-scale sine touches +1, which is half a step too much: rounding, not clipping.
            outside = outside || !(value >= least && value <= most + 1);
            value = value < least ? least : value > most ? most : 0;
        }
        return value / scale;
    };
    for (auto &sample : samples) {
        bool outside = false;
        sample = {level(sample.real(), outside), level(sample.imag(), outside)};
        clipped += outside;
    }
    return clipped;
}

void add_noise(std::vector<Sample> &samples, double power, uint64_t seed, int64_t index) {
    if (power <= 0) return;
    constexpr float turn = 6.28318530717958647692f, unit = 0x1p-32f;
    const float scale = float(std::sqrt(power));
    for (size_t at = 0; at < samples.size(); ++at) {
        const uint64_t bits = mix(seed + uint64_t(index + int64_t(at)) * 0xd1342543de82ef95);
        // Box and Muller: |n|^2 is exponentially distributed, the angle uniformly.
        const float radius = scale * std::sqrt(-std::log((float(bits >> 32) + 0.5f) * unit));
        const float angle = turn * unit * float(uint32_t(bits));
        samples[at] += Sample(radius * std::cos(angle), radius * std::sin(angle));
    }
}

} // namespace lrisc
