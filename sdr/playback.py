"""A recording as the receiver wants it: at the waveform's rate, what is missing marked, what is wrong counted."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex64, Float32

from sdr.conversion import convert, plan_conversion
from sdr.errors import SdrError
from sdr.recording import Recording
from sdr.waveform import Waveform

_ZERO_RUN = 256
"""Samples of exactly 0 in a row that no receiver hears: a driver put them where it had lost what came."""
_LONGEST_GAP_S = 1.0
"""Longer gaps are shortened to this, which is past the receiver's time-out."""
_SAMPLE_LIMIT = 1e6
_PILE = 2
"""Clipping piles values up: the largest comes this much more often than the next to it."""
_CLIPPED_SHARE = 1e-3
"""Share of clipped values worth a warning; below it clipping costs less than quantisation to 8 bits."""
_CHUNK_SAMPLES = 1 << 18


class Playback:
    """Samples of a recording at a waveform's rate, in order, in chunks; NaN where samples are missing.

    Missing are samples that are NaN, infinite or absurdly large, runs of 256 and more that are exactly 0, and those
    that the recorder left out between captures (up to a second of each gap). What was met is known after iterating.
    Raises SdrError if the recording's rate cannot be converted, and while iterating if it cannot be read.
    """

    missing_samples: int
    """At the recording's rate, of all kinds."""
    bad_samples: int
    """NaN, infinite or larger than 10⁶ full scales."""

    def __init__(self, recording: Recording, waveform: Waveform) -> None:
        self.recording = recording
        try:
            self.conversion = plan_conversion(recording.sample_rate_hz, waveform)
        except SdrError as error:
            raise SdrError(f"{recording.data_path}: {error}") from error
        self._longest_gap = round(_LONGEST_GAP_S * recording.sample_rate_hz)
        self._restart()

    def _restart(self) -> None:
        self.missing_samples = self.bad_samples = 0
        self._extremes = (_Extreme(), _Extreme())

    def __iter__(self) -> Iterator[Complex64[np.ndarray, "_"]]:
        self._restart()
        return convert(self._with_gaps(self._without_zero_runs(self._examined())), self.conversion)

    def __len__(self) -> int:
        """Samples of the whole stream."""
        samples = self.recording.samples + sum(min(lost, self._longest_gap) for _, lost in self.recording.gaps)
        return -(-samples * self.conversion.up // self.conversion.down)

    @property
    def clipped_share(self) -> float:
        """Share of I and Q values that stand at the largest or smallest value, if they pile up there."""
        piled = [
            side.count for side in self._extremes if side.value > 0 and side.count > max(_PILE * side.next_count, 1)
        ]
        return sum(piled) / (2 * self.recording.samples)

    def file_sample(self, sample: int) -> int:
        """Sample of the data file that became sample number `sample` of the stream."""
        at = sample * self.conversion.down // self.conversion.up
        for start, lost in self.recording.gaps:
            if at > start:
                at = max(start, at - min(lost, self._longest_gap))
        return at

    def notes(self) -> list[str]:
        """What was odd about the recording and how it was taken, in words."""
        recording, conversion = self.recording, self.conversion
        notes = list(recording.notes)
        if conversion.up != conversion.down:
            notes.append(f"resampled from {recording.sample_rate_hz / 1e6:g} Msps by {conversion.up}/{conversion.down}")
        if self.clipped_share > _CLIPPED_SHARE:
            notes.append(f"clipped: {100 * self.clipped_share:.2g} % of the values are at full scale; lower the gain")
        if self.bad_samples:
            notes.append(f"{self.bad_samples} samples are NaN, infinite or absurdly large: taken as missing")
        gaps = sum(min(lost, self._longest_gap) for _, lost in recording.gaps)
        if gaps:
            start, lost = max(recording.gaps, key=lambda gap: gap[1])
            total = sum(lost for _, lost in recording.gaps)
            notes.append(
                f"{total} samples were not recorded, in {len(recording.gaps)} gap{'s' * (len(recording.gaps) > 1)} "
                f"between captures; the longest is {lost / recording.sample_rate_hz:.3g} s, before sample {start}"
                + (f", and taken as {_LONGEST_GAP_S:g} s" if lost > self._longest_gap else "")
            )
        if zeros := self.missing_samples - self.bad_samples - gaps:
            notes.append(f"{zeros} samples are zeros, {_ZERO_RUN} or more in a row: taken as missing")
        return notes

    def _examined(self) -> Iterator[Complex64[np.ndarray, "_"]]:
        """The recording's samples, bad ones replaced by NaN."""
        for chunk in self.recording.chunks(_CHUNK_SAMPLES):
            values = chunk.view(np.float32)
            bad = None
            if not np.abs(values).max() <= _SAMPLE_LIMIT:  # true for NaN, too
                bad = ~((np.abs(chunk.real) <= _SAMPLE_LIMIT) & (np.abs(chunk.imag) <= _SAMPLE_LIMIT))
                chunk[bad] = 0
                self.bad_samples += int(np.count_nonzero(bad))
            for side, sign in zip(self._extremes, (1, -1), strict=True):
                side.add(sign * values)
            if bad is not None:
                chunk[bad] = np.nan
                self.missing_samples += int(np.count_nonzero(bad))
            yield chunk

    def _without_zero_runs(self, chunks: Iterable[Complex64[np.ndarray, "_"]]) -> Iterator[Complex64[np.ndarray, "_"]]:
        """Long runs of zeros become NaN, wherever the chunks cut them."""
        held = 0  # zeros at the end of what came, too few as yet to tell
        within = False  # what came ended in a run that is long enough
        for chunk in chunks:
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

    def _with_gaps(self, chunks: Iterable[Complex64[np.ndarray, "_"]]) -> Iterator[Complex64[np.ndarray, "_"]]:
        """NaN where captures leave samples out."""
        position = 0
        gaps = list(self.recording.gaps)
        for chunk in chunks:
            while gaps and gaps[0][0] < position + chunk.size:
                start, lost = gaps.pop(0)
                yield chunk[: start - position]
                chunk, position = chunk[start - position :], start
                left = min(lost, self._longest_gap)
                self.missing_samples += left
                while left:
                    yield np.full(min(left, _CHUNK_SAMPLES), np.nan, np.complex64)
                    left -= min(left, _CHUNK_SAMPLES)
            yield chunk
            position += chunk.size


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
        return self.value > 0 and self.count > max(_PILE * self.next_count, 1)

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
