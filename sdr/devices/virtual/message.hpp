// What devices say to each other. A receiver asks every other device for what it sends within some stretch of time,
// and each tells what it knows. Native byte order: all of them run on one machine.
//
// A time is written as the index of a sample and a rate: the sample `index` of any clock is taken at index / rate
// seconds of the air's time, so that equal rates share one grid and arrive bit for bit.
#pragma once

#include <complex>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lrisc {

using Sample = std::complex<float>;
using Time = long double; // seconds; 64 bits of mantissa: 10^-6 of a sample after a month at 20 Msps

enum class Kind : uint8_t {
    hello = 1, // I receive from now on: where are you in time?
    ask = 2,   // what do you send in [index, index + count) of my samples? Tell at least `need` of them.
    bye = 3,   // I receive no longer
    wake = 4,  // I am about to send: up to where have you received, and ask me from now on
};

struct Ask {
    char magic[4];
    Kind kind;
    uint8_t zero[3];
    uint64_t id, session;  // of the question, and of the one who asks
    int64_t index;
    int32_t count, need;
    double rate_hz;        // true, like all rates and frequencies on the air: with the error of the oscillator
    double frequency_hz;
    char serial[40];
};

struct Tell {
    char magic[4];
    Kind kind;             // of the question
    uint8_t sending;       // in the middle of something
    uint8_t receiving;
    uint8_t took_part;     // has sent or received since it was opened
    uint64_t id, session;  // of the question, and of the one who tells
    int64_t settled;       // all samples of the asker before this are told
    int64_t oldest;        // all before this are forgotten
    uint32_t segments, zeros;
};

struct Segment {
    int64_t index, count;
    double rate_hz, frequency_hz, full_scale_dbm;
};

struct Told {
    Tell head;
    struct Piece {
        Segment about;
        std::vector<Sample> samples;
    };
    std::vector<Piece> pieces;
};

Ask make_ask(Kind kind);
Tell make_tell(const Ask &ask);

// Nothing if it is not a well-formed message: anything may arrive on a socket.
std::optional<Ask> read_ask(const void *data, size_t size);
std::optional<Told> read_told(const void *data, size_t size);
std::vector<char> write_told(const Told &told);

} // namespace lrisc
