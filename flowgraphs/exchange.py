"""What flowgraphs take and leave: an encoded picture in, received images out, as .npz files without pickle.

A neural network must not run inside a flowgraph, where it would stall the samples: pictures are encoded before it
starts and decoded after it. Every value stands in the file under its field's name, those of the n-th received image
after `n.`; `side` is uint8, and absent where it was lost.
"""

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Complex64

from sdr.errors import SdrError
from sdr.receive import ReceivedImage

_VECTORS = {"symbols": np.complex64, "noise_var": np.float32, "side": np.uint8}
_COUNT = "images"


@dataclass(frozen=True, eq=False)
class Outgoing:
    """An encoded picture and all that `sdr.transmit.transmit` asks for beside it."""

    symbols: Complex64[np.ndarray, "n"]
    side: bytes
    session: int
    image_id: int
    repetition: int


_Item = TypeVar("_Item", Outgoing, ReceivedImage)


def write_outgoing(path: Path, outgoing: Outgoing) -> None:
    """Write an encoded picture for a transmitter block. Raises SdrError if the file cannot be written."""
    _save(path, _to_arrays(outgoing, ""))


def read_outgoing(path: Path) -> Outgoing:
    """Read an encoded picture. Raises SdrError if the file cannot be read or holds something else."""
    return _from_arrays(Outgoing, _load(path), "", path)


def write_received(path: Path, images: Sequence[ReceivedImage]) -> None:
    """Write what a receiver block found, which may be nothing. Raises SdrError if the file cannot be written."""
    arrays = {_COUNT: np.asarray(len(images))}
    for index, image in enumerate(images):
        arrays |= _to_arrays(image, f"{index}.")
    _save(path, arrays)


def read_received(path: Path) -> list[ReceivedImage]:
    """Read received images in the order of their completion. Raises SdrError as `read_outgoing` does."""
    arrays = _load(path)
    count = arrays.get(_COUNT)
    if count is None or count.ndim or count.dtype.kind != "i":
        raise SdrError(f"{path} holds no received images: '{_COUNT}' is missing or of another type")
    return [_from_arrays(ReceivedImage, arrays, f"{index}.", path) for index in range(int(count))]


def _to_arrays(item: Outgoing | ReceivedImage, prefix: str) -> dict[str, np.ndarray]:
    values = {field.name: getattr(item, field.name) for field in fields(item)}
    return {
        prefix + name: np.frombuffer(value, np.uint8) if isinstance(value, bytes) else np.asarray(value)
        for name, value in values.items()
        if value is not None
    }


def _from_arrays(kind: type[_Item], arrays: Mapping[str, np.ndarray], prefix: str, path: Path) -> _Item:
    values: dict[str, Any] = {}
    for field in fields(kind):
        name, array = field.name, arrays.get(prefix + field.name)
        if array is None and name == "side" and kind is ReceivedImage:
            values[name] = None
        elif array is None or not _fits(array, name, field.type):
            raise SdrError(f"{path} is no {kind.__name__} file: '{prefix}{name}' is missing or of another type")
        elif name in _VECTORS:
            values[name] = array.tobytes() if name == "side" else array
        else:
            values[name] = array.item()
    return kind(**values)


def _fits(array: np.ndarray, name: str, kind: object) -> bool:
    if name in _VECTORS:
        return array.ndim == 1 and array.dtype == _VECTORS[name]
    return array.ndim == 0 and array.dtype.kind == ("f" if kind is float else "i")


def _save(path: Path, arrays: Mapping[str, Any]) -> None:
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SdrError(f"cannot write {path}: {error.strerror}") from error


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return dict(archive.items())
    except OSError as error:
        raise SdrError(f"cannot read {path}: {error.strerror or error}") from error
    except (EOFError, MemoryError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise SdrError(f"{path} is not an .npz file of plain arrays, or is damaged") from error
