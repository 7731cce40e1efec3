"""Noise that differs between carriers or between OFDM symbols, from what known symbols leave unexplained.

White noise is the rule: a packet-wide mean stands unless a likelihood-ratio scan over groups of neighbours refutes it.
Then the profile is smoothed by a hidden Markov model on a grid of levels (Rabiner, Proc. IEEE 77, 1989), which follows
both the edges of a jammer or a burst and the long skirts that a jammer leaves through the FFT's window.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int64

_REFUTED = 10.0
"""Log-likelihood ratio of the best group of neighbours; white noise reaches it in about 1 packet of 1000."""
_LEVELS = 10 ** (0.15 * np.arange(40))
"""Steps of 1.5 dB."""
_BELOW = 0.5
"""The lowest level is at most this share of the lowest variance of a few neighbours together."""
_CHANGE = 0.1
"""Probability that the next level is another one; in proportion to 1/distance."""
_RESCALE = 8
_TINY = 1e-30


def profile(
    energy: Float64[np.ndarray, "packets n"], freedom: Float64[np.ndarray, "packets n"], *, draft: bool = False
) -> Float64[np.ndarray, "packets n"]:
    """Variance of each of n neighbours in many packets; one for all of a packet where that explains the data.

    `energy` is the sum of squared residuals of each, `freedom` its complex degrees of freedom (at least 0). A draft is
    cheap, and good enough for weights.
    """
    mean = energy.sum(axis=1) / np.maximum(freedom.sum(axis=1), _TINY)
    variance = np.repeat(mean[:, None], energy.shape[1], axis=1)
    for packet in np.flatnonzero(_scan(energy, freedom) >= _REFUTED):
        variance[packet] = (_neighbours if draft else _smooth)(energy[packet], freedom[packet])
    return variance


def _neighbours(energy: Float64[np.ndarray, "n"], freedom: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """Variances of three neighbours together."""
    kernel = np.ones(3)
    return np.asarray(np.convolve(energy, kernel, "same") / np.maximum(np.convolve(freedom, kernel, "same"), _TINY))


def _scan(
    energy: Float64[np.ndarray, "packets n"], freedom: Float64[np.ndarray, "packets n"]
) -> Float64[np.ndarray, "packets"]:
    """Largest log-likelihood ratio of "this group has a variance of its own" over groups of neighbours."""
    first, last = _groups(energy.shape[1])
    energies, counts = np.zeros((2, len(energy), energy.shape[1] + 1))
    np.cumsum(energy, axis=1, out=energies[:, 1:])
    np.cumsum(freedom, axis=1, out=counts[:, 1:])
    count = counts[:, last] - counts[:, first] + _TINY
    whole = counts[:, -1:] / (energies[:, -1:] + _TINY)
    ratio = (energies[:, last] - energies[:, first]) * whole / count + _TINY
    likelihood = np.max(count * (ratio - 1 - np.log(ratio)), axis=1)
    return np.asarray(np.where(energies[:, -1] > 0, likelihood, 0.0))


@lru_cache(maxsize=64)
def _groups(size: int) -> tuple[Int64[np.ndarray, "groups"], Int64[np.ndarray, "groups"]]:
    """First members, and those after the last, of groups of 1, 2, 4… neighbours, half overlapping."""
    lengths = [1 << power for power in range(max(size // 2, 1).bit_length())]
    firsts = [np.arange(0, size - length + 1, max(length // 2, 1)) for length in lengths]
    return np.concatenate(firsts), np.concatenate([a + length for a, length in zip(firsts, lengths, strict=True)])


def _smooth(energy: Float64[np.ndarray, "n"], freedom: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """Posterior mean of the level by the forward-backward recursion, both ways at once."""
    transition = _transition()
    near = _neighbours(energy, freedom)
    lowest = _BELOW * max(float(near[near > 0].min()), _TINY * float(near.max()))
    held = freedom > 0
    usual = max(float(np.median(energy[held] / np.maximum(freedom[held], 1.0))), lowest)
    # What is usual lies on the grid: for white noise beside a jammer it is exact.
    levels = usual * _LEVELS[1] ** np.floor(np.log(lowest / usual) / np.log(_LEVELS[1])) * _LEVELS
    log_likelihood = -freedom[:, None] * np.log(levels) - energy[:, None] / levels
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    seen = np.stack([likelihood, likelihood[::-1]], axis=2)  # from the left, from the right
    before = np.full_like(seen, 1 / levels.size)
    scratch = np.empty_like(before[0])
    for place, (message, evidence, following) in enumerate(zip(before[:-1], seen[:-1], before[1:], strict=True)):
        np.multiply(message, evidence, out=scratch)
        np.dot(transition, scratch, out=following)
        if place % _RESCALE == 0:
            following /= following.sum(axis=0)
    posterior = before[:, :, 0] * before[::-1, :, 1] * likelihood
    return np.asarray(np.exp(posterior @ np.log(levels) / posterior.sum(axis=1)))


@lru_cache(maxsize=1)
def _transition() -> Float64[np.ndarray, "levels levels"]:
    """Symmetric matrix of the probabilities that one level follows another."""
    place = np.arange(_LEVELS.size)
    distance = np.abs(place[:, None] - place)
    transition = _CHANGE / 2 / np.sum(1 / place[1:]) / np.maximum(distance, 1)
    np.fill_diagonal(transition, 0)
    np.fill_diagonal(transition, 1 - transition.sum(axis=1))
    return np.asarray(transition)
