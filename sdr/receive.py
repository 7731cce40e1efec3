"""The streaming receiver: samples in chunks of any size, images out.

Samples are processed in blocks at fixed absolute positions, so that the way a stream is cut into chunks cannot change
the result. Each block is searched as a whole, its candidate packets are confirmed together, and their headers decoded
together; only real packets are demodulated.
"""

from collections import deque

import numpy as np
from jaxtyping import Complex64

from sdr import equalize, header, ofdm, sync
from sdr.assemble import Assembler, Packet, ReceivedImage
from sdr.errors import SdrError
from sdr.framing import FramePlan, plan_frame
from sdr.header import Header
from sdr.waveform import Waveform

__all__ = ["ReceivedImage", "Receiver"]

_BLOCK_SAMPLES = 1 << 16
_DC_BLOCKS = 8
_IMAGE_LIMIT = 8
_SAMPLE_LIMIT = 1e6
"""Anything larger than this many full scales is no sample; its square must not overflow."""


class Receiver:
    """Finds and demodulates every image in a stream of samples.

    An image is returned when all its packets have come, or when `timeout_s` of stream time have passed since its last
    one. Memory is bounded whatever the stream holds. After `flush` the receiver is ready for another stream.
    """

    packets_rejected: int
    """Preambles found whose header failed its CRC or contradicted itself, or whose end was cut off."""
    bad_samples: int
    """Samples that were NaN, infinite or absurdly large, and taken as 0."""

    def __init__(self, waveform: Waveform, timeout_s: float = 0.5) -> None:
        if not timeout_s > 0:
            raise SdrError(f"timeout_s must be positive, got {timeout_s}")
        self.waveform = waveform
        self.packets_rejected = 0
        self.bad_samples = 0
        self._timeout_samples = round(timeout_s * waveform.sample_rate_hz)
        before, after = sync.reach(waveform)
        # Kept before a block for peaks on its edge; needed after it so that its packets are whole.
        self._history = before + 2 * waveform.short_samples
        self._ahead = max(waveform.packet_samples(waveform.payload_symbols), after) + 2 * waveform.short_samples
        self._buffer = np.zeros(self._history + _BLOCK_SAMPLES + self._ahead, np.complex64)
        self._filled = self._history
        self._position = 0  # of the block's first sample in the stream
        self._busy_until = -self._history  # end of the last accepted preamble or packet
        self._means: deque[complex] = deque(maxlen=_DC_BLOCKS)
        self._cleaned = self._history
        self._assembler = Assembler(_IMAGE_LIMIT)

    def push(self, samples: Complex64[np.ndarray, "n"]) -> list[ReceivedImage]:
        """Take the next samples of the stream, at least none, and return the images that are done."""
        images: list[ReceivedImage] = []
        taken = 0
        while taken < samples.size:
            count = min(samples.size - taken, self._buffer.size - self._filled)
            self._buffer[self._filled : self._filled + count] = samples[taken : taken + count]
            self._filled += count
            taken += count
            if self._filled == self._buffer.size:
                images += self._step()
        return images

    def flush(self) -> list[ReceivedImage]:
        """End the stream: process what is left and return all images, complete or not."""
        images: list[ReceivedImage] = []
        while self._filled > self._history:
            images += self._step()
        images += self._assembler.expire(self._position + _BLOCK_SAMPLES + self._ahead)
        self._means.clear()
        self._buffer[: self._history] = 0
        return images

    def _step(self) -> list[ReceivedImage]:
        """Process one block and shift the buffer by it."""
        self._clean()
        block_end = min(self._history + _BLOCK_SAMPLES, self._filled)
        self._means.append(complex(self._buffer[self._history : block_end].mean()))
        view = self._buffer[: self._filled] - np.complex64(sum(self._means) / len(self._means))
        images = self._search(view)
        passed = block_end - self._history
        images += self._assembler.expire(self._position + passed - self._timeout_samples)
        kept = self._filled - passed
        self._buffer[:kept] = self._buffer[passed : self._filled].copy()
        self._filled, self._cleaned = kept, self._cleaned - passed
        self._position += passed
        return images

    def _clean(self) -> None:
        """Replace what is no number among the new samples by 0."""
        parts = self._buffer[self._cleaned : self._filled]
        if parts.size and not np.max(np.abs(parts.view(np.float32))) <= _SAMPLE_LIMIT:
            bad = ~((np.abs(parts.real) <= _SAMPLE_LIMIT) & (np.abs(parts.imag) <= _SAMPLE_LIMIT))
            parts[bad] = 0
            self.bad_samples += int(np.count_nonzero(bad))
        self._cleaned = self._filled

    def _search(self, view: Complex64[np.ndarray, "n"]) -> list[ReceivedImage]:
        """Find and demodulate the packets that start in the block."""
        waveform = self.waveform
        before, after = sync.reach(waveform)
        offset = self._position - self._history  # of the view's first sample in the stream
        extent = min(view.size, self._history + _BLOCK_SAMPLES + 2 * waveform.short_samples)
        first = self._history - 2 * waveform.short_samples
        candidates = first + sync.detect(view[first:extent], waveform)
        # Peaks before the block too: one may have moved across the edge. `_busy_until` knows those already served.
        candidates = candidates[
            (candidates >= before) & (candidates < self._history + _BLOCK_SAMPLES) & (candidates + after <= view.size)
        ]
        training = 2 * waveform.fft_size + waveform.header_symbols * waveform.symbol_samples
        heard = [
            found
            for found in sync.locate(view, candidates, waveform)
            if found.long_start + training <= view.size and self._start(found) + offset >= self._busy_until
        ]
        rows = 2 + waveform.header_symbols
        llr = [equalize.header_llr(self._spectrum(view, found, rows), waveform) for found in heard]
        headers = header.demodulate(np.stack(llr), waveform) if llr else []
        images: list[ReceivedImage] = []
        for contents, found in zip(headers, heard, strict=True):
            start = self._start(found)
            if start + offset < self._busy_until:
                continue
            self._busy_until = start + offset + waveform.preamble_samples
            plan = _plan(contents, waveform)
            samples = waveform.packet_samples(plan.payload_symbols) if plan else 0
            if contents is None or plan is None or start + samples - sync.EARLY_SAMPLES > view.size:
                self.packets_rejected += 1
                continue
            self._busy_until = start + offset + samples - waveform.short_samples
            spectrum = self._spectrum(view, found, 2 + waveform.header_symbols + plan.payload_symbols)
            packet = self._demodulate(spectrum, contents, found.cfo, start + offset, samples)
            images += self._assembler.add(packet, plan)
        return images

    def _start(self, found: sync.Found) -> int:
        """Estimated first sample of a packet."""
        return found.long_start + sync.EARLY_SAMPLES - (self.waveform.preamble_samples - 2 * self.waveform.fft_size)

    def _spectrum(
        self, view: Complex64[np.ndarray, "n"], found: sync.Found, rows: int
    ) -> Complex64[np.ndarray, "rows used"]:
        """Subcarriers of the long symbols and the rows - 2 symbols after them, CFO removed."""
        size, step = self.waveform.fft_size, self.waveform.symbol_samples
        later = 2 * size + self.waveform.cyclic_prefix + step * np.arange(rows - 2)
        window = np.concatenate([[0, size], later])[:, None] + np.arange(size)
        # exp(jω(a + b)) = exp(jωa) exp(jωb): an outer product instead of an exponential per sample
        turns = np.exp(-2j * np.pi * found.cfo * (window[:, 0] - size))[:, None]
        turns = turns * np.exp(-2j * np.pi * found.cfo * np.arange(size))
        return ofdm.to_carriers(view[found.long_start + window] * turns.astype(np.complex64), self.waveform)

    def _demodulate(
        self, spectrum: Complex64[np.ndarray, "rows used"], contents: Header, cfo: float, start: int, samples: int
    ) -> Packet:
        waveform = self.waveform
        state = equalize.estimate(spectrum, header.modulate(contents, waveform), waveform)
        symbols, noise_var = equalize.equalize(spectrum, state, waveform)
        return Packet(
            header=contents,
            start_sample=start,
            end_sample=start + samples,
            symbols=symbols,
            noise_var=noise_var,
            signal=state.snr * state.noise,
            noise=state.noise,
            cfo_hz=(cfo + state.cfo) * waveform.sample_rate_hz,
            sfo_ppm=-1e6 * state.drift,
        )


def _plan(contents: Header | None, waveform: Waveform) -> FramePlan | None:
    """The layout that a header implies, or None if the header is missing or contradicts itself."""
    if contents is None:
        return None
    try:
        plan = plan_frame(waveform, contents.jscc_symbols, contents.side_bytes, contents.repetition)
    except SdrError:
        return None
    consistent = plan.packets == contents.packet_count and contents.packet_index < plan.packets
    return plan if consistent else None
