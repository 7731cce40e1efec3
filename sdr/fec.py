"""Convolutional code K=7, rate 1/2, generators 171 and 133 octal (IEEE 802.11-2020, 17.3.5.6), soft decision.

Log-likelihood ratios (LLRs) are positive for a 0 bit. A codeword ends with six zero bits that return the encoder to
state 0. The Viterbi decoder (Forney, "The Viterbi algorithm", Proc. IEEE 61, 1973) runs in lockstep over the 64
states and over many blocks; a long codeword is cut into overlapping blocks.
"""

import numpy as np
from jaxtyping import Float32, Num, UInt8

POLYNOMIALS = (0o171, 0o133)
TAIL_BITS = 6
_STATES = 64
_CORE_STEPS = 256
_OVERLAP_STEPS = 72  # over ten constraint lengths: the survivors have merged by then
_LLR_LIMIT = 100.0


def _branch_signs() -> Float32[np.ndarray, "output predecessor branch"]:
    """Sign of each output bit on the branch (input u, next state j = u·32 + i) from predecessor 2i + p."""
    bit, half, parity = np.meshgrid(np.arange(2), np.arange(32), np.arange(2), indexing="ij")
    register = (bit << 6) | (2 * half + parity)
    signs = [
        1.0 - 2.0 * (np.array([bin(value & polynomial).count("1") for value in register.ravel()]) & 1)
        for polynomial in POLYNOMIALS
    ]
    return np.asarray(np.stack(signs).reshape(2, 2 * 32, 2).transpose(0, 2, 1), np.float32)


_SIGNS = _branch_signs()


def encode(bits: UInt8[np.ndarray, "n"]) -> UInt8[np.ndarray, "coded"]:
    """Encode n bits and the tail: 2 (n + 6) coded bits, the two generators alternating."""
    outputs = []
    for polynomial in POLYNOMIALS:
        taps = np.array([int(digit) for digit in f"{polynomial:07b}"], dtype=np.int64)
        outputs.append(np.convolve(bits.astype(np.int64), taps) & 1)
    return np.asarray(np.stack(outputs, axis=1).reshape(-1), np.uint8)


def decode(llr: Num[np.ndarray, "coded"]) -> UInt8[np.ndarray, "n"]:
    """Decode one codeword of any length; `llr` has 2 (n + 6) entries."""
    steps = llr.size // 2
    blocks = -(-steps // _CORE_STEPS)
    length = _CORE_STEPS + 2 * _OVERLAP_STEPS
    padded = _pad(llr.reshape(1, steps, 2), _OVERLAP_STEPS, blocks * _CORE_STEPS - steps + _OVERLAP_STEPS)[0]
    cut = np.stack([padded[i * _CORE_STEPS : i * _CORE_STEPS + length] for i in range(blocks)])
    core = _viterbi(cut)[:, _OVERLAP_STEPS : _OVERLAP_STEPS + _CORE_STEPS]
    return core.reshape(-1)[: steps - TAIL_BITS]


def decode_blocks(llr: Num[np.ndarray, "blocks coded"]) -> UInt8[np.ndarray, "blocks n"]:
    """Decode many short codewords of equal length at once."""
    blocks, coded = llr.shape
    padded = _pad(llr.reshape(blocks, coded // 2, 2), TAIL_BITS, TAIL_BITS)
    return _viterbi(padded)[:, TAIL_BITS : -2 * TAIL_BITS]


def _pad(llr: Num[np.ndarray, "blocks steps 2"], before: int, after: int) -> Float32[np.ndarray, "blocks padded 2"]:
    """Surround codewords by certain zero bits, which is what pins their first and last state to 0."""
    limited = np.clip(np.nan_to_num(llr, nan=0.0), -_LLR_LIMIT, _LLR_LIMIT).astype(np.float32)
    certain = 64 * max(float(np.max(np.abs(limited), initial=0.0)), 1.0)
    return np.pad(limited, ((0, 0), (before, after), (0, 0)), constant_values=certain)


def _viterbi(llr: Float32[np.ndarray, "blocks steps 2"]) -> UInt8[np.ndarray, "blocks steps"]:
    """Most likely input bits of each block; first and last states are free."""
    blocks, steps, _ = llr.shape
    metric = np.zeros((blocks, _STATES), np.float32)
    decisions = np.empty((steps, blocks, _STATES), np.bool_)
    for first in range(0, steps, 64):
        part = llr[:, first : first + 64].transpose(1, 0, 2)
        branches = np.einsum("tbo,opj->ptbj", part, _SIGNS).reshape(2, part.shape[0], blocks, 2, 32)
        for offset in range(part.shape[0]):
            even = branches[0, offset] + metric[:, None, 0::2]
            odd = branches[1, offset] + metric[:, None, 1::2]
            np.greater(odd, even, out=decisions[first + offset].reshape(blocks, 2, 32))
            metric = np.maximum(even, odd).reshape(blocks, _STATES)
        metric -= metric.max(axis=1, keepdims=True)
    bits = np.empty((blocks, steps), np.uint8)
    for block in range(blocks):  # scalar: the path through one block is sequential, and Python is quick at that
        chosen = decisions[:, block].tobytes()
        state = int(np.argmax(metric[block]))
        path = bytearray(steps)
        for step in range(steps - 1, -1, -1):
            path[step] = state >> 5
            state = 2 * (state & 31) + chosen[step * _STATES + state]
        bits[block] = np.frombuffer(path, np.uint8)
    return bits
