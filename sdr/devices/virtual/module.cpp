// What SoapySDR loads: how to find virtual radios, and how to open one.
#include <SoapySDR/Logger.hpp>
#include <SoapySDR/Registry.hpp>

#include "device.hpp"

namespace {

// One radio of each profile, or the one that the arguments describe. Any other serial number makes another one.
SoapySDR::KwargsList find(const SoapySDR::Kwargs &arguments) {
    SoapySDR::KwargsList found;
    const auto get = [&](const char *key, const std::string &otherwise) {
        const auto entry = arguments.find(key);
        return entry == arguments.end() ? otherwise : entry->second;
    };
    try {
        std::vector<std::string> profiles;
        if (arguments.count("profile")) profiles = {arguments.at("profile")};
        else if (arguments.count("serial")) profiles = {"hackrf"};
        else profiles = lrisc::profile_names();
        for (const auto &profile : profiles) {
            const std::string air = get("air", "default");
            const std::string name = profile.substr(profile.rfind('/') + 1);
            const std::string serial = get("serial", "");
            found.push_back({{"driver", "lrisc"}, {"profile", profile}, {"air", air},
                             {"serial", serial.empty() ? lrisc::free_serial(air, name.substr(0, name.rfind(".yaml"))) : serial},
                             {"label", "Virtual radio (" + name + ")"}});
        }
    } catch (const std::exception &error) {
        SoapySDR::logf(SOAPY_SDR_ERROR, "virtual radio: %s", error.what());
    }
    return found;
}

SoapySDR::Device *make(const SoapySDR::Kwargs &arguments) { return new lrisc::Device(arguments); }

const SoapySDR::Registry registration("lrisc", &find, &make, SOAPY_SDR_ABI_VERSION);

} // namespace
