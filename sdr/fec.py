"""Convolutional code K=7, rate 1/2, generators 171 and 133 octal (IEEE 802.11-2020, 17.3.5.6), soft decision.

Log-likelihood ratios (LLRs) are positive for a 0 bit. A codeword ends with six zero bits that return the encoder to
state 0. Where the signs of the LLRs are a codeword, no other one is as likely. For the rest the Viterbi decoder
(Forney, "The Viterbi algorithm", Proc. IEEE 61, 1973) runs in lockstep over the 64 states and over many blocks.
"""

import numpy as np
from jaxtyping import Bool, Float32, Num, UInt8

POLYNOMIALS = (0o171, 0o133)
_INVERSE = (0o174, 0o024)
"""Times the generators they add up to 1 over GF(2), so that two filters turn a codeword back into its bits."""
TAIL_BITS = 6
_STATES = 64
_RESCALED_STEPS = 64
_LLR_LIMIT = 100.0


def _branch_signs() -> Float32[np.ndarray, "predecessor output state"]:
    """Sign of each output bit on the branch from predecessor 2i + p to the next state j = 32u + i."""
    parity, bit, half = np.meshgrid(np.arange(2), np.arange(2), np.arange(32), indexing="ij")
    register = ((bit << 6) | (2 * half + parity)).reshape(2, _STATES)
    parities = np.array([bin(value).count("1") & 1 for value in range(1 << 7)])
    outputs = np.stack([parities[register & polynomial] for polynomial in POLYNOMIALS], axis=1)
    return np.asarray(1 - 2 * outputs, np.float32)


_SIGNS = _branch_signs()
_FIRST_PREDECESSOR = (2 * (np.arange(_STATES) % 32)).astype(np.uint8)


def encode(bits: UInt8[np.ndarray, "*blocks n"]) -> UInt8[np.ndarray, "*blocks coded"]:
    """Encode n bits and the tail: 2 (n + 6) coded bits, the two generators alternating."""
    outputs = np.stack([_filter(bits, polynomial) for polynomial in POLYNOMIALS], axis=-1)
    return np.asarray(outputs.reshape(*bits.shape[:-1], -1))


def _filter(bits: UInt8[np.ndarray, "*blocks n"], polynomial: int) -> UInt8[np.ndarray, "*blocks filtered"]:
    """Convolution over GF(2), six bits longer; the first of the polynomial's seven digits weighs the current bit."""
    length = bits.shape[-1]
    filtered = np.zeros((*bits.shape[:-1], length + TAIL_BITS), np.uint8)
    for delay in range(TAIL_BITS + 1):
        if polynomial >> (TAIL_BITS - delay) & 1:
            filtered[..., delay : delay + length] ^= bits
    return filtered


def decode_blocks(llr: Num[np.ndarray, "blocks coded"]) -> UInt8[np.ndarray, "blocks n"]:
    """Decode many short codewords of equal length at once; `llr` has 2 (n + 6) entries for n bits."""
    bits, exact = _invert(llr)
    if not exact.all():
        padded = _pad(llr[~exact].reshape(-1, llr.shape[1] // 2, 2))
        bits[~exact] = _viterbi(padded)[:, TAIL_BITS : -2 * TAIL_BITS]
    return bits


def _invert(llr: Num[np.ndarray, "blocks coded"]) -> tuple[UInt8[np.ndarray, "blocks n"], Bool[np.ndarray, "blocks"]]:
    """The bits that the signs of the LLRs say, and whether these are a codeword."""
    coded = (llr < 0).view(np.uint8)
    steps = coded.shape[1] // 2
    first, second = (_filter(coded[:, output::2], inverse)[:, :steps] for output, inverse in enumerate(_INVERSE))
    bits = (first ^ second)[:, : steps - TAIL_BITS]
    return bits, np.asarray(np.all(encode(bits) == coded, axis=1))


def _pad(llr: Num[np.ndarray, "blocks steps 2"]) -> Float32[np.ndarray, "blocks padded 2"]:
    """Surround codewords by certain zero bits, which is what pins their first and last state to 0."""
    limited = np.clip(np.nan_to_num(llr, nan=0.0), -_LLR_LIMIT, _LLR_LIMIT).astype(np.float32)
    certain = 64 * max(float(np.max(np.abs(limited), initial=0.0)), 1.0)
    return np.pad(limited, ((0, 0), (TAIL_BITS, TAIL_BITS), (0, 0)), constant_values=certain)


def _viterbi(llr: Float32[np.ndarray, "blocks steps 2"]) -> UInt8[np.ndarray, "blocks steps"]:
    """Most likely input bits of each block; first and last states are free."""
    blocks, steps, _ = llr.shape
    metric = np.zeros((blocks, 2, 32), np.float32)  # of state 32u + i
    before = metric.reshape(blocks, 1, 32, 2).transpose(3, 0, 1, 2)  # the same, of predecessor 2i + p
    decisions = np.empty((steps, blocks, 2, 32), np.bool_)
    paths = np.empty((2, blocks, 2, 32), np.float32)
    even, odd = paths
    for first in range(0, steps, _RESCALED_STEPS):
        part = llr[:, first : first + _RESCALED_STEPS].transpose(1, 0, 2)
        branches = (part.reshape(-1, 2) @ _SIGNS).reshape(2, -1, blocks, 2, 32).swapaxes(0, 1)
        for branch, decision in zip(branches, decisions[first : first + _RESCALED_STEPS], strict=True):
            np.add(branch, before, out=paths)
            np.greater(odd, even, out=decision)
            np.maximum(even, odd, out=metric)
        metric -= metric.max(axis=(1, 2), keepdims=True)
    predecessors = decisions.reshape(steps, blocks, _STATES).swapaxes(0, 1) + _FIRST_PREDECESSOR
    traced = []
    for chosen, last in zip(predecessors, metric.reshape(blocks, _STATES).argmax(axis=1).tolist(), strict=True):
        # Scalar: the path through one block is sequential, and Python is quick at that.
        table, state, path = chosen.ravel().tobytes(), last, bytearray()
        for row in range((steps - 1) * _STATES, -1, -_STATES):
            path.append(state)
            state = table[row + state]
        traced.append(path)
    return np.asarray(np.array(traced, np.uint8)[:, ::-1] >> 5)
