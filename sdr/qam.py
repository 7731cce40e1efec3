"""Square QAM with Gray labels, and its soft demapper, for links that carry bits.

Each axis carries half of a symbol's bits as Gray-coded amplitude steps, most significant bit first, bits of the real
axis before those of the imaginary one. A constellation has mean power 1. With two bits this is QPSK, 0 being positive.
"""

import functools

import numpy as np
from jaxtyping import Complex64, Float32, UInt8

from sdr.errors import SdrError

BITS = (2, 4, 6, 8)
"""Per symbol: QPSK, 16-, 64- and 256-QAM."""
_LEAST_VARIANCE = 1e-9  # below it a log-likelihood ratio says no more than that it is certain


@functools.cache
def amplitudes(bits: int) -> Float32[np.ndarray, "levels"]:
    """Amplitude of an axis by the value of its `bits`/2 bits.

    Raises:
        SdrError: no constellation has so many bits.
    """
    if bits not in BITS:
        raise SdrError(f"QAM has {', '.join(map(str, BITS))} bits per symbol, not {bits}")
    levels = 1 << bits // 2
    place = np.arange(levels)
    by_label = np.empty(levels)
    by_label[place ^ place >> 1] = levels - 1 - 2 * place
    return np.asarray(by_label / np.sqrt(2 * np.mean(by_label**2)), np.float32)


def map_bits(values: UInt8[np.ndarray, "n"], bits: int) -> Complex64[np.ndarray, "symbols"]:
    """Symbols of bits 0 and 1, whose number is a multiple of `bits`."""
    weights = 1 << np.arange(bits // 2)[::-1]
    labels = values.reshape(-1, 2, bits // 2) @ weights
    axes = amplitudes(bits)[labels]
    return np.asarray(axes[:, 0] + 1j * axes[:, 1], np.complex64)


def soft_bits(
    symbols: Complex64[np.ndarray, "n"], noise_var: Float32[np.ndarray, "n"], bits: int
) -> Float32[np.ndarray, "n_bits"]:
    """Max-log log-likelihood ratio of every bit, positive for 0; 0 where `noise_var` is infinite.

    (min over points whose bit is 1 of |y − x|² − the same over 0) / noise_var: the likelihood ratio's logarithm with
    each sum over points replaced by its largest term (Robertson, Villebrun, Hoeher, ICC 1995). As the bits of one axis
    say nothing of the other, only that axis's points are compared.
    """
    levels = amplitudes(bits)
    labels = np.arange(len(levels))
    received = np.stack([symbols.real, symbols.imag], axis=1)
    distance = (received[:, :, None] - levels) ** 2
    result = np.empty((len(symbols), 2, bits // 2), np.float32)
    for index in range(bits // 2):
        one = (labels >> (bits // 2 - 1 - index) & 1).astype(bool)
        result[:, :, index] = distance[:, :, one].min(axis=2) - distance[:, :, ~one].min(axis=2)
    erased = ~np.isfinite(noise_var)
    variance = np.where(erased, 1, np.maximum(noise_var, _LEAST_VARIANCE)).astype(np.float32)
    result /= variance[:, None, None]
    result[erased] = 0
    return result.reshape(-1)
