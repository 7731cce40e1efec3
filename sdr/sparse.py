"""A channel estimate for the lowest SNR: few paths explain the training symbols."""

from functools import lru_cache

import numpy as np
from jaxtyping import Complex128, Float64

from sdr import ofdm
from sdr.waveform import Waveform

_ITERATIONS = 6


def sparse_response(
    observed: Complex128[np.ndarray, "used"], noise: Float64[np.ndarray, "used"], waveform: Waveform
) -> Complex128[np.ndarray, "used"]:
    """Frequency response of an impulse response within the cyclic prefix, from one noisy look at every carrier.

    `noise` is the variance of the noise in each value of `observed`. Sparse Bayesian learning (Tipping, JMLR 1, 2001)
    with MacKay's fixed-point update gives every tap a prior variance of its own, and those of the taps that hold only
    noise go to zero. Least squares over all taps of the prefix, as in `training`, is unbiased, which the payload needs;
    the header needs the smaller error.
    """
    turns = _dictionary(waveform)
    whitened = turns.conj().T / noise
    gram, projected = whitened @ turns, whitened @ observed
    floor = 1e-9 * float(np.mean(np.abs(observed) ** 2)) + float(np.finfo(np.float32).tiny)
    prior = np.full(waveform.cyclic_prefix, 1e9 * floor / waveform.cyclic_prefix)
    for _ in range(_ITERATIONS):
        covariance = np.linalg.inv(gram + np.diag(1 / prior))
        taps = covariance @ projected
        known = 1 - covariance.diagonal().real / prior  # how far the data and not the prior decide on a tap
        prior = np.maximum(np.abs(taps) ** 2 / np.maximum(known, 1e-3), floor)
    return np.asarray(turns @ taps)


@lru_cache(maxsize=16)
def _dictionary(waveform: Waveform) -> Complex128[np.ndarray, "used taps"]:
    delays = np.arange(waveform.cyclic_prefix)
    return np.asarray(np.exp(-2j * np.pi * np.outer(ofdm.grid(waveform).carriers, delays) / waveform.fft_size))
