"""The streaming receiver: samples in chunks of any size, images out.

Samples are processed in blocks at fixed absolute positions, so that the way a stream is cut into chunks cannot change
the result. Each block is searched as a whole, its candidate packets are confirmed together, and their headers decoded
together; only real packets are demodulated.
"""

from collections import deque
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Complex64, Int64

from sdr import header, sync
from sdr.assemble import Assembler, Packet, ReceivedImage
from sdr.candidate import Candidate, Reason
from sdr.demodulate import Demodulated, Heard, demodulate, listen, windows
from sdr.errors import SdrError
from sdr.excise import MARGIN_SAMPLES, excise_lines
from sdr.framing import FramePlan, plan_frame
from sdr.header import ForeignHeader, Header
from sdr.training import header_llr
from sdr.waveform import Waveform

__all__ = ["ReceivedImage", "Receiver"]

_BLOCK_SAMPLES = 1 << 16
_DC_BLOCKS = 8
_DC_CHANCES = 16.0
"""The squared mean of white noise exceeds this many times its expectation with probability exp(-16)."""
_STEADY_PERIODICITY = 0.05
"""Of noise 0.02; with a tone 12 dB weaker 0.055. Tiny packets back to back pass it too, which costs only time."""
_IMAGE_LIMIT = 8
_REMEMBERED = 64
"""Preambles and packets: more than can come within two blocks."""
_SAMPLE_LIMIT = 1e6
"""Anything larger than this many full scales is no sample; its square must not overflow."""


class Receiver:
    """Finds and demodulates every image in a stream of samples.

    An image is returned when all its packets have come, or when `timeout_s` of stream time have passed since its last
    one. Memory is bounded whatever the stream holds. After `flush` the receiver is ready for another stream.
    Samples that are missing, NaN in the stream, or that lie beyond its end cost the OFDM symbols that they are part of;
    the rest of the packet is kept. Packets on top of one another are received as far as their headers can be decoded;
    what each does to the other is in `noise_var`. `observer` is told of every place where the detector fired and of
    what came of it.
    """

    packets_rejected: int
    """Preambles found whose header failed its CRC or contradicted itself, or whose payload was all cut off."""
    packets_cut: int
    """Packets received of which OFDM symbols are missing; their symbols are erased."""
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
        self.packets_cut = 0
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
        self._starts: deque[int] = deque(maxlen=_REMEMBERED)  # of the last preambles, whatever came of them
        self._packets: deque[tuple[Header, int, int]] = deque(maxlen=_REMEMBERED)  # with start and end
        self._levels: deque[tuple[complex, float, int]] = deque(maxlen=_DC_BLOCKS)  # sum, energy and size of blocks
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
        self._levels.clear()
        self._buffer[: self._history] = 0
        self._missing[: self._history] = False
        return images

    def _step(self) -> list[ReceivedImage]:
        """Process one block and shift the buffer by it."""
        self._clean()
        block_end = min(self._history + _BLOCK_SAMPLES, self._filled)
        view = self._without_dc(self._buffer[self._history : block_end])
        images = self._search(view)
        passed = block_end - self._history
        images += self._assembler.expire(self._position + passed - self._timeout_samples)
        kept = self._filled - passed
        for kind in (self._buffer, self._missing):
            kind[:kept] = kind[passed : self._filled].copy()
        self._filled, self._cleaned = kept, self._cleaned - passed
        self._position += passed
        return images

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
        # Peaks before the block too: one may have moved across the edge. `_starts` knows those already served.
        candidates = candidates[
            (candidates >= before) & (candidates < self._history + _BLOCK_SAMPLES) & (candidates + after <= view.size)
        ]
        located = sync.locate(view, candidates, waveform)
        if self._observer is not None:
            self._report_unconfirmed(candidates, located, offset)
        heard = [found for found in located if self._is_new(found, view.size, offset)]
        images: list[ReceivedImage] = []
        listened = [listen(view, found, waveform) for found in heard]
        for contents, one in zip(self._headers(listened), listened, strict=True):
            images += self._receive(view, one, contents, offset)
        return images

    def _is_new(self, found: sync.Found, available: int, offset: int) -> bool:
        """Whether there is a header to decode that has not been yet."""
        waveform, start = self.waveform, self._start(found) + offset
        if any(abs(start - known) <= waveform.cyclic_prefix for known in self._starts):
            return False
        self._starts.append(start)
        training = 2 * waveform.fft_size + waveform.header_symbols * waveform.symbol_samples
        if found.long_start + training > available:
            self._reject(start, found.cfo, Reason.CUT)
            return False
        return True

    def _headers(self, heard: list[Heard]) -> list[Header | ForeignHeader | None]:
        """Contents of the headers; those that fail are tried again with a better channel estimate."""
        waveform = self.waveform
        headers: list[Header | ForeignHeader | None] = [None] * len(heard)
        for sparse in (False, True):
            left = [index for index, contents in enumerate(headers) if contents is None]
            if left:
                llr = [header_llr(heard[i].spectrum, heard[i].training, waveform, sparse=sparse) for i in left]
                for index, contents in zip(left, header.demodulate(np.stack(llr), waveform), strict=True):
                    headers[index] = contents
        return headers

    def _receive(
        self, view: Complex64[np.ndarray, "n"], heard: Heard, contents: Header | ForeignHeader | None, offset: int
    ) -> list[ReceivedImage]:
        """Demodulate the packet behind a header and return the images that it completes."""
        waveform, found = self.waveform, heard.found
        start = self._start(found) + offset
        under = [known for known, first, end in self._packets if first < start < end]
        if isinstance(contents, ForeignHeader):
            self.packets_foreign += 1
            self._report(start, found.cfo, Reason.FOREIGN)
            return []
        if contents is None:
            self._reject(start, found.cfo, Reason.OVERLAP if under else Reason.HEADER)
            return []
        if contents in under:  # a late echo
            return []
        plan = plan_of(contents, waveform)
        if plan is None:
            self._reject(start, found.cfo, Reason.CONTRADICTION)
            return []
        first = 2 + waveform.header_symbols
        missing = self._missing_rows(view.size, found, first + plan.payload_symbols)
        if missing[first:].all():
            self._reject(start, found.cfo, Reason.CUT)
            return []
        if missing[-1]:
            view = np.pad(view, (0, waveform.packet_samples(plan.payload_symbols)))
        result = demodulate(view, heard, header.modulate(contents, waveform), missing, waveform)
        packet = _packet(result, contents, plan, start, waveform)
        self.packets_cut += bool(packet.missing_symbols)
        self._packets.append((contents, start, packet.end_sample))
        if self._observer is not None:
            told = Candidate(start, packet.cfo_hz, packet=packet, state=result.state, spectrum=result.spectrum)
            self._observer(told)
        return self._assembler.add(packet, plan)

    def _start(self, found: sync.Found) -> int:
        """Estimated first sample of a packet."""
        return found.long_start + sync.EARLY_SAMPLES - (self.waveform.preamble_samples - 2 * self.waveform.fft_size)

    def _missing_rows(self, available: int, found: sync.Found, rows: int) -> Bool[np.ndarray, "rows"]:
        """Which symbols from the first long one on have samples that are missing, or end beyond the stream."""
        size = self.waveform.fft_size
        first = found.long_start + windows(self.waveform, rows)
        missing = first + size > available
        if self._missing[first[0] : first[-1] + size].any():
            missing |= [bool(self._missing[begin : begin + size].any()) for begin in first]
        return np.asarray(missing)

    def _reject(self, start: int, cfo: float | None, reason: Reason) -> None:
        self.packets_rejected += 1
        self._report(start, cfo, reason)

    def _report(self, start: int, cfo: float | None, reason: Reason) -> None:
        """Tell the observer of a candidate that is no packet."""
        if self._observer is not None:
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


def _packet(result: Demodulated, contents: Header, plan: FramePlan, start: int, waveform: Waveform) -> Packet:
    state = result.state
    return Packet(
        header=contents,
        start_sample=start,
        end_sample=start + waveform.packet_samples(plan.payload_symbols),
        symbols=result.symbols,
        noise_var=result.noise_var,
        signal=state.snr * state.noise,
        noise=state.noise,
        cfo_hz=result.cfo * waveform.sample_rate_hz,
        sfo_ppm=-1e6 * state.drift,
        missing_symbols=result.missing_symbols,
    )


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
