#include "transmission.hpp"

#include <algorithm>
#include <cmath>

namespace lrisc {

int64_t index_at(Time time, double rate_hz) { return int64_t(std::ceil(time * Time(rate_hz) - 1e-4L)); }

void Transmission::silence_until(Time time) { floor_ = std::max(floor_, time); }

void Transmission::begin(Time earliest, double rate_hz) {
    rate_hz_ = rate_hz;
    next_ = index_at(std::max(earliest, floor_), rate_hz);
    sending_ = true;
}

void Transmission::append(std::vector<Sample> samples, double frequency_hz, double full_scale_dbm) {
    const auto count = int64_t(samples.size());
    kept_ += samples.size();
    pieces_.push_back({{next_, count, rate_hz_, frequency_hz, full_scale_dbm}, std::move(samples)});
    next_ += count;
}

void Transmission::stop() {
    if (sending_) silence_until(end());
    sending_ = false;
}

void Transmission::cut(Time after) {
    while (!pieces_.empty()) {
        auto &last = pieces_.back();
        const auto keep = std::max<int64_t>(0, index_at(after, last.about.rate_hz) - last.about.index);
        if (keep >= last.about.count) break;
        kept_ -= size_t(last.about.count - keep);
        last.samples.resize(size_t(keep));
        last.about.count = keep;
        next_ = last.about.index + keep;
        if (keep) break;
        pieces_.pop_back();
    }
}

void Transmission::forget_oldest() {
    const auto &about = pieces_.front().about;
    oldest_ = std::max(oldest_, Time(about.index + about.count) / Time(about.rate_hz));
    kept_ -= pieces_.front().samples.size();
    pieces_.pop_front();
}

void Transmission::forget(Time before) {
    while (!pieces_.empty()) {
        const auto &about = pieces_.front().about;
        if (Time(about.index + about.count) / Time(about.rate_hz) > before) break;
        forget_oldest();
    }
}

std::vector<Told::Piece> Transmission::collect(Time from, Time to) const {
    std::vector<Told::Piece> found;
    for (const auto &piece : pieces_) {
        const auto &about = piece.about;
        const int64_t first = std::max(about.index, index_at(from, about.rate_hz));
        const int64_t last = std::min(about.index + about.count, index_at(to, about.rate_hz));
        if (first >= last) continue;
        const auto begin = piece.samples.begin() + (first - about.index), end = begin + (last - first);
        if (!found.empty()) {
            auto &before = found.back().about;
            if (before.index + before.count == first && before.rate_hz == about.rate_hz &&
                before.frequency_hz == about.frequency_hz && before.full_scale_dbm == about.full_scale_dbm) {
                found.back().samples.insert(found.back().samples.end(), begin, end);
                before.count += last - first;
                continue;
            }
        }
        found.push_back({{first, last - first, about.rate_hz, about.frequency_hz, about.full_scale_dbm}, {begin, end}});
    }
    return found;
}

} // namespace lrisc
