"""The streaming receiver: samples in chunks of any size, images out.

Samples are processed in blocks at fixed absolute positions, so that the way a stream is cut into chunks cannot change
the result. Each block is searched as a whole, its candidate packets are confirmed together, and their headers decoded
together; only real packets are demodulated, those of equal length together.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Complex64, Int64

from sdr import header, sync
from sdr.assemble import Assembler, Packet, ReceivedImage
from sdr.batch import take
from sdr.blocks import BLOCK_SAMPLES, Block, Blocks
from sdr.candidate import Candidate, Reason
from sdr.demodulate import Demodulated, Heard, demodulate, listen, windows
from sdr.errors import SdrError
from sdr.excise import MARGIN_SAMPLES, excise_lines
from sdr.framing import FramePlan, plan_frame
from sdr.header import ForeignHeader, Header
from sdr.training import header_llr
from sdr.waveform import Waveform

__all__ = ["ReceivedImage", "Receiver"]

_STEADY_PERIODICITY = 0.05
"""Of noise 0.02; with a tone 12 dB weaker 0.055. Tiny packets back to back pass it too, which costs only time."""
_IMAGE_LIMIT = 8
_REMEMBERED = 128
"""Preambles and packets: more than can come within two blocks."""


@dataclass(frozen=True, eq=False)
class _Expected:
    """What a right header says of its packet, and which of its symbols have not come."""

    header: Header
    plan: FramePlan
    start: int
    missing: Bool[np.ndarray, "rows"]


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

    def __init__(
        self, waveform: Waveform, timeout_s: float = 0.5, *, observer: Callable[[Candidate], None] | None = None
    ) -> None:
        if not timeout_s > 0:
            raise SdrError(f"timeout_s must be positive, got {timeout_s}")
        self.waveform = waveform
        self.packets_rejected = 0
        self.packets_cut = 0
        self.packets_foreign = 0
        self._timeout_samples = round(timeout_s * waveform.sample_rate_hz)
        before, after = sync.reach(waveform)
        # Kept before a block for peaks on its edge; needed after it so that its packets are whole.
        margin = 2 * waveform.short_samples + MARGIN_SAMPLES
        history = before + margin
        ahead = max(waveform.packet_samples(waveform.payload_symbols), after) + margin
        ahead += -(history + BLOCK_SAMPLES + ahead) % MARGIN_SAMPLES
        self._blocks = Blocks(history, ahead)
        self._starts: deque[int] = deque(maxlen=_REMEMBERED)  # of the last preambles, whatever came of them
        self._packets: deque[tuple[Header, int, int]] = deque(maxlen=_REMEMBERED)  # with start and end
        self._assembler = Assembler(_IMAGE_LIMIT)
        self._observer = observer

    @property
    def bad_samples(self) -> int:
        """Samples that were NaN, infinite or absurdly large, and taken as 0."""
        return self._blocks.bad_samples

    def push(self, samples: Complex64[np.ndarray, "n"]) -> list[ReceivedImage]:
        """Take the next samples of the stream, at least none, and return the images that are done."""
        images: list[ReceivedImage] = []
        for block in self._blocks.push(samples):
            images += self._search(block)
            images += self._assembler.expire(block.offset + block.end - self._timeout_samples)
        return images

    def flush(self) -> list[ReceivedImage]:
        """End the stream: process what is left and return all images, complete or not."""
        images: list[ReceivedImage] = []
        for block in self._blocks.flush():
            images += self._search(block)
        return images + self._assembler.expire(sys.maxsize)

    def _search(self, block: Block) -> list[ReceivedImage]:
        """Find and demodulate the packets that start in the block."""
        waveform, margin = self.waveform, 2 * self.waveform.short_samples
        before, after = sync.reach(waveform)
        around = slice(block.first - margin, min(block.end + margin, block.samples.size))
        detection = sync.detect(block.samples[around], waveform)
        if detection.periodicity > _STEADY_PERIODICITY:
            block = replace(block, samples=excise_lines(block.samples))
            detection = sync.detect(block.samples[around], waveform)
        candidates = around.start + detection.candidates
        # Peaks before the block too: one may have moved across the edge. `_starts` knows those already served.
        candidates = candidates[
            (candidates >= before) & (candidates < block.end) & (candidates + after <= block.samples.size)
        ]
        if not candidates.size:
            return []
        found = sync.locate(block.samples, candidates, waveform)
        starts = self._starts_of(found) + block.offset
        if self._observer is not None:
            self._report_unconfirmed(candidates[candidates >= block.first] + block.offset, starts)
        new = np.array([self._is_new(start) for start in starts.tolist()], bool)
        header_end = found.long_start + 2 * waveform.fft_size + waveform.header_symbols * waveform.symbol_samples
        whole = header_end <= block.samples.size
        for start, cfo in zip(starts[new & ~whole].tolist(), found.cfo[new & ~whole].tolist(), strict=True):
            self._reject(start, cfo, Reason.CUT)
        if not np.any(new & whole):
            return []
        return self._receive(block, listen(block.samples, take(found, new & whole), waveform))

    def _starts_of(self, found: sync.Found) -> Int64[np.ndarray, "packets"]:
        """Estimated first samples of packets."""
        return found.long_start + sync.EARLY_SAMPLES - (self.waveform.preamble_samples - 2 * self.waveform.fft_size)

    def _is_new(self, start: int) -> bool:
        """Whether no packet that starts there has been listened to yet."""
        if any(abs(start - known) <= self.waveform.cyclic_prefix for known in self._starts):
            return False
        self._starts.append(start)
        return True

    def _receive(self, block: Block, heard: Heard) -> list[ReceivedImage]:
        """Demodulate the packets whose headers are right and return the images that they complete."""
        starts = (self._starts_of(heard.found) + block.offset).tolist()
        headers = zip(self._headers(heard), starts, heard.found.long_start.tolist(), strict=True)
        outcomes = [self._judge(contents, start, long_start, block) for contents, start, long_start in headers]
        expected = {index: outcome for index, outcome in enumerate(outcomes) if isinstance(outcome, _Expected)}
        packets = self._demodulate(block, heard, expected)
        images: list[ReceivedImage] = []
        for index, (outcome, start, cfo) in enumerate(zip(outcomes, starts, heard.found.cfo.tolist(), strict=True)):
            if isinstance(outcome, Reason):
                self._reject(start, cfo, outcome)
            elif outcome is not None:
                packet, result, place = packets[index]
                self.packets_cut += bool(packet.missing_symbols)
                if self._observer is not None:
                    state, spectrum = take(result.state, place), result.spectrum[place]
                    self._observer(Candidate(start, packet.cfo_hz, packet=packet, state=state, spectrum=spectrum))
                images += self._assembler.add(packet, outcome.plan)
        return images

    def _headers(self, heard: Heard) -> list[Header | ForeignHeader | None]:
        """Contents of the headers; those that fail are tried again with a better channel estimate."""
        headers: list[Header | ForeignHeader | None] = [None] * len(heard.spectrum)
        for sparse in (False, True):
            left = np.array([index for index, contents in enumerate(headers) if contents is None], np.int64)
            if left.size:
                llr = header_llr(heard.spectrum[left], take(heard.training, left), self.waveform, sparse=sparse)
                for index, contents in zip(left.tolist(), header.demodulate(llr, self.waveform), strict=True):
                    headers[index] = contents
        return headers

    def _judge(
        self, contents: Header | ForeignHeader | None, start: int, long_start: int, block: Block
    ) -> _Expected | Reason | None:
        """What there is to demodulate behind a header, or why there is nothing; None for a late echo."""
        if isinstance(contents, ForeignHeader):
            return Reason.FOREIGN
        under = [known for known, first, end in self._packets if first < start < end]
        if contents is None:
            return Reason.OVERLAP if under else Reason.HEADER
        if contents in under:
            return None
        plan = plan_of(contents, self.waveform)
        if plan is None:
            return Reason.CONTRADICTION
        first = 2 + self.waveform.header_symbols
        missing = self._missing_rows(block, long_start, first + plan.payload_symbols)
        if missing[first:].all():
            return Reason.CUT
        self._packets.append((contents, start, start + self.waveform.packet_samples(plan.payload_symbols)))
        return _Expected(contents, plan, start, missing)

    def _missing_rows(self, block: Block, long_start: int, rows: int) -> Bool[np.ndarray, "rows"]:
        """Which symbols from the first long one on have samples that are missing, or end beyond the stream."""
        size = self.waveform.fft_size
        first = long_start + windows(self.waveform, rows)
        missing = first + size > block.samples.size
        if block.missing[first[0] : first[-1] + size].any():
            missing |= [bool(block.missing[begin : begin + size].any()) for begin in first]
        return np.asarray(missing)

    def _demodulate(
        self, block: Block, heard: Heard, expected: dict[int, _Expected]
    ) -> dict[int, tuple[Packet, Demodulated, int]]:
        """By their place in what was heard: packets, what they were demodulated to, and where they are in that."""
        samples = block.samples
        if any(one.missing[-1] for one in expected.values()):  # the stream ends within them
            samples = np.pad(samples, (0, self.waveform.packet_samples(self.waveform.payload_symbols)))
        packets = {}
        for length in sorted({len(one.missing) for one in expected.values()}):
            alike = {index: one for index, one in expected.items() if len(one.missing) == length}
            points = header.modulate([one.header for one in alike.values()], self.waveform)
            missing = np.stack([one.missing for one in alike.values()])
            result = demodulate(samples, take(heard, np.array(list(alike))), points, missing, self.waveform)
            for place, (index, packet) in enumerate(
                zip(alike, _packets(result, alike.values(), self.waveform), strict=True)
            ):
                packets[index] = packet, result, place
        return packets

    def _reject(self, start: int, cfo: float, reason: Reason) -> None:
        if reason is Reason.FOREIGN:
            self.packets_foreign += 1
        else:
            self.packets_rejected += 1
        self._tell(Candidate(start, cfo * self.waveform.sample_rate_hz, reason))

    def _report_unconfirmed(
        self, candidates: Int64[np.ndarray, "candidates"], starts: Int64[np.ndarray, "found"]
    ) -> None:
        """Tell the observer of candidates that are far from any confirmed preamble."""
        nearest = np.abs(candidates[:, None] - starts).min(axis=1, initial=self.waveform.preamble_samples)
        for candidate in candidates[nearest > sync.reach(self.waveform)[0]].tolist():
            self._tell(Candidate(candidate, None, Reason.UNCONFIRMED))

    def _tell(self, candidate: Candidate) -> None:
        if self._observer is not None:
            self._observer(candidate)


def _packets(result: Demodulated, expected: Iterable[_Expected], waveform: Waveform) -> list[Packet]:
    state, noise = result.state, result.state.noise
    numbers = (state.snr * noise, noise, result.cfo * waveform.sample_rate_hz, -1e6 * state.drift)
    rows = zip(expected, result.symbols, result.noise_var, result.missing_symbols.tolist(), *numbers, strict=True)
    return [
        Packet(
            header=one.header,
            start_sample=one.start,
            end_sample=one.start + waveform.packet_samples(one.plan.payload_symbols),
            symbols=symbols,
            noise_var=noise_var,
            signal=float(signal),
            noise=float(noise),
            cfo_hz=float(cfo_hz),
            sfo_ppm=float(sfo_ppm),
            missing_symbols=missing,
        )
        for one, symbols, noise_var, missing, signal, noise, cfo_hz, sfo_ppm in rows
    ]


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
