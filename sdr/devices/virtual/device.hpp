// The SoapySDR device: settings of both directions, streams, and the way of samples from the program to the air.
#pragma once

#include <SoapySDR/Device.hpp>

#include "asker.hpp"
#include "sender.hpp"

namespace lrisc {

class Device : public SoapySDR::Device {
public:
    explicit Device(const SoapySDR::Kwargs &arguments);
    ~Device() override;

    // device.cpp: what it is
    std::string getDriverKey() const override;
    std::string getHardwareKey() const override;
    SoapySDR::Kwargs getHardwareInfo() const override;
    size_t getNumChannels(int direction) const override;
    bool getFullDuplex(int direction, size_t channel) const override;
    bool hasHardwareTime(const std::string &what) const override;
    long long getHardwareTime(const std::string &what) const override;
    void setHardwareTime(long long time_ns, const std::string &what) override;
    std::vector<std::string> listSensors() const override;
    SoapySDR::ArgInfo getSensorInfo(const std::string &key) const override;
    std::string readSensor(const std::string &key) const override;
    SoapySDR::ArgInfoList getSettingInfo() const override;
    void writeSetting(const std::string &key, const std::string &value) override;
    std::string readSetting(const std::string &key) const override;

    // device_settings.cpp: antennas, gains, frequencies, rates
    std::vector<std::string> listAntennas(int direction, size_t channel) const override;
    void setAntenna(int direction, size_t channel, const std::string &name) override;
    std::string getAntenna(int direction, size_t channel) const override;
    std::vector<std::string> listGains(int direction, size_t channel) const override;
    using SoapySDR::Device::setGain;
    using SoapySDR::Device::getGain;
    using SoapySDR::Device::getGainRange;
    void setGain(int direction, size_t channel, const std::string &name, double value) override;
    double getGain(int direction, size_t channel, const std::string &name) const override;
    SoapySDR::Range getGainRange(int direction, size_t channel, const std::string &name) const override;
    using SoapySDR::Device::setFrequency;
    using SoapySDR::Device::getFrequency;
    using SoapySDR::Device::getFrequencyRange;
    std::vector<std::string> listFrequencies(int direction, size_t channel) const override;
    void setFrequency(int direction, size_t channel, const std::string &name, double frequency_hz,
                      const SoapySDR::Kwargs &arguments) override;
    double getFrequency(int direction, size_t channel, const std::string &name) const override;
    SoapySDR::RangeList getFrequencyRange(int direction, size_t channel, const std::string &name) const override;
    void setSampleRate(int direction, size_t channel, double rate_hz) override;
    double getSampleRate(int direction, size_t channel) const override;
    SoapySDR::RangeList getSampleRateRange(int direction, size_t channel) const override;
    std::vector<double> listSampleRates(int direction, size_t channel) const override;
    void setBandwidth(int direction, size_t channel, double bandwidth_hz) override;
    double getBandwidth(int direction, size_t channel) const override;
    SoapySDR::RangeList getBandwidthRange(int direction, size_t channel) const override;

    // device_stream.cpp
    std::vector<std::string> getStreamFormats(int direction, size_t channel) const override;
    std::string getNativeStreamFormat(int direction, size_t channel, double &full_scale) const override;
    SoapySDR::Stream *setupStream(int direction, const std::string &format, const std::vector<size_t> &channels,
                                  const SoapySDR::Kwargs &arguments) override;
    void closeStream(SoapySDR::Stream *stream) override;
    size_t getStreamMTU(SoapySDR::Stream *stream) const override;
    int activateStream(SoapySDR::Stream *stream, int flags, long long time_ns, size_t count) override;
    int deactivateStream(SoapySDR::Stream *stream, int flags, long long time_ns) override;
    int readStream(SoapySDR::Stream *stream, void *const *buffers, size_t count, int &flags, long long &time_ns,
                   long timeout_us) override;
    int writeStream(SoapySDR::Stream *stream, const void *const *buffers, size_t count, int &flags, long long time_ns,
                    long timeout_us) override;
    int readStreamStatus(SoapySDR::Stream *stream, size_t &channels, int &flags, long long &time_ns,
                         long timeout_us) override;

private:
    struct Front { // one direction
        std::vector<GainElement> elements;
        std::vector<std::string> antennas;
        std::map<std::string, double> gains_db;
        std::string antenna, format;
        double frequency_hz = 0, rate_hz = 0, bandwidth_hz = 0, full_scale_dbm = 0, gain_error_db = 0;
        bool open = false, active = false;
    };

    Front &front(int direction, size_t channel);
    const Front &front(int direction, size_t channel) const;
    const GainElement &element(const Front &front, const std::string &name) const;
    double full_scale_dbm(int direction) const; // at the present gain; settings_mutex_ is held
    double noise_dbm() const;
    Tuning tuning() const;
    void tune_sender();
    Time to_air(long long time_ns) const;
    long long to_device(Time time) const;
    bool fill(std::vector<Sample> &block, Outcome &outcome, Clock::time_point deadline);
    bool unplugged() const;
    int transmit(std::vector<Sample> samples, Time at, Clock::time_point deadline);

    // Before all that use them.
    Options options_;
    zmq::context_t context_;
    Rendezvous rendezvous_;
    Shared shared_;
    Teller teller_;
    Asker asker_;
    Sender sender_;

    mutable std::mutex settings_mutex_;
    Front rx_, tx_;
    double true_clock_; // true rate or frequency over the one that was asked for
    std::atomic<long long> time_offset_ns_{0};
    std::vector<Sample> received_, staged_;
    size_t received_used_ = 0;
    int64_t received_index_ = 0;
    bool late_burst_ = false;
    std::atomic<int64_t> passed_samples_{0};
    const uint64_t noise_seed_;
};

} // namespace lrisc
