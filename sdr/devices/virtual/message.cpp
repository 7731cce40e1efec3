#include "message.hpp"

#include <cmath>
#include <cstring>
#include <type_traits>

namespace lrisc {
namespace {

constexpr char ask_magic[4] = {'L', 'A', 'A', '1'}, tell_magic[4] = {'L', 'A', 'T', '1'};
constexpr int32_t largest_count = 1 << 20;
constexpr int64_t largest_index = int64_t(1) << 60;

static_assert(std::is_trivially_copyable_v<Ask> && std::is_trivially_copyable_v<Tell> && std::is_trivially_copyable_v<Segment>);

bool is_rate(double value) { return std::isfinite(value) && value > 0 && value < 1e12; }
bool is_index(int64_t value) { return value > -largest_index && value < largest_index; }

} // namespace

Ask make_ask(Kind kind) {
    Ask ask = {};
    std::memcpy(ask.magic, ask_magic, sizeof ask_magic);
    ask.kind = kind;
    ask.rate_hz = 1;
    return ask;
}

Tell make_tell(const Ask &ask) {
    Tell tell = {};
    std::memcpy(tell.magic, tell_magic, sizeof tell_magic);
    tell.kind = ask.kind;
    tell.id = ask.id;
    return tell;
}

std::optional<Ask> read_ask(const void *data, size_t size) {
    Ask ask;
    if (size != sizeof ask) return {};
    std::memcpy(&ask, data, sizeof ask);
    const bool good = !std::memcmp(ask.magic, ask_magic, sizeof ask_magic) && ask.kind >= Kind::hello &&
                      ask.kind <= Kind::wake && is_index(ask.index) && ask.count >= 0 && ask.count <= largest_count &&
                      ask.need >= 0 && ask.need <= ask.count && is_rate(ask.rate_hz) &&
                      std::isfinite(ask.frequency_hz) && ask.serial[sizeof ask.serial - 1] == 0;
    return good ? std::optional<Ask>(ask) : std::nullopt;
}

std::vector<char> write_told(const Told &told) {
    size_t size = sizeof told.head;
    for (const auto &piece : told.pieces) size += sizeof piece.about + piece.samples.size() * sizeof(Sample);
    std::vector<char> bytes(size);
    char *to = bytes.data();
    const auto put = [&to](const void *from, size_t count) {
        std::memcpy(to, from, count);
        to += count;
    };
    Tell head = told.head;
    head.segments = uint32_t(told.pieces.size());
    put(&head, sizeof head);
    for (const auto &piece : told.pieces) {
        put(&piece.about, sizeof piece.about);
        put(piece.samples.data(), piece.samples.size() * sizeof(Sample));
    }
    return bytes;
}

std::optional<Told> read_told(const void *data, size_t size) {
    const char *from = static_cast<const char *>(data), *const end = from + size;
    Told told;
    if (size < sizeof told.head) return {};
    std::memcpy(&told.head, from, sizeof told.head);
    from += sizeof told.head;
    if (std::memcmp(told.head.magic, tell_magic, sizeof tell_magic) || !is_index(told.head.settled) || !is_index(told.head.oldest))
        return {};
    for (uint32_t number = 0; number < told.head.segments; ++number) {
        Segment about;
        if (size_t(end - from) < sizeof about) return {};
        std::memcpy(&about, from, sizeof about);
        from += sizeof about;
        const bool good = is_index(about.index) && about.count > 0 && is_rate(about.rate_hz) &&
                          std::isfinite(about.frequency_hz) && std::isfinite(about.full_scale_dbm) &&
                          uint64_t(about.count) <= uint64_t(end - from) / sizeof(Sample);
        if (!good) return {};
        std::vector<Sample> samples(static_cast<size_t>(about.count));
        std::memcpy(samples.data(), from, samples.size() * sizeof(Sample));
        from += samples.size() * sizeof(Sample);
        told.pieces.push_back({about, std::move(samples)});
    }
    return from == end ? std::optional<Told>(std::move(told)) : std::nullopt;
}

} // namespace lrisc
