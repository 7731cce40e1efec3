"""The streaming receiver: samples in chunks of any size, images out.

Samples are processed in blocks at fixed absolute positions, so that the way a stream is cut into chunks cannot change
the result. Each block is searched as a whole, its candidate packets are confirmed together, and their headers decoded
together; only real packets are demodulated.
"""

from collections import deque
from collections.abc import Callable

import numpy as np
from jaxtyping import Complex64, Int64

from sdr import equalize, header, ofdm, sync, training
from sdr.assemble import Assembler, Packet, ReceivedImage
from sdr.candidate import Candidate, Reason
from sdr.errors import SdrError
from sdr.excise import MARGIN_SAMPLES, excise_lines
from sdr.framing import FramePlan, plan_frame
from sdr.header import ForeignHeader, Header
from sdr.waveform import Waveform

__all__ = ["ReceivedImage", "Receiver"]

_BLOCK_SAMPLES = 1 << 16
_DC_BLOCKS = 8
_STEADY_PERIODICITY = 0.05
"""Of noise 0.02; with a tone 12 dB weaker 0.055. Tiny packets back to back pass it too, which costs only time."""
_IMAGE_LIMIT = 8
_SAMPLE_LIMIT = 1e6
"""Anything larger than this many full scales is no sample; its square must not overflow."""


class Receiver:
    """Finds and demodulates every image in a stream of samples.

    An image is returned when all its packets have come, or when `timeout_s` of stream time have passed since its last
    one. Memory is bounded whatever the stream holds. After `flush` the receiver is ready for another stream.
    Samples that are missing, NaN in the stream, or that lie beyond its end cost the rest of their packet; what came
    before them is kept. `observer` is told of every place where the detector fired and of what came of it.
    """

    packets_rejected: int
    """Preambles found whose header failed its CRC or contradicted itself, or whose payload was cut off."""
    packets_foreign: int
    """Packets whose header follows another version of these rules; not among the rejected."""
    bad_samples: int
    """Samples that were NaN, infinite or absurdly large, and taken as 0."""

    def __init__(
        self, waveform: Waveform, timeout_s: float = 0.5, *, observer: Callable[[Candidate], None] | None = None
    ) -> None:
        if not timeout_s > 0:
            raise SdrError(f"timeout_s must be positive, got {timeout_s}")
        self.waveform = waveform
        self.packets_rejected = 0
        self.packets_foreign = 0
        self.bad_samples = 0
        self._timeout_samples = round(timeout_s * waveform.sample_rate_hz)
        before, after = sync.reach(waveform)
        # Kept before a block for peaks on its edge; needed after it so that its packets are whole.
        margin = 2 * waveform.short_samples + MARGIN_SAMPLES
        self._history = before + margin
        self._ahead = max(waveform.packet_samples(waveform.payload_symbols), after) + margin
        self._ahead += -(self._history + _BLOCK_SAMPLES + self._ahead) % MARGIN_SAMPLES
        self._buffer = np.zeros(self._history + _BLOCK_SAMPLES + self._ahead, np.complex64)
        self._missing = np.zeros(self._buffer.size, bool)
        self._filled = self._history
        self._position = 0  # of the block's first sample in the stream
        self._packet_start = -self._history  # of the last accepted preamble or packet
        self._busy_until = -self._history  # its end
        self._means: deque[complex] = deque(maxlen=_DC_BLOCKS)
        self._cleaned = self._history
        self._assembler = Assembler(_IMAGE_LIMIT)
        self._observer = observer

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
        self._missing[: self._history] = False
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
        for kind in (self._buffer, self._missing):
            kind[:kept] = kind[passed : self._filled].copy()
        self._filled, self._cleaned = kept, self._cleaned - passed
        self._position += passed
        return images

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

    def _search(self, view: Complex64[np.ndarray, "n"]) -> list[ReceivedImage]:
        """Find and demodulate the packets that start in the block."""
        waveform = self.waveform
        before, after = sync.reach(waveform)
        offset = self._position - self._history  # of the view's first sample in the stream
        extent = min(view.size, self._history + _BLOCK_SAMPLES + 2 * waveform.short_samples)
        first = self._history - 2 * waveform.short_samples
        detection = sync.detect(view[first:extent], waveform)
        if detection.periodicity > _STEADY_PERIODICITY:
            view = excise_lines(view)
            detection = sync.detect(view[first:extent], waveform)
        candidates = first + detection.candidates
        # Peaks before the block too: one may have moved across the edge. `_busy_until` knows those already served.
        candidates = candidates[
            (candidates >= before) & (candidates < self._history + _BLOCK_SAMPLES) & (candidates + after <= view.size)
        ]
        needed = 2 * waveform.fft_size + waveform.header_symbols * waveform.symbol_samples
        located = sync.locate(view, candidates, waveform)
        if self._observer is not None:
            self._report_unconfirmed(candidates, located, offset)
        heard = []
        for found in located:
            if self._start(found) + offset < self._busy_until:
                self._report(self._start(found) + offset, found.cfo, Reason.OVERLAP)
            elif found.long_start + needed <= view.size:
                heard.append(found)
            else:
                self._report(self._start(found) + offset, found.cfo, Reason.CUT)
        headers = self._headers(view, heard)
        images: list[ReceivedImage] = []
        for contents, found in zip(headers, heard, strict=True):
            start = self._start(found)
            if start + offset < self._busy_until:
                self._report(start + offset, found.cfo, Reason.OVERLAP)
                continue
            # Whatever was taken for a preamble here must not hide a real one close behind it.
            self._packet_start, self._busy_until = start + offset, start + offset + waveform.cyclic_prefix
            if isinstance(contents, ForeignHeader):
                self.packets_foreign += 1
                self._report(start + offset, found.cfo, Reason.FOREIGN)
                continue
            plan = plan_of(contents, waveform)
            first = 2 + waveform.header_symbols
            rows = self._whole_rows(view.size, found, first + plan.payload_symbols) if plan else 0
            if contents is None or plan is None or rows <= first:
                self.packets_rejected += 1
                faulty = Reason.HEADER if contents is None else Reason.CONTRADICTION
                self._report(start + offset, found.cfo, faulty if plan is None else Reason.CUT)
                continue
            samples = waveform.packet_samples(plan.payload_symbols)
            self._busy_until = start + offset + samples - waveform.short_samples
            spectrum = self._spectrum(view, found, rows)
            packet = self._demodulate(spectrum, contents, plan, found.cfo, start + offset)
            images += self._assembler.add(packet, plan)
        return images

    def _headers(
        self, view: Complex64[np.ndarray, "n"], heard: list[sync.Found]
    ) -> list[Header | ForeignHeader | None]:
        """Contents of the headers; those that fail are tried again with a better channel estimate."""
        waveform = self.waveform
        spectra = [self._spectrum(view, found, 2 + waveform.header_symbols) for found in heard]
        headers: list[Header | ForeignHeader | None] = [None] * len(heard)
        trained = [training.train(spectrum, waveform) for spectrum in spectra]
        for sparse in (False, True):
            left = [index for index, contents in enumerate(headers) if contents is None]
            if left:
                llr = [training.header_llr(spectra[i], trained[i], waveform, sparse=sparse) for i in left]
                for index, contents in zip(left, header.demodulate(np.stack(llr), waveform), strict=True):
                    headers[index] = contents
        return headers

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

    def _whole_rows(self, available: int, found: sync.Found, rows: int) -> int:
        """How many of the symbols from the first long one on are whole: none missing, none beyond the end."""
        size, step = self.waveform.fft_size, self.waveform.symbol_samples
        ends = found.long_start + np.concatenate([[size], 2 * size + step * np.arange(rows - 1)])
        missing = self._missing[found.long_start : min(ends[-1], available)]
        stop = found.long_start + int(np.argmax(missing)) if missing.any() else available
        return int(np.searchsorted(ends, stop, side="right"))

    def _demodulate(
        self, spectrum: Complex64[np.ndarray, "rows used"], contents: Header, plan: FramePlan, cfo: float, start: int
    ) -> Packet:
        """Packet from its long, header and whole payload symbols; the slots of the others are erased."""
        waveform = self.waveform
        trained = training.train(spectrum, waveform)
        state = equalize.estimate(spectrum, header.modulate(contents, waveform), trained, waveform)
        heard, heard_var = equalize.equalize(spectrum, state, waveform)
        symbols, noise_var = np.zeros(plan.slots, np.complex64), np.full(plan.slots, np.inf, np.float32)
        symbols[: heard.size], noise_var[: heard.size] = heard, heard_var
        packet = Packet(
            header=contents,
            start_sample=start,
            end_sample=start + waveform.packet_samples(plan.payload_symbols),
            symbols=symbols,
            noise_var=noise_var,
            signal=state.snr * state.noise,
            noise=state.noise,
            cfo_hz=(cfo + state.cfo) * waveform.sample_rate_hz,
            sfo_ppm=-1e6 * state.drift,
        )
        if self._observer is not None:
            self._observer(Candidate(start, packet.cfo_hz, packet=packet, state=state, spectrum=spectrum))
        return packet

    def _report(self, start: int, cfo: float | None, reason: Reason) -> None:
        """Tell the observer of a candidate that is no packet; the last packet, found again, is none."""
        again = reason is Reason.OVERLAP and start < self._packet_start + self.waveform.preamble_samples
        if self._observer is None or again:
            return
        cfo_hz = None if cfo is None else cfo * self.waveform.sample_rate_hz
        self._observer(Candidate(start, cfo_hz, reason))

    def _report_unconfirmed(
        self, candidates: Int64[np.ndarray, "candidates"], located: list[sync.Found], offset: int
    ) -> None:
        starts = np.array([self._start(found) for found in located], np.int64)
        nearest = np.abs(candidates[:, None] - starts).min(axis=1, initial=self.waveform.preamble_samples)
        lost = (nearest > sync.reach(self.waveform)[0]) & (candidates >= self._history)  # those before were told of
        for candidate in candidates[lost].tolist():
            self._report(candidate + offset, None, Reason.UNCONFIRMED)


def plan_of(contents: Header | None, waveform: Waveform) -> FramePlan | None:
    """The layout that a header implies, or None if the header is missing or contradicts itself."""
    if contents is None:
        return None
    try:
        plan = plan_frame(waveform, contents.jscc_symbols, contents.side_bytes, contents.repetition)
    except SdrError:
        return None
    consistent = plan.packets == contents.packet_count and contents.packet_index < plan.packets
    return plan if consistent else None
