"""Band-limited interpolation: the value of a sampled signal between its samples."""

from functools import lru_cache

import numpy as np
from jaxtyping import Complex64, Float, Float32

HALF_TAPS = 24
"""Samples on either side of a position that its value is made of."""
_PHASES = 8192
_CHUNK_SAMPLES = 1 << 16


def windowed_sinc(distance: Float[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    """The interpolation kernel at distances in samples: sinc under a Blackman window, zero beyond `HALF_TAPS`."""
    turn = np.pi * np.clip(distance / HALF_TAPS, -1, 1)
    window = 0.42 + 0.5 * np.cos(turn) + 0.08 * np.cos(2 * turn)
    return np.asarray(np.sinc(distance) * window, np.float32)


def resample(
    samples: Complex64[np.ndarray, "n"], start: float, step: float, count: int
) -> Complex64[np.ndarray, "count"]:
    """Values of a band-limited signal at positions start + step·i, in samples; zero outside of it.

    Sinc interpolation over 48 taps under a Blackman window: within -70 dB for energy below 0.8 of Nyquist.
    """
    if step == 1 and start == int(start):
        return _shift(samples, int(start), count)
    edge = np.zeros(2 * HALF_TAPS, np.complex64)
    padded = np.concatenate([edge, samples, edge])
    result = np.zeros(count, np.complex64)
    offsets = np.arange(2 * HALF_TAPS)
    for first in range(0, count, _CHUNK_SAMPLES):
        positions = start + step * np.arange(first, min(first + _CHUNK_SAMPLES, count))
        inside = np.flatnonzero((positions > 1 - HALF_TAPS) & (positions < samples.size - 1 + HALF_TAPS))
        whole = np.floor(positions[inside]).astype(np.int64)
        phase = np.rint((positions[inside] - whole) * _PHASES).astype(np.int64)
        taken = padded[whole[:, None] + offsets + (HALF_TAPS + 1)]
        result[first + inside] = np.einsum("ij,ij->i", taken, _interpolators()[phase])
    return result


@lru_cache(maxsize=1)
def _interpolators() -> Float32[np.ndarray, "phases taps"]:
    """Kernels for positions 0…1 after a sample."""
    return windowed_sinc(np.linspace(0, 1, _PHASES + 1)[:, None] - np.arange(1 - HALF_TAPS, HALF_TAPS + 1))


def _shift(samples: Complex64[np.ndarray, "n"], start: int, count: int) -> Complex64[np.ndarray, "count"]:
    result = np.zeros(count, np.complex64)
    first, last = max(0, -start), min(count, samples.size - start)
    if last > first:
        result[first:last] = samples[first + start : last + start]
    return result
