"""Modulation and coding: bytes to QAM symbols and back, at a rate that the SNR is known to carry.

The code bits of a block are read from its codeword in a fixed pseudo-random order, round and round, until the block's
share of the channel is full (the circular buffer of 3GPP TS 38.212, 5.4.2): a share shorter than the codeword punctures
it, a longer one repeats. All blocks' bits are then scrambled and spread pseudo-randomly over the whole picture's
symbols, so that a lost packet or a faded carrier takes a little of every block.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from jaxtyping import Complex64, Float32, Int64, UInt8

from flowgraphs import ldpc
from flowgraphs.ldpc import HALF, TWO_FIFTHS, Code
from sdr import qam, sequences


@dataclass(frozen=True)
class Mode:
    """`bits` per QAM symbol, of which `rate` are data. `least_snr_db` is the Es/N0 from which it is used."""

    bits: int
    code: Code
    rate: float
    least_snr_db: float

    @property
    def name(self) -> str:
        """For people: constellation and rate."""
        constellation = "QPSK" if self.bits == 2 else f"{1 << self.bits}-QAM"
        return f"{constellation} {Fraction(self.rate).limit_denominator(12)}"

    def blocks(self, symbols: int) -> int:
        """LDPC blocks in so many symbols."""
        return int(symbols * self.bits * self.rate / self.code.k + 1e-9)

    def data_bytes(self, symbols: int) -> int:
        """Whole bytes that so many symbols carry."""
        return self.blocks(symbols) * self.code.k // 8


MODES = (
    Mode(2, TWO_FIFTHS, 1 / 8, -3.25),
    Mode(2, TWO_FIFTHS, 1 / 4, -0.25),
    Mode(2, TWO_FIFTHS, 2 / 5, 2.0),
    Mode(2, HALF, 1 / 2, 2.75),
    Mode(2, HALF, 3 / 5, 4.0),
    Mode(2, HALF, 2 / 3, 5.25),
    Mode(4, TWO_FIFTHS, 2 / 5, 7.0),
    Mode(4, HALF, 1 / 2, 8.25),
    Mode(4, HALF, 3 / 5, 10.25),
    Mode(4, HALF, 2 / 3, 11.25),
    Mode(6, HALF, 1 / 2, 12.75),
    Mode(6, HALF, 3 / 5, 15.25),
    Mode(6, HALF, 2 / 3, 17.0),
    Mode(8, HALF, 3 / 5, 20.25),
    Mode(8, HALF, 2 / 3, 21.5),
    Mode(8, HALF, 3 / 4, 24.5),
)
"""From the slowest to the fastest; `least_snr_db` as scripts/digital_modes.py measures it."""


def choose(snr_db: float) -> Mode:
    """The fastest mode for an Es/N0; the slowest where none is slow enough."""
    return next((mode for mode in reversed(MODES) if mode.least_snr_db <= snr_db), MODES[0])


def modulate(data: bytes, mode: Mode, symbols: int) -> Complex64[np.ndarray, "n"]:
    """`symbols` QAM symbols of `data`, which is no longer than `mode.data_bytes(symbols)`."""
    blocks = mode.blocks(symbols)
    padded = np.zeros(blocks * mode.code.k, np.uint8)
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    padded[: len(bits)] = bits
    coded = ldpc.encode(padded.reshape(blocks, mode.code.k), mode.code).reshape(-1)
    return qam.map_bits(
        coded[_order(mode.code.n, blocks, symbols * mode.bits)] ^ _scrambler(symbols * mode.bits), mode.bits
    )


def demodulate(symbols: Complex64[np.ndarray, "n"], noise_var: Float32[np.ndarray, "n"], mode: Mode) -> bytes:
    """The most likely data, zeros after its end; `noise_var` relative to unit symbol power, inf = erased."""
    blocks, count = mode.blocks(len(symbols)), len(symbols) * mode.bits
    soft = qam.soft_bits(symbols, noise_var, mode.bits) * (1 - 2 * _scrambler(count).astype(np.float32))
    total = np.bincount(_order(mode.code.n, blocks, count), weights=soft, minlength=blocks * mode.code.n)
    bits = ldpc.decode(total.astype(np.float32).reshape(blocks, mode.code.n), mode.code)
    return np.packbits(bits.reshape(-1)).tobytes()


@lru_cache(maxsize=4)
def _order(length: int, blocks: int, count: int) -> Int64[np.ndarray, "count"]:
    """For each transmitted bit, its place in the codewords of `length` bits laid end to end."""
    within = sequences.permutations("codeword", 1, length)[0]
    shares = np.full(blocks, count // blocks)
    shares[: count % blocks] += 1
    block = np.repeat(np.arange(blocks), shares)
    turn = np.arange(count) - np.repeat(np.cumsum(shares) - shares, shares)
    order = (block * length + within[turn % length])[sequences.permutations("bits", 1, count)[0]]
    order.setflags(write=False)
    return np.asarray(order)


def _scrambler(count: int) -> UInt8[np.ndarray, "count"]:
    return (sequences.words("scramble", count) >> np.uint64(63)).astype(np.uint8)
