#include "options.hpp"

#include <cmath>
#include <cstdlib>
#include <stdexcept>

namespace lrisc {

uint64_t mix(uint64_t value) { // the finaliser of SplitMix64 (Steele, Lea, Flood 2014)
    value += 0x9e3779b97f4a7c15;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
}

uint64_t mix(uint64_t seed, const std::string &text) {
    uint64_t value = mix(seed);
    for (const unsigned char character : text) value = mix(value ^ character);
    return value;
}

double to_number(const std::string &key, const std::string &text) {
    char *end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || *end || std::isnan(value))
        throw std::runtime_error("argument " + key + "=" + text + ": a number is expected");
    return value;
}

namespace {

Impairments draw(const Profile &profile, uint64_t seed, const std::string &serial) {
    Impairments truth;
    for (const auto &key : impairment_keys) {
        const double share = double(mix(mix(seed, serial), key.name) >> 11) * 0x1p-53; // 0...1
        truth.*key.value = profile.spread.*key.value * (2 * share - 1);
    }
    truth.noise_figure_db += profile.noise_figure_db;
    return truth;
}

double at_least(double least, const std::string &key, const std::string &text) {
    const double value = to_number(key, text);
    if (value < least || std::isinf(value))
        throw std::runtime_error("argument " + key + "=" + text + " is out of range");
    return value;
}

} // namespace

Options read_options(const Arguments &arguments) {
    Options options;
    const auto get = [&](const std::string &key, const std::string &otherwise) {
        const auto found = arguments.find(key);
        return found == arguments.end() ? otherwise : found->second;
    };
    options.profile = load_profile(get("profile", "hackrf"));
    options.serial = get("serial", "");
    options.seed = uint64_t(at_least(0, "seed", get("seed", "0")));
    options.truth = draw(options.profile, options.seed, options.serial);

    for (const auto &[key, text] : arguments) {
        const ImpairmentKey *impairment = nullptr;
        for (const auto &known : impairment_keys)
            if (key == known.name) impairment = &known;
        if (impairment) {
            const double value = to_number(key, text);
            if (std::isinf(value) && (key != "noise_figure_db" || value > 0))
                throw std::runtime_error("argument " + key + "=" + text + " is out of range");
            options.truth.*impairment->value = value;
        } else if (key == "air") {
            options.air = text;
        } else if (key == "pace") {
            if (text != "real" && text != "free")
                throw std::runtime_error("argument pace=" + text + ": real or free is expected");
            options.pace = text == "real" ? Pace::real : Pace::free;
        } else if (key == "peers") {
            options.peers = int(at_least(0, key, text));
        } else if (key == "bits") {
            options.profile.bits = int(at_least(0, key, text));
            if (options.profile.bits == 1 || options.profile.bits > 16)
                throw std::runtime_error("argument bits=" + text + ": 0 or 2...16 is expected");
        } else if (key == "path_loss_db") {
            options.path_loss_db = at_least(0, key, text);
        } else if (key == "patience_s") {
            options.patience_s = at_least(0, key, text);
        } else if (key == "idle_s") {
            options.idle_s = at_least(0, key, text);
        } else if (key == "overflow_every_samples") {
            options.overflow_every_samples = int64_t(at_least(0, key, text));
        } else if (key == "underflow_every_samples") {
            options.underflow_every_samples = int64_t(at_least(0, key, text));
        } else if (key == "unplug_after_samples") {
            options.unplug_after_samples = int64_t(at_least(0, key, text));
        } else if (key != "driver" && key != "label" && key != "profile" && key != "serial" && key != "seed") {
            throw std::runtime_error("unknown argument '" + key + "' of the virtual radio");
        }
    }
    return options;
}

} // namespace lrisc
