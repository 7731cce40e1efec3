"""Finding packets: a cheap detector over all samples, then timing and CFO where it fires.

The detector is the delay-and-correlate metric of Schmidl and Cox (IEEE Trans. Commun. 45, 1997) over the many periods
of the short sequence, evaluated once per period. Where it fires, the periodogram over the periods, which adds them up
in phase and so sees further into the noise, sorts out nearly all noise and gives the coarse CFO. The long training
symbols confirm what is left and give its timing and fine CFO (Moose, IEEE Trans. Commun. 42, 1994).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.ndimage
from jaxtyping import Bool, Complex64, Float32, Float64, Int64
from numpy.lib.stride_tricks import sliding_window_view

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
_STRIDE = 32
EARLY_SAMPLES = 6
"""FFT windows start this much before the first path, so that the skirts of a fractional delay stay within."""


@dataclass(frozen=True, eq=False)
class Found:
    """Confirmed preambles."""

    long_start: Int64[np.ndarray, "packets"]
    """First sample of the FFT window of the first long training symbol."""
    cfo: Float64[np.ndarray, "packets"]
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
) -> Found:
    """Confirm candidates, in the order of their starts; each must have `reach` samples around it."""
    _, cfo = _periodogram(samples, candidates, waveform)
    first = candidates + waveform.short_samples + 2 * waveform.cyclic_prefix - _search_samples(waveform)
    length = 2 * (_search_samples(waveform) + waveform.fft_size)
    pieces = sliding_window_view(samples, length)[first]
    # exp(jω(a + b)) = exp(jωa) exp(jωb): an outer product instead of an exponential per sample
    coarse, fine = (ofdm.phasors(cfo, times) for times in (np.arange(0, length, _STRIDE), np.arange(_STRIDE)))
    pieces *= (coarse[:, :, None] * fine[:, None]).reshape(len(pieces), coarse.shape[1] * _STRIDE)[:, :length]
    confirmed, start, fine_cfo = _timing(pieces, waveform)
    long_start, cfo = first[confirmed] + start, cfo[confirmed] + fine_cfo
    order = np.argsort(long_start, kind="stable")
    return Found(long_start[order], cfo[order])


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


@lru_cache(maxsize=16)
def _long_reference(waveform: Waveform, length: int) -> Complex64[np.ndarray, "length"]:
    """Spectrum of one long training symbol, conjugate."""
    return np.asarray(scipy.fft.fft(ofdm.grid(waveform).long_time, length).conj(), np.complex64)


def _timing(
    pieces: Complex64[np.ndarray, "candidates n"], waveform: Waveform
) -> tuple[Int64[np.ndarray, "found"], Int64[np.ndarray, "found"], Float64[np.ndarray, "found"]]:
    """Which pieces hold long symbols, window start of the first one in each, and remaining CFO."""
    size, prefix, (count, length) = waveform.fft_size, waveform.cyclic_prefix, pieces.shape
    padded = scipy.fft.next_fast_len(length)  # lags whose sums would run over the end are not looked at
    reference = _long_reference(waveform, padded)
    correlation = scipy.fft.ifft(scipy.fft.fft(pieces, padded, axis=1) * reference, axis=1)
    height = np.abs(correlation[:, prefix : length - size - prefix])
    both = height[:, :-size] * height[:, size:]  # a sum would take one chance match for two
    best, rows = np.argmax(both, axis=1), np.arange(count)
    peak = prefix + best
    energy = pieces[rows[:, None], peak[:, None] + np.arange(2 * size)].view(np.float32)
    share = _CONFIRMATION_EXPONENT / (2 * size) * waveform.amplitude**2 * waveform.used_subcarriers
    found = np.flatnonzero(2 * both[rows, best] > share * np.einsum("ij,ij->i", energy, energy))
    taps = peak[found, None] + np.arange(-prefix, prefix)
    first, second = correlation[found[:, None], taps], correlation[found[:, None], taps + size]
    turn = np.angle(np.sum(first.conj() * second, axis=1)).astype(np.float64)
    response = np.abs(first + np.exp(-1j * turn)[:, None] * second) ** 2
    # First path: well above both the skirts of the strongest one and the noise (12 dB over its mean).
    threshold = np.maximum(0.08 * response[:, prefix], 23.0 * np.median(response, axis=1))
    early = response[:, EARLY_SAMPLES:prefix] > threshold[:, None]
    lead = np.where(early.any(axis=1), prefix - EARLY_SAMPLES - np.argmax(early, axis=1), 0)
    return found, peak[found] - lead - EARLY_SAMPLES, turn / (2 * np.pi * size)
