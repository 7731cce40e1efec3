"""A device's stream as the receiver wants it: at the waveform's rate, what is missing marked, what is wrong counted."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Complex64, Float32

from sdr.calibrated import balance
from sdr.conversion import convert, plan_conversion
from sdr.devices.base import Chunk, Device, DeviceError
from sdr.errors import SdrError
from sdr.waveform import Waveform

_ZERO_RUN = 256
"""Samples of exactly 0 in a row that no receiver hears: a driver put them where it had lost what came."""
_LONGEST_GAP_S = 1.0
"""Longer gaps are shortened to this, which is past the receiver's time-out."""
_SAMPLE_LIMIT = 1e6
_PILE = 2
"""Clipping piles values up: the largest comes this much more often than the next to it."""
_FULL_SCALE = 0.95
_CLIPPED_SHARE = 1e-3
"""Share of clipped values worth a warning; below it clipping costs less than quantisation to 8 bits."""
_CHUNK_SAMPLES = 1 << 18
_PATIENCE_S = 0.1


class Playback:
    """Samples of a device at a waveform's rate, in order, in chunks; NaN where samples are missing.

    Missing are samples that are NaN, infinite or absurdly large, runs of 256 and more that are exactly 0, and those
    that the device or a recorder lost (up to a second of each gap). If nobody knows how many were lost, as many are
    marked as a packet has: one that began before the gap then ends in it, and whatever begins after it is whole.

    Iterating starts and stops the device; an empty chunk says that nothing came for a moment. It ends with the device's
    stream, after `stop`, or when the device vanishes, of which `failure` then tells: what came before is good. What was
    met is known after iterating. Raises SdrError if the device's rate cannot be converted, and while iterating if a
    recording cannot be read.
    """

    missing_samples: int
    """At the device's rate, of all kinds."""
    bad_samples: int
    """NaN, infinite or larger than 10⁶ full scales."""
    samples: int
    """Received, at the device's rate, without those missing in gaps."""
    gaps: list[tuple[int, int]]
    """Sample, counted without gaps, before which samples were lost, and how many."""
    failure: DeviceError | None

    def __init__(self, device: Device, waveform: Waveform) -> None:
        self.device = device
        try:
            self.conversion = plan_conversion(device.rate_hz, waveform)
        except SdrError as error:
            raise SdrError(f"{device.name}: {error}") from error
        self._longest_gap = round(_LONGEST_GAP_S * device.rate_hz)
        packet_s = waveform.packet_samples(waveform.payload_symbols) / waveform.sample_rate_hz
        self._unknown_gap = math.ceil(packet_s * device.rate_hz)
        self._restart()

    def _restart(self) -> None:
        self.samples = self.missing_samples = self.bad_samples = self._guessed = 0
        self.gaps = []
        self.failure = None
        self._stopped = False
        self._extremes = (_Extreme(), _Extreme())

    def __iter__(self) -> Iterator[Complex64[np.ndarray, "_"]]:
        self._restart()
        return convert(self._balanced(self._without_zero_runs(self._examined())), self.conversion)

    def stop(self) -> None:
        """Let the stream end with what has been read; may be called from a signal handler."""
        self._stopped = True

    def length(self, samples: int, gaps: Iterable[tuple[int, int]]) -> int:
        """How long a stream of that many samples with these gaps becomes."""
        samples += sum(min(lost, self._longest_gap) for _, lost in gaps)
        return -(-samples * self.conversion.up // self.conversion.down)

    @property
    def clipped_share(self) -> float:
        """Share of I and Q values that stand at the largest or smallest value, if they pile up there."""
        least = _FULL_SCALE if self.device.live else 0.0  # a recording's full scale may be anything
        piled = [side.count for side in self._extremes if side.value > least and side.piled_up]
        return sum(piled) / max(2 * self.samples, 1)

    def device_sample(self, sample: int) -> int:
        """Sample of the device, counted without gaps, that became sample number `sample` of the stream."""
        at = sample * self.conversion.down // self.conversion.up
        for start, lost in self.gaps:
            if at > start:
                at = max(start, at - min(lost, self._longest_gap))
        return at

    def describe(self) -> dict[str, Any]:
        """The device and the condition of what came from it, for JSON."""
        return {
            **self.device.describe(),
            "samples": self.samples,
            "resampled": [self.conversion.up, self.conversion.down],
            "clipped_share": self.clipped_share,
            "bad_samples": self.bad_samples,
            "missing_samples": self.missing_samples,
        }

    def notes(self) -> list[str]:
        """What was odd about the stream and how it was taken, in words."""
        rate_hz, conversion = self.device.rate_hz, self.conversion
        notes = self.device.notes()
        if conversion.up != conversion.down:
            notes.append(f"resampled from {rate_hz / 1e6:g} Msps by {conversion.up}/{conversion.down}")
        if self.clipped_share > _CLIPPED_SHARE:
            notes.append(f"clipped: {100 * self.clipped_share:.2g} % of the values are at full scale; lower the gain")
        if self.bad_samples:
            notes.append(f"{self.bad_samples} samples are NaN, infinite or absurdly large: taken as missing")
        gaps = sum(min(lost, self._longest_gap) for _, lost in self.gaps)
        if gaps:
            start, lost = max(self.gaps, key=lambda gap: gap[1])
            total = sum(lost for _, lost in self.gaps)
            notes.append(
                f"{total} samples were not recorded, in {len(self.gaps)} gap{'s' * (len(self.gaps) > 1)}; "
                f"the longest is {lost / rate_hz:.3g} s, before sample {start}"
                + (f", and taken as {_LONGEST_GAP_S:g} s" if lost > self._longest_gap else "")
                + (f"; {self._guessed} of unknown length are taken as a packet's" if self._guessed else "")
            )
        if zeros := self.missing_samples - self.bad_samples - gaps:
            notes.append(f"{zeros} samples are zeros, {_ZERO_RUN} or more in a row: taken as missing")
        return notes

    def _examined(self) -> Iterator[Complex64[np.ndarray, "_"]]:
        """The device's samples, bad ones replaced by NaN, and NaN in its gaps."""
        for chunk in self._received():
            if chunk.overflow or chunk.lost_samples:
                lost = chunk.lost_samples or self._unknown_gap
                self._guessed += not chunk.lost_samples
                self.gaps.append((self.samples, lost))
                left = min(lost, self._longest_gap)
                self.missing_samples += left
                while left:
                    yield np.full(min(left, _CHUNK_SAMPLES), np.nan, np.complex64)
                    left -= min(left, _CHUNK_SAMPLES)
            samples = chunk.samples
            self.samples += samples.size
            if samples.size:
                self._examine(samples)
            yield samples

    def _balanced(self, chunks: Iterator[Complex64[np.ndarray, "_"]]) -> Iterator[Complex64[np.ndarray, "_"]]:
        """Without the receiver's imbalance, as far as it is known; after zeros and clipped values were looked for."""
        error = self.device.imbalance
        return chunks if error is None else (balance(chunk, error) for chunk in chunks)

    def _received(self) -> Iterator[Chunk]:
        try:
            self.device.start()
            try:
                while not self._stopped and (chunk := self.device.read(_PATIENCE_S)) is not None:
                    yield chunk
            finally:
                self.device.stop()
        except DeviceError as error:
            self.failure = error

    def _examine(self, samples: Complex64[np.ndarray, "_"]) -> None:
        """Replace bad samples by NaN, and count."""
        values = samples.view(np.float32)
        bad = None
        if not np.abs(values).max() <= _SAMPLE_LIMIT:  # true for NaN, too
            bad = ~((np.abs(samples.real) <= _SAMPLE_LIMIT) & (np.abs(samples.imag) <= _SAMPLE_LIMIT))
            samples[bad] = 0
            self.bad_samples += int(np.count_nonzero(bad))
        for side, sign in zip(self._extremes, (1, -1), strict=True):
            side.add(sign * values)
        if bad is not None:
            samples[bad] = np.nan
            self.missing_samples += int(np.count_nonzero(bad))

    def _without_zero_runs(self, chunks: Iterable[Complex64[np.ndarray, "_"]]) -> Iterator[Complex64[np.ndarray, "_"]]:
        """Long runs of zeros become NaN, wherever the chunks cut them."""
        held = 0  # zeros at the end of what came, too few as yet to tell
        within = False  # what came ended in a run that is long enough
        for chunk in chunks:
            if not chunk.size:
                yield chunk
                continue
            samples = np.concatenate([np.zeros(held, np.complex64), chunk])
            edges = np.flatnonzero(np.diff(samples == 0, prepend=False, append=False))
            starts, ends = edges[::2], edges[1::2]
            long = (ends - starts >= _ZERO_RUN) | ((starts == 0) & within)
            for start, end in zip(starts[long].tolist(), ends[long].tolist(), strict=True):
                samples[start:end] = np.nan
                self.missing_samples += end - start
            open_end = bool(ends.size) and int(ends[-1]) == samples.size
            within = open_end and bool(long[-1])
            held = samples.size - int(starts[-1]) if open_end and not within else 0
            yield samples[: samples.size - held]
        yield np.zeros(held, np.complex64)


@dataclass
class _Extreme:
    """The largest value of a stream and the next to it, and how often they came."""

    value: float = -np.inf
    count: int = 0
    next_value: float = -np.inf
    next_count: int = 0

    def add(self, values: Float32[np.ndarray, "n"]) -> None:
        """Take more values. Counts are exact: what is among the largest two in all is so wherever it comes."""
        largest = np.inf
        for _ in range(2):
            largest = float(np.max(values, where=values < largest, initial=-np.inf))
            self._merge(largest, int(np.count_nonzero(values == largest)))

    @property
    def piled_up(self) -> bool:
        return self.count > max(_PILE * self.next_count, 1)

    def _merge(self, value: float, count: int) -> None:
        if value == self.value:
            self.count += count
        elif value == self.next_value:
            self.next_count += count
        elif value > self.value:
            self.next_value, self.next_count = self.value, self.count
            self.value, self.count = value, count
        elif value > self.next_value:
            self.next_value, self.next_count = value, count
