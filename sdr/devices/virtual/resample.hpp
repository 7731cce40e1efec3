// From the samples of a transmitter's clock and carrier to those of a receiver's.
#pragma once

#include <map>

#include "message.hpp"

namespace lrisc {

// How one transmitter's band lies within one receiver's.
struct Overlap {
    Overlap(double from_rate_hz, double to_rate_hz, double offset_hz); // offset: transmitter's carrier − receiver's

    double from_rate_hz, to_rate_hz, offset_hz;
    double centre_hz, width_hz; // of what both have, in the transmitter's baseband
    bool heard;                 // false: they have nothing in common
    bool same;                  // same clock, same carrier: samples pass untouched
    int half;                   // a received sample depends on this many sent ones on either side
};

class Resampler {
public:
    // Adds `gain` times what was sent to `to`, the receiver's samples from `index` on.
    void add(const Segment &about, const Sample *samples, const Overlap &overlap, float gain, int64_t index,
             std::vector<Sample> &to);

private:
    using Table = std::vector<float>;
    const Table &table(double cutoff, int half);
    std::map<double, Table> tables_; // by cutoff: band kept over the transmitter's rate
};

} // namespace lrisc
