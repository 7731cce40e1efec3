"""SigMF recordings (sigmf.org, core 1.2): JSON beside raw samples, written atomically and read in chunks."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Complex64

from sdr.errors import SdrError
from sdr.transmit import PacketSpan
from sdr.waveform import Waveform

_EXTENSION = "lrisc"
_META, _DATA = ".sigmf-meta", ".sigmf-data"
_CHUNK_SAMPLES = 1 << 18
_RATE_LIMIT_HZ = 1e12


@dataclass(frozen=True)
class _Datatype:
    scalar: str
    full_scale: float


DATATYPES: dict[str, _Datatype] = {
    "cf32_le": _Datatype("<f4", 1.0),
    "ci16_le": _Datatype("<i2", 32768.0),
    "ci8": _Datatype("i1", 128.0),
}
_RAW = {
    ".cf32": "cf32_le",
    ".fc32": "cf32_le",
    ".cfile": "cf32_le",
    ".cs16": "ci16_le",
    ".sc16": "ci16_le",
    ".cs8": "ci8",
    ".sc8": "ci8",
}
"""Datatypes by the names that raw files usually have."""


class RecordingWriter:
    """A cf32_le recording in the making, one annotation per packet; it appears under its name when it is closed.

    `extra` goes under `lrisc:` into the global object, and `truth`, what is known of how the samples came about, into
    one more annotation that spans all of them. Raises SdrError, then and later, if the name does not end in .sigmf-meta
    or the folder cannot be written.
    """

    def __init__(
        self, meta_path: Path, waveform: Waveform, extra: Mapping[str, Any], truth: Mapping[str, Any] | None = None
    ) -> None:
        if meta_path.suffix != _META:
            raise SdrError(f"a recording's name must end in {_META}, got {meta_path.name}")
        self._meta_path, self._waveform, self._extra, self._truth = meta_path, waveform, extra, truth
        self._data_path = meta_path.with_suffix(_DATA)
        self._temporary = _temporary(self._data_path)
        self._packets: list[PacketSpan] = []
        self._begun = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        self.samples = 0
        try:
            self._file = open(self._temporary, "wb")  # noqa: SIM115
        except OSError as error:
            raise SdrError(f"cannot write {self._data_path}: {error.strerror}") from error

    def append(self, samples: Complex64[np.ndarray, "n"], packets: Sequence[PacketSpan]) -> None:
        """Write more samples; `packets` lie in them."""
        try:
            self._file.write(np.ascontiguousarray(samples, dtype="<c8").tobytes())
        except OSError as error:
            self.discard()
            raise SdrError(f"cannot write {self._data_path}: {error.strerror}") from error
        self._packets += [PacketSpan(self.samples + span.start_sample, span.samples) for span in packets]
        self.samples += samples.size

    def close(self) -> None:
        """Give both files their names."""
        try:
            self._file.close()
            os.replace(self._temporary, self._data_path)
        except OSError as error:
            self.discard()
            raise SdrError(f"cannot write {self._data_path}: {error.strerror}") from error
        _replace(self._meta_path, (json.dumps(self._meta(), indent=2) + "\n").encode())

    def discard(self) -> None:
        """Leave nothing behind."""
        with suppress(OSError):
            self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _meta(self) -> dict[str, Any]:
        waveform = self._waveform
        edge_hz = (waveform.edge_carrier + 0.5) * waveform.sample_rate_hz / waveform.fft_size
        return {
            "global": {
                "core:datatype": "cf32_le",
                "core:sample_rate": waveform.sample_rate_hz,
                "core:version": "1.2.0",
                "core:num_channels": 1,
                "core:description": "photographs sent by lrisc",
                "core:extensions": [{"name": _EXTENSION, "version": "1.0.0", "optional": True}],
                f"{_EXTENSION}:waveform": waveform.name,
                **{f"{_EXTENSION}:{key}": value for key, value in self._extra.items()},
            },
            "captures": [{"core:sample_start": 0, "core:datetime": self._begun}],
            "annotations": [
                *self._truths(),
                *(
                    {
                        "core:sample_start": packet.start_sample,
                        "core:sample_count": packet.samples,
                        "core:freq_lower_edge": -edge_hz,
                        "core:freq_upper_edge": edge_hz,
                        "core:label": f"packet {index}",
                    }
                    for index, packet in enumerate(sorted(self._packets, key=lambda span: span.start_sample))
                ),
            ],
        }

    def _truths(self) -> list[dict[str, Any]]:
        if self._truth is None:
            return []
        named = {f"{_EXTENSION}:{key}": value for key, value in self._truth.items()}
        return [{"core:sample_start": 0, "core:sample_count": self.samples, "core:label": "truth", **named}]


def write_recording(
    meta_path: Path,
    samples: Complex64[np.ndarray, "n"],
    waveform: Waveform,
    packets: Sequence[PacketSpan],
    extra: Mapping[str, Any],
    truth: Mapping[str, Any] | None = None,
) -> None:
    """Write a whole recording, see `RecordingWriter`. Raises SdrError also if there are no samples."""
    if not samples.size:
        raise SdrError("a recording needs at least one sample")
    writer = RecordingWriter(Path(meta_path), waveform, extra, truth)
    writer.append(samples, packets)
    writer.close()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _replace(path: Path, content: bytes) -> None:
    """Write a file in one step: it is whole or as it was."""
    temporary = _temporary(path)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SdrError(f"cannot write {path}: {error.strerror}") from error


@dataclass(frozen=True)
class Recording:
    """An opened recording; samples are read when asked for."""

    data_path: Path
    datatype: str
    sample_rate_hz: float
    samples: int
    """Whole complex samples in the data file."""
    gaps: tuple[tuple[int, int], ...]
    """Sample before which the recorder left out samples, and how many."""
    annotations: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    """What was odd about the files and how it was taken, for people."""

    def chunks(self, chunk_samples: int = _CHUNK_SAMPLES) -> Iterator[Complex64[np.ndarray, "n"]]:
        """Yield the samples in order, full scale 1, at most `chunk_samples` at a time.

        Raises SdrError if the data cannot be read.
        """
        kind = DATATYPES[self.datatype]
        scalar = np.dtype(kind.scalar)
        left = self.samples
        try:
            with open(self.data_path, "rb") as file:
                while left > 0:
                    raw = file.read(2 * scalar.itemsize * min(chunk_samples, left))
                    parts = np.frombuffer(raw[: len(raw) // (2 * scalar.itemsize) * 2 * scalar.itemsize], scalar)
                    if not parts.size:
                        raise SdrError(f"{self.data_path} became shorter while it was read")
                    left -= parts.size // 2
                    yield (parts.astype(np.float32) * np.float32(1 / kind.full_scale)).view(np.complex64)
        except OSError as error:
            raise SdrError(f"cannot read {self.data_path}: {error.strerror}") from error


def open_recording(path: Path, rate_hz: float | None = None) -> Recording:
    """Open a SigMF recording by its .sigmf-meta (or .sigmf-data) file, or a raw file whose suffix tells its datatype.

    `rate_hz` is the sample rate if the recording states none, and wins over a stated one. A sample that is cut off at
    the end is dropped and noted. Raises SdrError for missing, empty or malformed files, for a datatype outside
    `DATATYPES`, several channels, or a sample rate that is absent or none.
    """
    path = Path(path)
    if path.suffix in _RAW:
        if rate_hz is None:
            raise SdrError(f"{path} is a raw file, which states no sample rate: give it with --rate-hz")
        return _open(path, _RAW[path.suffix], _rate(rate_hz, path), {}, [])
    if path.suffix not in (_META, _DATA):
        raise SdrError(f"{path} is no SigMF recording, NAME{_META}, and no raw one: NAME{', NAME'.join(_RAW)}")
    path = path.with_suffix(_META)
    meta = _read_meta(path)
    information = meta["global"]
    datatype = information.get("core:datatype")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise SdrError(f"{path} has datatype {datatype!r}; can be read: {', '.join(DATATYPES)}")
    if (channels := information.get("core:num_channels", 1)) != 1:
        raise SdrError(f"{path} has {channels} channels: keep one of them")
    stated = information.get("core:sample_rate")
    notes = []
    if rate_hz is not None and stated is not None and rate_hz != stated:
        notes.append(f"{path.name} states a sample rate of {stated} Hz; taken at {rate_hz:g} Hz, as told")
    return _open(path.with_suffix(_DATA), datatype, _rate(stated if rate_hz is None else rate_hz, path), meta, notes)


def _rate(value: object, path: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _RATE_LIMIT_HZ:
        raise SdrError(
            f"{path} has no valid sample rate (core:sample_rate is {value!r}): "
            "state it in the metadata, or give it with --rate-hz, in samples per second"
        )
    return float(value)


def _open(data_path: Path, datatype: str, rate_hz: float, meta: Mapping[str, Any], notes: list[str]) -> Recording:
    try:
        size = data_path.stat().st_size
    except OSError as error:
        raise SdrError(f"cannot read the samples, {data_path}: {error.strerror}") from error
    width = 2 * np.dtype(DATATYPES[datatype].scalar).itemsize
    if size < width:
        raise SdrError(f"{data_path} is empty")
    if size % width:
        notes.append(f"{data_path.name} ends within a sample: its last {size % width} bytes are ignored")
    gaps, odd = _gaps(meta.get("captures", []), size // width, data_path.name)
    return Recording(
        data_path, datatype, rate_hz, size // width, gaps, tuple(meta.get("annotations", [])), (*notes, *odd)
    )


def _gaps(captures: Sequence[Any], samples: int, name: str) -> tuple[tuple[tuple[int, int], ...], list[str]]:
    """Where `core:global_index` jumps from one capture to the next, and what is odd about them.

    Raises SdrError for captures with headers between the samples.
    """
    gaps, notes = [], []
    before = None
    for capture in captures:
        if capture.get("core:header_bytes"):
            raise SdrError(f"{name} has headers between its samples (core:header_bytes): convert it to plain SigMF")
        start, index = capture.get("core:sample_start"), capture.get("core:global_index")
        if not _is_count(start) or not (index is None or _is_count(index)) or start >= samples:
            notes.append(f"{name}: a capture said to start at sample {start!r}, index {index!r}, is ignored")
            continue
        if before is not None and capture.get("core:frequency") != before.get("core:frequency"):
            notes.append(f"{name}: another centre frequency from sample {start} on")
        if before is not None and index is not None and before.get("core:global_index") is not None:
            lost = index - before["core:global_index"] - (start - before["core:sample_start"])
            if lost > 0 and start > 0:
                gaps.append((start, lost))
            elif lost < 0:
                notes.append(f"{name}: the capture at sample {start} begins before the one before it has ended")
        before = capture
    return tuple(sorted(gaps)), notes


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SdrError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SdrError(f"{path} is not valid JSON: {str(error).splitlines()[0]}") from error
    if not isinstance(meta, dict) or not isinstance(meta.get("global"), dict):
        raise SdrError(f"{path} is no SigMF metadata: it has no global object")
    for key in ("captures", "annotations"):
        entries = meta.get(key, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise SdrError(f"{path} is no SigMF metadata: {key} is no list of objects")
    return meta
