"""A SigMF recording as a device: what is in it is received, what is transmitted is written into a new one."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Complex64

from sdr.devices.base import Chunk, Device
from sdr.errors import SdrError
from sdr.recording import Recording, RecordingWriter
from sdr.transmit import PacketSpan
from sdr.waveform import Waveform

_CHUNK_SAMPLES = 1 << 18


class RecordingDevice(Device):
    """Reads a recording; every start begins at its first sample, its end is the end of the stream."""

    kind = "recording"
    timed = True

    def __init__(self, recording: Recording) -> None:
        super().__init__(str(recording.data_path), recording.sample_rate_hz)
        self.recording = recording
        self._chunks: Iterator[Chunk] = iter(())
        self._read_s = 0.0

    def now_s(self) -> float:
        """Time of the sample that comes next, gaps included."""
        return self._read_s

    def describe(self) -> dict[str, Any]:
        """What it is, for JSON."""
        recording = self.recording
        return {
            "file": str(recording.data_path),
            "datatype": recording.datatype,
            "sample_rate_hz": recording.sample_rate_hz,
            "samples": recording.samples,
            "gaps": [{"sample": sample, "missing": missing} for sample, missing in recording.gaps],
        }

    def notes(self) -> list[str]:
        """What was odd about the files, in words for people."""
        return list(self.recording.notes)

    def _start(self) -> None:
        self._chunks, self._read_s = _with_gaps(self.recording), 0.0

    def _read(self, timeout_s: float) -> Chunk | None:
        chunk = next(self._chunks, None)
        if chunk is not None:
            assert chunk.time_s is not None
            self._read_s = chunk.time_s + chunk.samples.size / self.rate_hz
        return chunk

    def _stop(self) -> None:
        self._chunks = iter(())

    def _transmit(self, samples: Complex64[np.ndarray, "n"], spans: Sequence[PacketSpan], at_s: float | None) -> None:
        raise SdrError(f"{self.name} is a recording to be read: nothing can be sent into it")

    def _close(self) -> None:
        pass


class RecorderDevice(Device):
    """Writes what is transmitted, burst after burst, into a recording that appears when this is closed.

    `facts` says what is in it, and is read only then.
    """

    kind = "recording"

    def __init__(self, path: Path, waveform: Waveform, facts: Mapping[str, Any]) -> None:
        super().__init__(str(path), waveform.sample_rate_hz)
        self._writer = RecordingWriter(path, waveform, facts)

    def _start(self) -> None:
        raise SdrError(f"{self.name} is being written: nothing can be received from it")

    def _read(self, timeout_s: float) -> Chunk | None:
        return None

    def _stop(self) -> None:
        pass

    def _transmit(self, samples: Complex64[np.ndarray, "n"], spans: Sequence[PacketSpan], at_s: float | None) -> None:
        self._writer.append(samples, spans)

    def _close(self) -> None:
        if self._writer.samples:
            self._writer.close()
        else:
            self._writer.discard()


def _with_gaps(recording: Recording) -> Iterator[Chunk]:
    """The recording in chunks that begin where captures leave samples out."""
    position, lost_before, gaps, lost = 0, 0, list(recording.gaps), 0
    for samples in recording.chunks(_CHUNK_SAMPLES):
        while samples.size:
            while gaps and gaps[0][0] == position:
                lost += gaps[0][1]
                lost_before += gaps.pop(0)[1]
            until = gaps[0][0] - position if gaps else samples.size
            piece, samples = samples[:until], samples[until:]
            yield Chunk(piece, (position + lost_before) / recording.sample_rate_hz, lost, lost > 0)
            position, lost = position + piece.size, 0
