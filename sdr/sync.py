"""Finding packets: a cheap detector over all samples, then timing and CFO where it fires.

The detector is the delay-and-correlate metric of Schmidl and Cox (IEEE Trans. Commun. 45, 1997) over the many periods
of the short sequence, evaluated once per period. The long training symbols confirm a candidate and give its timing and
fine CFO (Moose, IEEE Trans. Commun. 42, 1994).
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.ndimage
from jaxtyping import Complex64, Float64, Int64

from sdr import ofdm
from sdr.waveform import Waveform

_DETECTION_THRESHOLD = 0.16
"""Correlation coefficient. White noise exceeds it with probability exp(-0.16² · 304) = 4e-4 per position."""
_CONFIRMATION_THRESHOLD = 0.06
"""Share of the energy of two long symbols in one path; noise exceeds it with probability 1e-12 per position."""
_SEARCH_SAMPLES = 192
"""Half-width of the timing search around the detector's estimate."""
EARLY_SAMPLES = 6
"""FFT windows start this much before the first path, so that the skirts of a fractional delay stay within."""


@dataclass(frozen=True)
class Found:
    """A confirmed preamble."""

    long_start: int
    """First sample of the FFT window of the first long training symbol."""
    cfo: float
    """Carrier frequency offset in cycles per sample."""


def detect(samples: Complex64[np.ndarray, "n"], waveform: Waveform) -> Int64[np.ndarray, "candidates"]:
    """Return estimated starts of short sequences, ascending, good to about a period."""
    period, span = waveform.short_period, waveform.short_repeats - 1
    hops = samples.size // period
    if hops <= span + 1:
        return np.zeros(0, np.int64)
    frames = samples[: hops * period].reshape(hops, period)
    correlation = _moving_sum(np.einsum("ij,ij->i", frames[:-1].conj(), frames[1:]), span)
    parts = frames.view(np.float32)
    energy = _moving_sum(np.einsum("ij,ij->i", parts, parts), span)
    strength = correlation.real**2 + correlation.imag**2
    product = energy[:-1] * energy[1:]
    # Between the squared correlation itself, whose peaks drown beside a stronger packet, and the squared coefficient,
    # strength / product, which is flat once a packet outweighs the noise before it.
    contrast = strength / np.maximum(product, np.finfo(np.float64).tiny) ** 0.75
    peak = contrast == scipy.ndimage.maximum_filter1d(contrast, 2 * span + 1, mode="constant")
    loud = strength > _DETECTION_THRESHOLD**2 * product
    starts: list[int] = []
    for hop in np.flatnonzero(peak & loud & (strength > 0)).tolist():
        if not starts or hop - starts[-1] > span:  # a strictly periodic signal is one long plateau of peaks
            starts.append(hop)
    return np.array(starts, np.int64) * period


def reach(waveform: Waveform) -> tuple[int, int]:
    """Samples before and after a candidate that `locate` needs."""
    return _SEARCH_SAMPLES, waveform.preamble_samples + _SEARCH_SAMPLES + waveform.cyclic_prefix


def locate(
    samples: Complex64[np.ndarray, "n"], candidates: Int64[np.ndarray, "candidates"], waveform: Waveform
) -> list[Found]:
    """Confirm candidates by their long training symbols; each must have `reach` samples around it."""
    if not candidates.size:
        return []
    before, after = reach(waveform)
    pieces = samples[candidates[:, None] + np.arange(-before, after)]
    cfo = _coarse_cfo(pieces[:, before : before + waveform.short_samples], waveform)
    pieces = pieces * np.exp(-2j * np.pi * cfo[:, None] * np.arange(pieces.shape[1])).astype(np.complex64)
    correlation = _long_correlation(pieces, waveform)
    found = []
    for index, candidate in enumerate(candidates):
        fine = _timing(pieces[index], correlation[index], waveform)
        if fine is not None:
            found.append(Found(int(candidate) - before + fine[0], float(cfo[index] + fine[1])))
    return found


def _moving_sum(values: np.ndarray, length: int) -> np.ndarray:
    total = np.concatenate([[0], np.cumsum(values, dtype=np.complex128 if np.iscomplexobj(values) else np.float64)])
    difference: np.ndarray = total[length:] - total[:-length]
    return difference


def _coarse_cfo(
    short: Complex64[np.ndarray, "candidates short"], waveform: Waveform
) -> Float64[np.ndarray, "candidates"]:
    """CFO from the short sequence: one period apart for the range, then four for accuracy."""
    period = waveform.short_period
    inner = short[:, period:-period]  # the start is only known to about a period
    cfo = np.zeros(len(short))
    for lag in (period, 4 * period):
        angle = np.angle(np.sum(inner[:, :-lag].conj() * inner[:, lag:], axis=1, dtype=np.complex128))
        cfo += _wrap(angle - 2 * np.pi * lag * cfo) / (2 * np.pi * lag)
    return cfo


def _wrap(angle: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    return np.asarray((angle + np.pi) % (2 * np.pi) - np.pi)


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
    nominal = _SEARCH_SAMPLES + waveform.short_samples + 2 * prefix
    power = np.abs(correlation) ** 2
    lags = np.arange(nominal - _SEARCH_SAMPLES + prefix, nominal + _SEARCH_SAMPLES - prefix)
    both = power[lags] + power[lags + size]
    energy = np.concatenate([[0.0], np.cumsum(np.abs(piece) ** 2, dtype=np.float64)])
    inside = energy[lags + 2 * size] - energy[lags]
    reference_energy = waveform.amplitude**2 * waveform.used_subcarriers
    best = int(np.argmax(both))
    if not both[best] > _CONFIRMATION_THRESHOLD * inside[best] * reference_energy:
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
