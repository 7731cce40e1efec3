#include <algorithm>
#include <cmath>

#include "frontend.hpp"
#include "options.hpp"

namespace lrisc {

void add_noise(std::vector<Sample> &samples, double power, uint64_t seed, int64_t index) {
    if (power <= 0) return;
    constexpr size_t stretch = 512;
    constexpr float turn = 6.28318530717958647692f, unit = 0x1p-32f;
    const float scale = float(std::sqrt(power));
    float share[stretch] = {}, angle[stretch] = {}, radius[stretch], real[stretch], imag[stretch];
    for (size_t begin = 0; begin < samples.size(); begin += stretch) {
        const size_t count = std::min(stretch, samples.size() - begin);
        for (size_t at = 0; at < count; ++at) {
            const uint64_t bits = mix(seed + uint64_t(index + int64_t(begin + at)) * 0xd1342543de82ef95);
            share[at] = (float(bits >> 32) + 0.5f) * unit; // above 0, at most 1
            angle[at] = turn * unit * float(uint32_t(bits));
        }
        // Box and Muller: |n|^2 is exponentially distributed, the angle uniformly. One function a loop: it becomes vectors.
        for (size_t at = 0; at < stretch; ++at) radius[at] = scale * std::sqrt(-std::log(share[at]));
        for (size_t at = 0; at < stretch; ++at) real[at] = radius[at] * std::cos(angle[at]);
        for (size_t at = 0; at < stretch; ++at) imag[at] = radius[at] * std::sin(angle[at]);
        for (size_t at = 0; at < count; ++at) samples[begin + at] += Sample(real[at], imag[at]);
    }
}

} // namespace lrisc
