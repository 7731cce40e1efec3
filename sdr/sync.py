"""Finding packets: a cheap detector over all samples, then timing and CFO where it fires.

The detector is the delay-and-correlate metric of Schmidl and Cox (IEEE Trans. Commun. 45, 1997) over the many periods
of the short sequence, evaluated once per period. Where it fires, the periodogram over the periods, which adds them up
in phase and so sees further into the noise, sorts out nearly all noise and gives the coarse CFO. The long training
symbols confirm what is left and give its timing and fine CFO (Moose, IEEE Trans. Commun. 42, 1994).
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.ndimage
from jaxtyping import Bool, Complex64, Float32, Float64, Int64

from sdr import ofdm
from sdr.waveform import Waveform

_DETECTION_EXPONENT = 5.0
"""White noise exceeds a squared correlation coefficient of 5/n over n samples with probability exp(-5) per position."""
_PERIODIC_DEVIATIONS = 5.2
"""Peak of the periodogram above its mean in white noise, in standard deviations: passes 1 % of the noise."""
_ZERO_PADDING = 2
_CONFIRMATION_EXPONENT = 20.0
"""White noise exceeds a share of 20/n of the energy of two long symbols with probability 1e-8 per position."""
_PERIODICITY_PARTS = 16
_SEARCH_SHARE = 0.6
"""Half-width of the timing search around the detector's estimate, in lengths of the short sequence."""
EARLY_SAMPLES = 6
"""FFT windows start this much before the first path, so that the skirts of a fractional delay stay within."""


@dataclass(frozen=True)
class Found:
    """A confirmed preamble."""

    long_start: int
    """First sample of the FFT window of the first long training symbol."""
    cfo: float
    """Carrier frequency offset in cycles per sample."""


@dataclass(frozen=True, eq=False)
class Detection:
    """What the detector made of a stretch of samples."""

    candidates: Int64[np.ndarray, "candidates"]
    """Estimated starts of short sequences, ascending, good to about a period."""
    periodicity: float
    """How much of the energy has the short sequence's period at most times, from 0 (noise) to 1 (a tone)."""


def detect(samples: Complex64[np.ndarray, "n"], waveform: Waveform) -> Detection:
    """Search samples for short sequences."""
    period, span = waveform.short_period, waveform.short_repeats - 1
    hops = samples.size // period
    if hops <= span + 1:
        return Detection(np.zeros(0, np.int64), 0.0)
    frames = samples[: hops * period].reshape(hops, period)
    # Complex products as real ones of a signal and of itself turned by 90°: a third faster.
    parts, turned = frames.view(np.float32), (frames * np.complex64(1j)).view(np.float32)
    products = np.empty(hops - 1, np.complex64)
    np.einsum("ij,ij->i", parts[:-1], parts[1:], out=products.real)
    np.einsum("ij,ij->i", turned[:-1], parts[1:], out=products.imag)
    energies = np.einsum("ij,ij->i", parts, parts)
    correlation, energy = _moving_sum(products, span), _moving_sum(energies, span)
    strength = correlation.real**2 + correlation.imag**2
    product = energy[:-1] * energy[1:]
    # Between the squared correlation itself, whose peaks drown beside a stronger packet, and the squared coefficient,
    # strength / product, which is flat once a packet outweighs the noise before it.
    contrast = strength / np.maximum(product, np.finfo(np.float64).tiny) ** 0.75
    peak = contrast == scipy.ndimage.maximum_filter1d(contrast, 2 * span + 1, mode="constant")
    loud = strength > _DETECTION_EXPONENT / (span * period) * product
    starts: list[int] = []
    for hop in np.flatnonzero(peak & loud & (strength > 0)).tolist():
        if not starts or hop - starts[-1] > span:  # a strictly periodic signal is one long plateau of peaks
            starts.append(hop)
    candidates = np.array(starts, np.int64) * period
    periodic, _ = _periodogram(samples, candidates, waveform)
    return Detection(candidates[periodic], _periodicity(products, energies[1:]))


def reach(waveform: Waveform) -> tuple[int, int]:
    """Samples before and after a candidate that `locate` needs."""
    search = _search_samples(waveform)
    return search, waveform.preamble_samples + search + waveform.cyclic_prefix


def locate(
    samples: Complex64[np.ndarray, "n"], candidates: Int64[np.ndarray, "candidates"], waveform: Waveform
) -> list[Found]:
    """Confirm candidates, in the order of their starts; each must have `reach` samples around it."""
    if not candidates.size:
        return []
    before, after = reach(waveform)
    _, cfo = _periodogram(samples, candidates, waveform)
    pieces = samples[candidates[:, None] + np.arange(-before, after)]
    pieces = pieces * np.exp(-2j * np.pi * cfo[:, None] * np.arange(pieces.shape[1])).astype(np.complex64)
    correlation = _long_correlation(pieces, waveform)
    found = []
    for index, candidate in enumerate(candidates):
        fine = _timing(pieces[index], correlation[index], waveform)
        if fine is not None:
            found.append(Found(int(candidate) - before + fine[0], float(cfo[index] + fine[1])))
    return sorted(found, key=lambda one: one.long_start)


def _search_samples(waveform: Waveform) -> int:
    return round(_SEARCH_SHARE * waveform.short_samples)


def _periodicity(products: Complex64[np.ndarray, "hops"], energies: Float32[np.ndarray, "hops"]) -> float:
    edges = np.arange(0, products.size, max(products.size // _PERIODICITY_PARTS, 1))
    correlation, energy = np.abs(np.add.reduceat(products, edges)), np.add.reduceat(energies, edges)
    shares = np.sort(correlation / np.maximum(energy, np.finfo(np.float32).tiny))
    return float(shares[shares.size // 2])


def _moving_sum(values: np.ndarray, length: int) -> np.ndarray:
    total = np.concatenate([[0], np.cumsum(values, dtype=np.complex128 if np.iscomplexobj(values) else np.float64)])
    difference: np.ndarray = total[length:] - total[:-length]
    return difference


def _periodogram(
    samples: Complex64[np.ndarray, "n"], candidates: Int64[np.ndarray, "candidates"], waveform: Waveform
) -> tuple[Bool[np.ndarray, "candidates"], Float64[np.ndarray, "candidates"]]:
    """Whether the samples from each candidate on have the short sequence's period, and the CFO if they have.

    A transform over the periods for each sample of the period; the powers are added up over the samples, which makes
    the test indifferent to multipath. With noise alone the sum is a chi-square variable.
    """
    period, inner = waveform.short_period, waveform.short_repeats - 2  # the start is only known to about a period
    pieces = samples[candidates[:, None] + np.arange(period, period + inner * period)].reshape(-1, inner, period)
    bins = scipy.fft.next_fast_len(_ZERO_PADDING * inner)
    lines = scipy.fft.fft(pieces, bins, axis=1)
    power = np.sum(lines.real**2 + lines.imag**2, axis=2, dtype=np.float64)
    peak = np.argmax(power, axis=1)
    rows = np.arange(len(power))
    low, middle, high = (power[rows, (peak + step) % bins] for step in (-1, 0, 1))
    curvature = np.maximum(2 * middle - low - high, np.finfo(np.float64).tiny)
    cfo = (peak + 0.5 * (high - low) / curvature) / bins
    mean = np.sum(pieces.real**2 + pieces.imag**2, axis=(1, 2), dtype=np.float64)
    periodic = middle > (1 + _PERIODIC_DEVIATIONS / period**0.5) * mean
    return periodic, np.asarray((cfo + 0.5) % 1 - 0.5) / period


def _long_correlation(
    pieces: Complex64[np.ndarray, "candidates n"], waveform: Waveform
) -> Complex64[np.ndarray, "candidates n"]:
    """Correlation with one long training symbol at every lag."""
    length = scipy.fft.next_fast_len(pieces.shape[1] + waveform.fft_size)
    reference = scipy.fft.fft(ofdm.grid(waveform).long_time, length).conj()
    lags = scipy.fft.ifft(scipy.fft.fft(pieces, length, axis=1) * reference, axis=1)
    return np.asarray(lags[:, : pieces.shape[1]], np.complex64)


def _timing(
    piece: Complex64[np.ndarray, "n"], correlation: Complex64[np.ndarray, "n"], waveform: Waveform
) -> tuple[int, float] | None:
    """Window start of the first long symbol and remaining CFO, or None if there is no long symbol."""
    size, prefix = waveform.fft_size, waveform.cyclic_prefix
    search = _search_samples(waveform)
    nominal = search + waveform.short_samples + 2 * prefix
    height = np.abs(correlation)
    lags = np.arange(nominal - search + prefix, nominal + search - prefix)
    both = 2 * height[lags] * height[lags + size]  # a sum would take one chance match for two
    energy = np.concatenate([[0.0], np.cumsum(np.abs(piece) ** 2, dtype=np.float64)])
    inside = energy[lags + 2 * size] - energy[lags]
    reference_energy = waveform.amplitude**2 * waveform.used_subcarriers
    best = int(np.argmax(both))
    if not both[best] > _CONFIRMATION_EXPONENT / (2 * size) * inside[best] * reference_energy:
        return None
    peak = int(lags[best])
    taps = np.arange(peak - prefix, peak + prefix)
    turn = float(np.angle(np.vdot(correlation[taps], correlation[taps + size])))
    response = np.abs(correlation[taps] + np.exp(-1j * turn) * correlation[taps + size]) ** 2
    # First path: well above both the skirts of the strongest one and the noise (12 dB over its mean).
    threshold = max(0.08 * response[prefix], 23.0 * float(np.median(response)))
    early = response[EARLY_SAMPLES:prefix] > threshold
    first = EARLY_SAMPLES + int(np.argmax(early)) if early.any() else prefix
    return int(taps[first]) - EARLY_SAMPLES, turn / (2 * np.pi * size)
