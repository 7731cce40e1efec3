"""The software channel: draw a realisation from a random generator, then apply it to samples.

SNR is Es/N0 per occupied data subcarrier. The noise follows from the transmitter's nominal amplitude and not from the
power of the burst at hand, so that fading and clipping change the received energy and not the noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Complex64, Float32

from sdr.errors import SdrError
from sdr.transmit import PacketSpan
from sdr.waveform import Waveform

SNR_RANGE_DB = (-10.0, 40.0)
_SFO_LIMIT_PPM = 500.0
_DELAY_LIMIT_SAMPLES = 1e8
_LEAD_SAMPLES = (1000.0, 3000.0)
_TAIL_SAMPLES = 2000
_PROFILE_TAPS = 16
_PROFILE_DECAY_TAPS = 4.0
_HALF_TAPS = 24
_PHASES = 8192
_CHUNK_SAMPLES = 1 << 16

Taps = Complex64[np.ndarray, "packets taps"]


@dataclass(frozen=True)
class ChannelModel:
    """One entry of `CHANNELS`."""

    draw_taps: Callable[[int, np.random.Generator], Taps]
    """(packets, rng) to the impulse response of each packet, one tap per sample, unit mean power."""
    noisy: bool = True
    """False: no noise, no random phase and, unless asked for, no delay."""


def _flat(packets: int, rng: np.random.Generator) -> Taps:
    return np.ones((packets, 1), np.complex64)


def _rayleigh(packets: int, rng: np.random.Generator) -> Taps:
    return _complex_normal(rng, (packets, 1))


def _multipath(packets: int, rng: np.random.Generator) -> Taps:
    profile = np.exp(-np.arange(_PROFILE_TAPS) / _PROFILE_DECAY_TAPS)
    weights = np.sqrt(profile / profile.sum()).astype(np.float32)
    taps: Taps = _complex_normal(rng, (packets, _PROFILE_TAPS)) * weights
    return taps


CHANNELS: dict[str, ChannelModel] = {
    "ideal": ChannelModel(_flat, noisy=False),
    "awgn": ChannelModel(_flat),
    "rayleigh": ChannelModel(_rayleigh),  # block fading: one gain per packet
    "multipath": ChannelModel(_multipath),  # 16 taps of exponential profile, within the prefix, new for each packet
}


@dataclass(frozen=True, eq=False)
class ChannelRealisation:
    """Everything random about one passage through the channel, frozen."""

    taps: Taps
    lost: Bool[np.ndarray, "packets"]
    noise_variance: float
    """Variance of the complex noise per sample, full scale 1."""
    noise_seed: int
    phase_rad: float
    cfo_hz: float
    sfo_ppm: float
    """How much faster than the receiver's the transmitter's sample clock runs."""
    delay_samples: float
    """Samples of noise before the transmission; the fraction is a fractional delay."""
    tail_samples: int
    sample_rate_hz: float


def noise_variance(snr_db: float, waveform: Waveform) -> float:
    """Variance per sample of complex noise that leaves Es/N0 = `snr_db` on a data subcarrier of unit energy."""
    return waveform.amplitude**2 * 10 ** (-snr_db / 10)


def draw_channel(
    name: str,
    waveform: Waveform,
    packets: int,
    rng: np.random.Generator,
    *,
    snr_db: float = 10.0,
    cfo_hz: float = 0.0,
    sfo_ppm: float = 0.0,
    delay_samples: float | None = None,
    loss: float = 0.0,
) -> ChannelRealisation:
    """Draw a channel of `CHANNELS` for that many packets.

    `delay_samples` None draws a lead of 1000…3000 samples (none for a channel without noise). `loss` is the fraction
    of packets, rounded to a whole number of them, that are replaced by noise. Raises SdrError for an unknown name or
    a number out of range.
    """
    if name not in CHANNELS:
        raise SdrError(f"unknown channel '{name}'; known are {', '.join(CHANNELS)}")
    _require("snr_db", snr_db, *SNR_RANGE_DB)
    _require("cfo_hz", cfo_hz, -waveform.sample_rate_hz / 2, waveform.sample_rate_hz / 2)
    _require("sfo_ppm", sfo_ppm, -_SFO_LIMIT_PPM, _SFO_LIMIT_PPM)
    _require("loss", loss, 0.0, 1.0)
    model = CHANNELS[name]
    taps = model.draw_taps(packets, rng)
    lost = np.zeros(packets, np.bool_)
    lost[rng.permutation(packets)[: round(loss * packets)]] = True
    lead, phase, seed = rng.uniform(*_LEAD_SAMPLES), rng.uniform(-np.pi, np.pi), int(rng.integers(1 << 62))
    if delay_samples is None:
        delay_samples = lead if model.noisy else 0.0
    _require("delay_samples", delay_samples, 0.0, _DELAY_LIMIT_SAMPLES)
    return ChannelRealisation(
        taps=taps,
        lost=lost,
        noise_variance=noise_variance(snr_db, waveform) if model.noisy else 0.0,
        noise_seed=seed,
        phase_rad=phase if model.noisy else 0.0,
        cfo_hz=cfo_hz,
        sfo_ppm=sfo_ppm,
        delay_samples=delay_samples,
        tail_samples=_TAIL_SAMPLES,
        sample_rate_hz=waveform.sample_rate_hz,
    )


def apply_channel(
    samples: Complex64[np.ndarray, "n"], packets: Sequence[PacketSpan], realisation: ChannelRealisation
) -> Complex64[np.ndarray, "received"]:
    """Pass a transmission through the channel: loss and multipath, delay and SFO, CFO, noise, in this order.

    The result has noise before, for the delay, and after. Raises SdrError if the realisation was drawn for another
    number of packets.
    """
    if len(packets) != len(realisation.taps):
        raise SdrError(
            f"the channel was drawn for {len(realisation.taps)} packets, the transmission has {len(packets)}"
        )
    faded = _fade(samples, packets, realisation)
    step = 1 + 1e-6 * realisation.sfo_ppm
    count = int(np.ceil(faded.size / step + realisation.delay_samples)) + realisation.tail_samples
    received = resample(faded, -realisation.delay_samples * step, step, count)
    if realisation.cfo_hz or realisation.phase_rad:
        received = received * _oscillator(count, realisation)
    if realisation.noise_variance:
        rng = np.random.default_rng(realisation.noise_seed)
        scale = np.float32(realisation.noise_variance**0.5)
        received = received + scale * _complex_normal(rng, (count,))
    return np.asarray(received, np.complex64)


def resample(
    samples: Complex64[np.ndarray, "n"], start: float, step: float, count: int
) -> Complex64[np.ndarray, "count"]:
    """Values of a band-limited signal at positions start + step·i, in samples; zero outside of it.

    Sinc interpolation over 48 taps under a Blackman window: within -70 dB for energy below 0.8 of Nyquist.
    """
    if step == 1 and start == int(start):
        return _shift(samples, int(start), count)
    edge = np.zeros(2 * _HALF_TAPS, np.complex64)
    padded = np.concatenate([edge, samples, edge])
    result = np.zeros(count, np.complex64)
    offsets = np.arange(2 * _HALF_TAPS)
    for first in range(0, count, _CHUNK_SAMPLES):
        positions = start + step * np.arange(first, min(first + _CHUNK_SAMPLES, count))
        inside = np.flatnonzero((positions > 1 - _HALF_TAPS) & (positions < samples.size - 1 + _HALF_TAPS))
        whole = np.floor(positions[inside]).astype(np.int64)
        phase = np.rint((positions[inside] - whole) * _PHASES).astype(np.int64)
        taken = padded[whole[:, None] + offsets + (_HALF_TAPS + 1)]
        result[first + inside] = np.einsum("ij,ij->i", taken, _interpolators()[phase])
    return result


@lru_cache(maxsize=1)
def _interpolators() -> Float32[np.ndarray, "phases taps"]:
    """Windowed-sinc filters for delays of 0…1 sample."""
    distance = np.linspace(0, 1, _PHASES + 1)[:, None] - np.arange(1 - _HALF_TAPS, _HALF_TAPS + 1)
    turn = np.pi * distance / _HALF_TAPS
    window = 0.42 + 0.5 * np.cos(turn) + 0.08 * np.cos(2 * turn)
    return np.asarray(np.sinc(distance) * window, np.float32)


def _shift(samples: Complex64[np.ndarray, "n"], start: int, count: int) -> Complex64[np.ndarray, "count"]:
    result = np.zeros(count, np.complex64)
    first, last = max(0, -start), min(count, samples.size - start)
    if last > first:
        result[first:last] = samples[first + start : last + start]
    return result


def _fade(
    samples: Complex64[np.ndarray, "n"], packets: Sequence[PacketSpan], realisation: ChannelRealisation
) -> Complex64[np.ndarray, "faded"]:
    length = realisation.taps.shape[1]
    faded = np.zeros(samples.size + length - 1, np.complex64)
    for span, taps, lost in zip(packets, realisation.taps, realisation.lost, strict=True):
        if not lost:
            end = span.start_sample + span.samples
            faded[span.start_sample : end + length - 1] += np.convolve(samples[span.start_sample : end], taps)
    return faded


def _oscillator(count: int, realisation: ChannelRealisation) -> Complex64[np.ndarray, "count"]:
    turns = np.arange(count) * (realisation.cfo_hz / realisation.sample_rate_hz)
    return np.asarray(np.exp(2j * np.pi * (turns % 1.0) + 1j * realisation.phase_rad), np.complex64)


def _complex_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Complex64[np.ndarray, "..."]:
    parts = rng.standard_normal((*shape, 2), dtype=np.float32) * np.float32(0.5**0.5)
    return parts.view(np.complex64)[..., 0]


def _require(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise SdrError(f"{name} must lie in {low:g}…{high:g}, got {value:g}")
