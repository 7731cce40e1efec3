"""Pseudo-random sequences that are part of the air interface.

They come from SplitMix64 on a counter and not from `numpy.random`, whose streams may change between releases:
two stations with different NumPy versions must scramble and interleave alike.
"""

import numpy as np
from jaxtyping import Complex64, Int64, UInt64

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def words(label: str, count: int) -> UInt64[np.ndarray, "count"]:
    """Return `count` 64-bit words of the stream named `label` (Steele, Lea, Flood: SplitMix64, OOPSLA 2014)."""
    seed = np.uint64(int.from_bytes(label.encode()[:8].ljust(8, b"\0"), "little"))
    with np.errstate(over="ignore"):
        z = seed + _GAMMA * np.arange(1, count + 1, dtype=np.uint64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def bpsk(label: str, *shape: int) -> Complex64[np.ndarray, "..."]:
    """Return ±1 of the given shape, unit power."""
    bits = (words(label, int(np.prod(shape))) >> np.uint64(63)).astype(np.int8)
    return np.asarray(1 - 2 * bits, np.complex64).reshape(shape)


def qpsk(label: str, *shape: int) -> Complex64[np.ndarray, "..."]:
    """Return (±1±j)/√2 of the given shape, unit power."""
    top = (words(label, int(np.prod(shape))) >> np.uint64(62)).astype(np.int8)
    points = (1 - 2 * (top & 1)) + 1j * (1 - 2 * (top >> 1))
    return np.asarray(points / np.sqrt(2), np.complex64).reshape(shape)


def permutations(label: str, rows: int, columns: int) -> Int64[np.ndarray, "rows columns"]:
    """Return one permutation of 0…columns-1 per row."""
    return np.argsort(words(label, rows * columns).reshape(rows, columns), axis=1, kind="stable")
