#include "frontend.hpp"

#include <cmath>

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
    constexpr float whole = 0x1.8p23f; // added and taken away again, it leaves the nearest whole number
    size_t clipped = 0;
    const auto level = [=](float value, int &outside) {
        value *= scale;
        // A full-scale sine touches +1, which is one step too much: not yet clipping.
        outside |= !(value > least - 1 && value < most + 1.5f);
        value = value < least ? least : value;
        value = value > most ? most : value;
        value = value == value ? value : 0;
        return (value + whole - whole) / scale;
    };
    for (auto &sample : samples) {
        int outside = 0;
        sample = {level(sample.real(), outside), level(sample.imag(), outside)};
        clipped += size_t(outside);
    }
    return clipped;
}

} // namespace lrisc
