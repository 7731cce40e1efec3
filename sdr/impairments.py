"""The software channel: draw a realisation from a random generator, then apply it to samples.

In the order of the signal: the transmitter's amplifier; per packet loss and fading; delay and the difference of the
sample clocks; carrier offset and the phase noise of both oscillators; thermal noise and interference at the receiver's
antenna; the receiver's quadrature imbalance, DC offset and converter.

SNR is Es/N0 per occupied data subcarrier. The noise follows from the transmitter's nominal amplitude and not from the
power of the burst at hand, so that fading, compression and clipping change the received energy and not the noise.

    python -c "
    import numpy as np
    from sdr.channel import Channel
    from sdr.impairments import apply_channel, draw_channel
    from sdr.receive import Receiver
    from sdr.transmit import transmit
    from sdr.waveform import DEFAULT

    rng = np.random.default_rng(0)
    symbols = rng.choice(np.array([1, 1j, -1, -1j], np.complex64), 8000)
    sent = transmit(symbols, b'side', DEFAULT, session=1, image_id=0, repetition=2)
    channel = Channel('tdl-a', snr_db=20, doppler_hz=30, cfo_hz=5e3, adc_bits=8)
    drawn = draw_channel(channel, DEFAULT, len(sent.packets), rng)
    receiver = Receiver(DEFAULT)
    images = receiver.push(apply_channel(sent.samples, sent.packets, drawn)) + receiver.flush()
    print(images[0].snr_db, images[0].packets_received, images[0].side)"
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex64

from sdr import hardware, noise
from sdr.channel import Channel, require
from sdr.errors import SdrError
from sdr.fading import CHANNELS, MovingPaths, Taps, draw_paths
from sdr.resample import HALF_TAPS, resample
from sdr.transmit import PacketSpan
from sdr.waveform import Waveform

_DELAY_LIMIT_SAMPLES = 1e8
_LEAD_SAMPLES = (1000.0, 3000.0)
_TAIL_SAMPLES = 2000
# Streams of randomness beside the noise's own: switching one impairment on leaves the others as they were.
_PHASE_STREAM, _JAMMER_STREAM, _BURST_STREAM, _DC_STREAM = range(1, 5)


@dataclass(frozen=True, eq=False)
class ChannelRealisation:
    """Everything random about one passage through the channel, frozen."""

    channel: Channel
    taps: Taps
    """Impulse response of each packet, one tap per sample."""
    paths: MovingPaths | None
    """What the signal passes after `taps`, for the channels of TR 38.901."""
    lost: Bool[np.ndarray, "packets"]
    noise_variance: float
    """Variance of the complex thermal noise per sample, full scale 1."""
    noise_seed: int
    phase_rad: float
    delay_samples: float
    """Samples of noise before the transmission; the fraction is a fractional delay."""
    tail_samples: int
    sample_rate_hz: float
    tx_rms: float
    """Nominal rms of the transmitter, to which the powers of `channel` are relative."""


def noise_variance(snr_db: float, waveform: Waveform) -> float:
    """Variance per sample of complex noise that leaves Es/N0 = `snr_db` on a data subcarrier of unit energy."""
    return waveform.amplitude**2 * 10 ** (-snr_db / 10)


def draw_channel(
    channel: Channel,
    waveform: Waveform,
    packets: int,
    rng: np.random.Generator,
    *,
    delay_samples: float | None = None,
) -> ChannelRealisation:
    """Draw a passage under these conditions for that many packets.

    `delay_samples` None draws a lead of 1000…3000 samples (none for a channel without noise). Raises SdrError for a
    frequency outside of the waveform's band or a delay out of range.
    """
    band = waveform.sample_rate_hz / 2
    require("cfo_hz", channel.cfo_hz, -band, band)
    require("jammer_hz", channel.jammer_hz, -band, band)
    require("jammer_bandwidth_hz", channel.jammer_bandwidth_hz, 0.0, 2 * band)
    model = CHANNELS[channel.fading]
    taps = model.draw_taps(packets, waveform, rng)
    lost = np.zeros(packets, np.bool_)
    lost[rng.permutation(packets)[: round(channel.loss * packets)]] = True
    lead, phase, seed = rng.uniform(*_LEAD_SAMPLES), rng.uniform(-np.pi, np.pi), int(rng.integers(1 << 62))
    if delay_samples is None:
        delay_samples = lead if model.noisy else 0.0
    require("delay_samples", delay_samples, 0.0, _DELAY_LIMIT_SAMPLES)
    paths = None
    if model.profile is not None:
        paths = draw_paths(model.profile, channel.delay_spread_s, channel.doppler_hz, waveform.sample_rate_hz, rng)
    return ChannelRealisation(
        channel=channel,
        taps=taps,
        paths=paths,
        lost=lost,
        noise_variance=noise_variance(channel.snr_db, waveform) if model.noisy else 0.0,
        noise_seed=seed,
        phase_rad=phase if model.noisy else 0.0,
        delay_samples=delay_samples,
        tail_samples=_TAIL_SAMPLES,
        sample_rate_hz=waveform.sample_rate_hz,
        tx_rms=waveform.tx_rms,
    )


def apply_channel(
    samples: Complex64[np.ndarray, "n"], packets: Sequence[PacketSpan], realisation: ChannelRealisation
) -> Complex64[np.ndarray, "received"]:
    """Pass a transmission through the channel, in the order that this module's docstring gives.

    The result has noise before, for the delay, and after. Raises SdrError if the realisation was drawn for another
    number of packets.
    """
    if len(packets) != len(realisation.taps):
        raise SdrError(
            f"the channel was drawn for {len(realisation.taps)} packets, the transmission has {len(packets)}"
        )
    lead = HALF_TAPS if realisation.paths else 0
    faded = _fade(samples, packets, realisation, lead)
    step = 1 + 1e-6 * realisation.channel.sfo_ppm
    count = int(np.ceil((faded.size - lead) / step + realisation.delay_samples)) + realisation.tail_samples
    received = resample(faded, lead - realisation.delay_samples * step, step, count)
    if realisation.channel.cfo_hz or realisation.phase_rad or realisation.channel.phase_noise_hz:
        received = received * _oscillator(count, realisation)
    return _receive(_add_noise(received, realisation), realisation)


def _fade(
    samples: Complex64[np.ndarray, "n"], packets: Sequence[PacketSpan], realisation: ChannelRealisation, lead: int
) -> Complex64[np.ndarray, "faded"]:
    """The packets at the receiver's antenna, each amplified and faded; the first `lead` samples come before time 0."""
    channel, paths = realisation.channel, realisation.paths
    tail = realisation.taps.shape[1] - 1 + (paths.filters.shape[1] - 1 if paths else 0)
    faded = np.zeros(samples.size + tail, np.complex64)
    for span, taps, lost in zip(packets, realisation.taps, realisation.lost, strict=True):
        if lost:
            continue
        part = samples[span.start_sample : span.start_sample + span.samples]
        if channel.pa_backoff_db is not None:
            saturation = realisation.tx_rms * 10 ** (channel.pa_backoff_db / 20)
            part = hardware.rapp(part, saturation, channel.pa_smoothness)
        part = np.convolve(part, taps)
        if paths:
            part = paths.apply(part, span.start_sample)
        # Both this array and a path's result begin `lead` samples early.
        faded[span.start_sample : span.start_sample + part.size] += part
    return faded


def _oscillator(count: int, realisation: ChannelRealisation) -> Complex64[np.ndarray, "count"]:
    """Phasor between the two carriers, for both ends' oscillators together."""
    channel, rate = realisation.channel, realisation.sample_rate_hz
    turns = np.arange(count) * (channel.cfo_hz / rate)
    angle = 2j * np.pi * (turns % 1.0) + 1j * realisation.phase_rad
    if channel.phase_noise_hz:
        rng = _stream(realisation, _PHASE_STREAM)
        angle += 1j * hardware.wiener_phase(count, channel.phase_noise_hz / rate, rng)
    return np.asarray(np.exp(angle), np.complex64)


def _add_noise(received: Complex64[np.ndarray, "n"], realisation: ChannelRealisation) -> Complex64[np.ndarray, "n"]:
    """Thermal noise and interference. Noise is circular: it need not pass the oscillator."""
    channel, rate, count = realisation.channel, realisation.sample_rate_hz, received.size
    if realisation.noise_variance:
        rng = np.random.default_rng(realisation.noise_seed)
        received = received + np.float32(realisation.noise_variance**0.5) * noise.complex_normal(rng, (count,))
    if channel.jammer_db is not None:
        power = realisation.tx_rms**2 * 10 ** (channel.jammer_db / 10)
        rng = _stream(realisation, _JAMMER_STREAM)
        received = received + noise.jammer(
            count, power, channel.jammer_hz / rate, channel.jammer_bandwidth_hz / rate, rng
        )
    if channel.burst_db is not None:
        power = realisation.tx_rms**2 * 10 ** (channel.burst_db / 10)
        rng = _stream(realisation, _BURST_STREAM)
        received = received + noise.bursts(count, power, channel.burst_duty, channel.burst_s * rate, rng)
    return received


def _receive(received: Complex64[np.ndarray, "n"], realisation: ChannelRealisation) -> Complex64[np.ndarray, "n"]:
    """The receiver's own hardware; samples keep the transmitter's scale whatever the converter's."""
    channel = realisation.channel
    if channel.iq_gain_db or channel.iq_phase_deg:
        received = hardware.iq_imbalance(received, channel.iq_gain_db, channel.iq_phase_deg)
    full_scale = realisation.tx_rms * 10 ** (-channel.adc_rms_dbfs / 20)
    if channel.dc_dbfs is not None:
        turn = _stream(realisation, _DC_STREAM).uniform()
        received = received + np.complex64(full_scale * 10 ** (channel.dc_dbfs / 20) * np.exp(2j * np.pi * turn))
    if channel.adc_bits is not None:
        received = hardware.quantise(received, channel.adc_bits, full_scale)
    return np.asarray(received, np.complex64)


def _stream(realisation: ChannelRealisation, number: int) -> np.random.Generator:
    return np.random.default_rng([realisation.noise_seed, number])
