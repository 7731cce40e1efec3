#include "resample.hpp"

#include <algorithm>
#include <cmath>

namespace lrisc {
namespace {

constexpr int phases = 256;      // of the tabulated filter; between two of them it is interpolated: errors below -100 dB
constexpr double half_lobes = 16; // lobes of the sinc on either side
constexpr int largest_half = 4096;
constexpr double kaiser_beta = 8; // stop band at -80 dB, flat over 84 % of the band
constexpr double turn = 6.283185307179586476925;

double bessel_i0(double x) {
    double term = 1, sum = 1;
    for (int k = 1; k < 40; ++k) {
        term *= (x / (2 * k)) * (x / (2 * k));
        sum += term;
    }
    return sum;
}

double lowpass(double time, double cutoff, double half) {
    const double x = time / half;
    if (x <= -1 || x >= 1) return 0;
    const double angle = turn / 2 * cutoff * time;
    const double sinc = angle > -1e-9 && angle < 1e-9 ? 1 : std::sin(angle) / angle;
    return cutoff * sinc * bessel_i0(kaiser_beta * std::sqrt(1 - x * x)) / bessel_i0(kaiser_beta);
}

// exp(j 2 pi frequency index / rate), sample after sample, exact again every 256 of them.
class Rotation {
public:
    Rotation(double frequency_hz, double rate_hz, int64_t index)
        : per_sample_(Time(frequency_hz) / Time(rate_hz)), index_(index),
          step_(std::polar(1.0, turn * double(per_sample_ - std::floor(per_sample_)))) {}

    Sample next() {
        if (count_++ % 256 == 0) {
            const Time turns = per_sample_ * Time(index_ + count_ - 1);
            now_ = std::polar(1.0, turn * double(turns - std::floor(turns)));
        }
        const Sample value(float(now_.real()), float(now_.imag()));
        now_ = {now_.real() * step_.real() - now_.imag() * step_.imag(),
                now_.real() * step_.imag() + now_.imag() * step_.real()};
        return value;
    }

private:
    const Time per_sample_;
    const int64_t index_;
    const std::complex<double> step_;
    std::complex<double> now_;
    int64_t count_ = 0;
};

Sample product(Sample a, Sample b) { // without the care for infinities that makes the standard's slow
    return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

} // namespace

Overlap::Overlap(double from, double to, double offset) : from_rate_hz(from), to_rate_hz(to), offset_hz(offset) {
    const double lower = std::max(-from / 2, -offset - to / 2), upper = std::min(from / 2, -offset + to / 2);
    centre_hz = (lower + upper) / 2;
    width_hz = upper - lower;
    same = from == to && offset == 0;
    const double reach = width_hz > 0 ? std::ceil(half_lobes * from / width_hz) : largest_half + 1;
    heard = same || reach <= largest_half; // a narrower sliver than that is taken for nothing
    half = same || !heard ? 0 : int(reach);
}

const Resampler::Table &Resampler::table(double cutoff, int half) {
    const auto found = tables_.find(cutoff);
    if (found != tables_.end()) return found->second;
    if (tables_.size() > 16) tables_.clear();
    Table made(size_t(phases + 1) * 2 * half);
    for (int phase = 0; phase <= phases; ++phase)
        for (int tap = 0; tap < 2 * half; ++tap)
            made[size_t(phase) * 2 * half + tap] = float(lowpass(double(phase) / phases + half - 1 - tap, cutoff, half));
    return tables_[cutoff] = std::move(made);
}

void Resampler::add(const Segment &about, const Sample *samples, const Overlap &overlap, float gain, int64_t index,
                    std::vector<Sample> &to) {
    const auto size = int64_t(to.size());
    if (overlap.same) {
        const int64_t first = std::max(about.index, index), last = std::min(about.index + about.count, index + size);
        for (int64_t at = first; at < last; ++at) to[at - index] += gain * samples[at - about.index];
        return;
    }
    const int half = overlap.half, taps = 2 * half;
    const Time ratio = Time(overlap.from_rate_hz) / Time(overlap.to_rate_hz);
    // Received samples that what was sent reaches.
    const auto to_index = [&](int64_t at) { return int64_t(std::floor(Time(at) / ratio)); };
    const int64_t first = std::max(index, to_index(about.index - half));
    const int64_t last = std::min(index + size, to_index(about.index + about.count + half) + 2);
    if (first >= last) return;

    const Time start = Time(first) * ratio; // in sent samples
    const auto base = int64_t(std::floor(start));
    const double offset = double(start - Time(base)), step = double(ratio);
    const int64_t left = base - half + 1; // first sent sample that any of them needs
    const int64_t needed = int64_t(offset + step * double(last - first - 1)) + taps + 1;
    std::vector<float> in_phase(static_cast<size_t>(needed)), quadrature(static_cast<size_t>(needed));
    const int64_t begin = std::max(about.index, left), end = std::min(about.index + about.count, left + needed);
    Rotation to_centre(-overlap.centre_hz, overlap.from_rate_hz, begin);
    for (int64_t at = begin; at < end; ++at) {
        const Sample value = product(samples[at - about.index], to_centre.next());
        in_phase[at - left] = value.real();
        quadrature[at - left] = value.imag();
    }

    const float *filter = table(overlap.width_hz / overlap.from_rate_hz, half).data();
    std::vector<float> mixed(static_cast<size_t>(taps));
    Rotation from_centre(overlap.offset_hz + overlap.centre_hz, overlap.to_rate_hz, first);
    for (int64_t at = first; at < last; ++at) {
        const double position = offset + step * double(at - first);
        const auto whole = int64_t(position);
        const double phase = (position - double(whole)) * phases;
        const int row = int(phase);
        const float share = float(phase - row);
        const float *low = filter + size_t(row) * taps, *high = low + taps;
        const float *i = in_phase.data() + whole, *q = quadrature.data() + whole;
        float real = 0, imag = 0;
        for (int tap = 0; tap < taps; ++tap) {
            const float weight = low[tap] + share * (high[tap] - low[tap]);
            real += weight * i[tap];
            imag += weight * q[tap];
        }
        to[at - index] += gain * product({real, imag}, from_centre.next());
    }
}

} // namespace lrisc
