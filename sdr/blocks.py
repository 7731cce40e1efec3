"""A stream in chunks of any size, cut into blocks at fixed positions: cleaned, without DC, with what lies around."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex64

BLOCK_SAMPLES = 1 << 17
"""As many as a HackRF hands over at once. Larger blocks are faster, for their packets are demodulated together."""
_DC_BLOCKS = 4
_DC_CHANCES = 16.0
"""The squared mean of white noise exceeds this many times its expectation with probability exp(-16)."""
_SAMPLE_LIMIT = 1e6
"""Anything larger than this many full scales is no sample; its square must not overflow."""


@dataclass(frozen=True, eq=False)
class Block:
    """A block and its surroundings."""

    samples: Complex64[np.ndarray, "n"]
    missing: Bool[np.ndarray, "n"]
    """Which of them were no numbers and are taken as 0."""
    first: int
    """Where the block begins in `samples`."""
    end: int
    """Where it ends."""
    offset: int
    """Position of the first of `samples` in the stream."""


class Blocks:
    """Cuts a stream: how it comes in chunks makes no difference to the blocks. Ready for another one after `flush`."""

    bad_samples: int
    """Samples that were NaN, infinite or absurdly large."""

    def __init__(self, before: int, after: int) -> None:
        """Blocks come with as many samples before and after them; before the first one lie zeros."""
        self.bad_samples = 0
        self._before = before
        self._buffer = np.zeros(before + BLOCK_SAMPLES + after, np.complex64)
        self._missing = np.zeros(self._buffer.size, bool)
        self._filled = self._cleaned = before
        self._position = 0  # of the block's first sample in the stream
        self._levels: deque[tuple[complex, float, int]] = deque(maxlen=_DC_BLOCKS)  # sum, energy and size of blocks

    def push(self, samples: Complex64[np.ndarray, "n"]) -> Iterator[Block]:
        """Take the next samples of the stream and give the blocks that they complete."""
        taken = 0
        while taken < samples.size:
            count = min(samples.size - taken, self._buffer.size - self._filled)
            self._buffer[self._filled : self._filled + count] = samples[taken : taken + count]
            self._filled += count
            taken += count
            if self._filled == self._buffer.size:
                yield self._next()

    def flush(self) -> Iterator[Block]:
        """End the stream and give what is left of it."""
        while self._filled > self._before:
            yield self._next()
        self._levels.clear()
        self._buffer[: self._before] = 0
        self._missing[: self._before] = False

    def _next(self) -> Block:
        """Take one block out and shift the buffer by it."""
        self._clean()
        end = min(self._before + BLOCK_SAMPLES, self._filled)
        samples, missing = self._without_dc(self._buffer[self._before : end]), self._missing[: self._filled].copy()
        block = Block(samples, missing, self._before, end, self._position - self._before)
        passed, kept = end - self._before, self._filled - (end - self._before)
        for kind in (self._buffer, self._missing):
            kind[:kept] = kind[passed : self._filled].copy()
        self._filled, self._cleaned = kept, self._cleaned - passed
        self._position += passed
        return block

    def _without_dc(self, block: Complex64[np.ndarray, "block"]) -> Complex64[np.ndarray, "filled"]:
        """All samples at hand less the mean of the last blocks, as far as it is more than a chance of the signal's.

        A packet's own mean, 48 dB below it, would otherwise be subtracted as one spectral line next to its carriers.
        """
        energy = float(np.vdot(block, block).real)
        self._levels.append((complex(block.sum()), energy, block.size))
        total, energy, size = (sum(values) for values in zip(*self._levels, strict=True))
        power = abs(total / size) ** 2
        chance = _DC_CHANCES * energy / size**2
        share = max(0.0, 1 - chance / power) if power else 0.0
        return self._buffer[: self._filled] - np.complex64(share * total / size)

    def _clean(self) -> None:
        """Replace what is no number among the new samples by 0."""
        parts = self._buffer[self._cleaned : self._filled]
        self._missing[self._cleaned : self._filled] = False
        if parts.size and not np.max(np.abs(parts.view(np.float32))) <= _SAMPLE_LIMIT:
            bad = ~((np.abs(parts.real) <= _SAMPLE_LIMIT) & (np.abs(parts.imag) <= _SAMPLE_LIMIT))
            parts[bad] = 0
            self._missing[self._cleaned : self._filled] = bad
            self.bad_samples += int(np.count_nonzero(bad))
        self._cleaned = self._filled
