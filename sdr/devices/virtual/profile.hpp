// What kind of radio a device is: the contents of profiles/NAME.yaml, and what is wrong with it.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace lrisc {

struct GainElement {
    std::string name;
    double minimum, maximum, step, initial; // dB; step 0: any value
};

// All that a calibration can find out about one device.
struct Impairments {
    double ppm = 0;             // of the one oscillator: carrier and sample clock
    double noise_figure_db = 0; // -inf: no thermal noise
    double tx_gain_error_db = 0, rx_gain_error_db = 0;
    double tx_iq_gain_db = 0, tx_iq_phase_deg = 0, rx_iq_gain_db = 0, rx_iq_phase_deg = 0;
    double tx_dc_i = 0, tx_dc_q = 0, rx_dc_i = 0, rx_dc_q = 0; // 1: full scale
};

struct ImpairmentKey {
    const char *name, *unit, *description;
    double Impairments::*value;
};
extern const std::vector<ImpairmentKey> impairment_keys;

struct Profile {
    std::string name, hardware, native_format;
    int bits = 0;
    bool full_duplex = false, timestamps = false;
    size_t transfer_samples = 1, mtu_samples = 1, buffer_samples = 1;
    double minimum_frequency_hz = 0, maximum_frequency_hz = 0, minimum_rate_hz = 0, maximum_rate_hz = 0;
    std::vector<std::string> antennas_rx, antennas_tx;
    std::vector<GainElement> gains_rx, gains_tx;
    double tx_full_scale_dbm = 0, rx_full_scale_dbm = 0;
    double noise_figure_db = 0;
    Impairments spread;
};

// By the name of a file beside the module, or by the path of any YAML file. Throws std::runtime_error, which names
// the file and the key, if there is none, a key is missing or unknown, or a value makes no sense.
Profile load_profile(const std::string &name_or_path);
std::vector<std::string> profile_names();

} // namespace lrisc
