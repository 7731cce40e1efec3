"""SigMF recordings (sigmf.org, core 1.2): JSON beside raw samples, written atomically and read in chunks."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
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


def write_recording(
    meta_path: Path,
    samples: Complex64[np.ndarray, "n"],
    waveform: Waveform,
    packets: Sequence[PacketSpan],
    extra: Mapping[str, Any],
) -> None:
    """Write a cf32_le recording with one annotation per packet; `extra` goes under `lrisc:` into the global object.

    Raises SdrError if the name does not end in .sigmf-meta, there are no samples, or the folder cannot be written.
    """
    meta_path = Path(meta_path)
    if meta_path.suffix != _META:
        raise SdrError(f"a recording's name must end in {_META}, got {meta_path.name}")
    if not samples.size:
        raise SdrError("a recording needs at least one sample")
    edge_hz = (waveform.edge_carrier + 0.5) * waveform.sample_rate_hz / waveform.fft_size
    meta = {
        "global": {
            "core:datatype": "cf32_le",
            "core:sample_rate": waveform.sample_rate_hz,
            "core:version": "1.2.0",
            "core:num_channels": 1,
            "core:description": "photographs sent by lrisc",
            "core:extensions": [{"name": _EXTENSION, "version": "1.0.0", "optional": True}],
            f"{_EXTENSION}:waveform": waveform.name,
            **{f"{_EXTENSION}:{key}": value for key, value in extra.items()},
        },
        "captures": [{"core:sample_start": 0, "core:datetime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"}],
        "annotations": [
            {
                "core:sample_start": packet.start_sample,
                "core:sample_count": packet.samples,
                "core:freq_lower_edge": -edge_hz,
                "core:freq_upper_edge": edge_hz,
                "core:label": f"packet {index}",
            }
            for index, packet in enumerate(sorted(packets, key=lambda span: span.start_sample))
        ],
    }
    data = np.ascontiguousarray(samples, dtype="<c8")
    _replace(meta_path.with_suffix(_DATA), data.tobytes())
    _replace(meta_path, (json.dumps(meta, indent=2) + "\n").encode())


def _replace(path: Path, content: bytes) -> None:
    """Write a file in one step: it is whole or as it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SdrError(f"cannot write {path}: {error.strerror}") from error


@dataclass(frozen=True)
class Recording:
    """An opened SigMF recording; samples are read when asked for."""

    meta_path: Path
    data_path: Path
    datatype: str
    sample_rate_hz: float
    samples: int
    """Whole complex samples in the data file."""
    annotations: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    """What was odd about the files and how it was taken, for people."""

    def require_rate(self, waveform: Waveform) -> None:
        """Raise SdrError unless the recording has the waveform's sample rate."""
        if not math.isclose(self.sample_rate_hz, waveform.sample_rate_hz, rel_tol=1e-6):
            raise SdrError(
                f"{self.meta_path} is sampled at {self.sample_rate_hz:g} Hz but waveform '{waveform.name}' needs "
                f"{waveform.sample_rate_hz:g} Hz: resample the recording or choose another waveform"
            )

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


def open_recording(meta_path: Path) -> Recording:
    """Open a SigMF recording by its .sigmf-meta (or .sigmf-data) file.

    A sample that is cut off at the end is dropped and noted. Raises SdrError for missing, empty or malformed files,
    for a datatype outside `DATATYPES`, several channels, or an absent sample rate.
    """
    path = Path(meta_path)
    if path.suffix not in (_META, _DATA):
        raise SdrError(f"{path} is no SigMF recording: its name must end in {_META}")
    path = path.with_suffix(_META)
    meta = _read_meta(path)
    information = meta["global"]
    datatype = information.get("core:datatype")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise SdrError(f"{path} has datatype {datatype!r}; can be read: {', '.join(DATATYPES)}")
    rate = information.get("core:sample_rate")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < _RATE_LIMIT_HZ:
        raise SdrError(
            f"{path} states no valid core:sample_rate: add the rate, in samples per second, to its global object"
        )
    if (channels := information.get("core:num_channels", 1)) != 1:
        raise SdrError(f"{path} has {channels} channels: keep one of them")
    data_path = path.with_suffix(_DATA)
    try:
        size = data_path.stat().st_size
    except OSError as error:
        raise SdrError(f"cannot read {data_path}, the samples of {path.name}: {error.strerror}") from error
    width = 2 * np.dtype(DATATYPES[datatype].scalar).itemsize
    if size < width:
        raise SdrError(f"{data_path} is empty")
    notes = []
    if size % width:
        notes.append(f"{data_path.name} ends within a sample: its last {size % width} bytes are ignored")
    annotations = tuple(entry for entry in meta.get("annotations", []) if isinstance(entry, dict))
    return Recording(path, data_path, datatype, float(rate), size // width, annotations, tuple(notes))


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SdrError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SdrError(f"{path} is not valid JSON: {str(error).splitlines()[0]}") from error
    if not isinstance(meta, dict) or not isinstance(meta.get("global"), dict):
        raise SdrError(f"{path} is no SigMF metadata: it has no global object")
    if not isinstance(meta.get("annotations", []), list):
        raise SdrError(f"{path} is no SigMF metadata: annotations is not a list")
    return meta
