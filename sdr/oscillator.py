"""Phase noise within the OFDM symbols, where it turns into interference between carriers.

The phase of a free oscillator is a Wiener process. Two things are known of it: its mean over every symbol, from the
pilots, and, from the cyclic prefix, which repeats the end of the symbol, how far it moved in between (van de Beek,
Sandell and Börjesson, IEEE Trans. Signal Process. 45, 1997, for a CFO). Its conditional mean given both is taken out
of the samples, but for its mean over each symbol, which the equaliser follows anyway.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Complex64, Float64

from sdr import ofdm
from sdr.estimate import Estimate
from sdr.sync import EARLY_SAMPLES
from sdr.track import phasor
from sdr.waveform import Waveform

_PARTS = 16
"""Parts of a symbol within which the phase is taken for straight."""
_COHERENCE_LIMIT = 0.9999
_UNKNOWN = 1e6


def steady(
    blocks: Complex64[np.ndarray, "symbols samples"], state: Estimate, waveform: Waveform
) -> Complex64[np.ndarray, "symbols fft"]:
    """Windows of the FFT without what the phase does within them.

    `blocks` begin a cyclic prefix before the windows and have the CFO of `state` removed, which was estimated with the
    phase noise in them.
    """
    size, track = waveform.fft_size, state.track
    turns, turns_var = _prefix_turns(blocks, waveform)
    if not state.even:  # a jammer is alike, too, one symbol later
        turns_var[:] = _UNKNOWN
    matrix, covariance = _wiener(waveform, len(blocks))
    gap = float(np.mean(np.diff(ofdm.times(waveform, len(blocks)))))
    # Means over two windows that lie `gap` apart differ by this much more than one sample does from the next.
    per_sample = track.step_var / (gap - size / 3)
    seen = np.concatenate([track.left, turns])
    # What the prefix compares are not exactly the ends of the window.
    error = np.concatenate([track.left_var, turns_var + per_sample * waveform.cyclic_prefix / 2])
    knots = per_sample * (matrix @ np.linalg.solve(per_sample * covariance + np.diag(error), seen))
    angle = knots.reshape(len(blocks), -1) @ _between(size)
    return np.asarray(blocks[:, waveform.cyclic_prefix :] * phasor(-angle.astype(np.float32)))


def _prefix_turns(
    blocks: Complex64[np.ndarray, "symbols samples"], waveform: Waveform
) -> tuple[Float64[np.ndarray, "symbols"], Float64[np.ndarray, "symbols"]]:
    """Phase that each symbol gains from its prefix to its end, in rad, and the variance of its error.

    Samples of the prefix count as far as they are coherent with the end on the whole: echoes spoil the first ones.
    """
    prefix = waveform.cyclic_prefix
    first, last = blocks[:, EARLY_SAMPLES:prefix], blocks[:, waveform.fft_size + EARLY_SAMPLES :]
    power = (np.abs(first) ** 2 + np.abs(last) ** 2).astype(np.float64) / 2
    product = first.conj() * last
    coherence = np.clip(product.real.sum(axis=0) / (power.sum(axis=0) + np.finfo(np.float32).tiny), 0, _COHERENCE_LIMIT)
    weight = coherence / (1 - coherence**2)
    signal = power @ (weight * coherence)
    noise = power**2 @ (weight**2 * (1 - coherence**2)) / 2
    variance = np.where(signal > 0, noise / np.maximum(signal, np.finfo(np.float32).tiny) ** 2, _UNKNOWN)
    return np.angle(product @ weight), np.minimum(variance, _UNKNOWN)


@lru_cache(maxsize=16)
def _wiener(
    waveform: Waveform, symbols: int
) -> tuple[Float64[np.ndarray, "knots seen"], Float64[np.ndarray, "seen seen"]]:
    """For a Wiener process of unknown level and unit variance per sample: covariance of its values at the knots of
    every window, beside their mean, with what is seen of it, and covariance of what is seen."""
    size = waveform.fft_size
    within = np.linspace(-size / 2, size / 2, _PARTS + 1)
    knots = (ofdm.times(waveform, symbols)[:, None] + within).reshape(-1)
    distance = np.abs(knots[:, None] - knots)
    covariance = distance.max() - distance / 2
    mean = np.full(_PARTS + 1, 1 / _PARTS)
    mean[[0, -1]] /= 2
    turn = np.zeros(_PARTS + 1)
    turn[[0, -1]] = -1, 1
    look = np.concatenate([np.kron(np.eye(symbols), mean), np.kron(np.eye(symbols), turn)])
    seen = covariance @ look.T
    means = np.kron(np.eye(symbols), np.outer(np.ones(_PARTS + 1), mean))
    return seen - means @ seen, look @ seen


@lru_cache(maxsize=16)
def _between(size: int) -> Float64[np.ndarray, "knots fft"]:
    """Straight lines between the knots."""
    place = np.arange(size) * (_PARTS / size)
    return np.maximum(1 - np.abs(np.arange(_PARTS + 1)[:, None] - place), 0)
