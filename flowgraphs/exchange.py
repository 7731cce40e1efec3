"""Encoded pictures on their way between processes, and received images that wait in a file, as .npz without pickle.

Every value stands in the archive under its field's name; `side` is uint8, and absent where it was lost.
"""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Complex64, UInt8

from sdr.errors import SdrError
from sdr.receive import ReceivedImage

_ARRAYS = {"symbols": (1, np.complex64), "noise_var": (1, np.float32), "side": (1, np.uint8), "picture": (3, np.uint8)}
_KINDS = {int: "i", float: "f", str: "U"}
_LENGTH = struct.Struct("<Q")
_LONGEST = 1 << 32


@dataclass(frozen=True, eq=False)
class Outgoing:
    """An encoded picture and all that `sdr.transmit.transmit` asks for beside it."""

    symbols: Complex64[np.ndarray, "n"]
    side: bytes
    session: int
    image_id: int
    repetition: int
    picture: UInt8[np.ndarray, "h w 3"]
    """What was encoded."""
    name: str
    """Its file, to be shown."""


_Item = TypeVar("_Item", Outgoing, ReceivedImage)


def put(stream: io.BufferedIOBase, outgoing: Outgoing) -> None:
    """Write an encoded picture into a pipe."""
    packed = io.BytesIO()
    np.savez(packed, **_to_arrays(outgoing))
    stream.write(_LENGTH.pack(packed.tell()) + packed.getvalue())
    stream.flush()


def get(stream: io.BufferedIOBase) -> Outgoing | None:
    """Read an encoded picture from a pipe; None where it has ended. Raises SdrError for anything else in it."""
    head = stream.read(_LENGTH.size)
    length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
    packed = stream.read(length) if length <= _LONGEST else b""
    if not head or len(packed) < max(length, 1):
        return None
    return _parse(Outgoing, io.BytesIO(packed), "the encoder's answer")


def write_image(path: Path, image: ReceivedImage) -> None:
    """Keep a received image that was not decoded. Raises SdrError if the file cannot be written."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **_to_arrays(image))
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SdrError(f"cannot write {path}: {error.strerror}") from error


def read_image(path: Path) -> ReceivedImage:
    """Read a received image. Raises SdrError if the file cannot be read or holds something else."""
    try:
        with open(path, "rb") as file:
            return _parse(ReceivedImage, file, str(path))
    except OSError as error:
        raise SdrError(f"cannot read {path}: {error.strerror or error}") from error


def _to_arrays(item: Outgoing | ReceivedImage) -> dict[str, Any]:
    values = {field.name: getattr(item, field.name) for field in fields(item)}
    return {
        name: np.frombuffer(value, np.uint8) if isinstance(value, bytes) else np.asarray(value)
        for name, value in values.items()
        if value is not None
    }


def _parse(kind: type[_Item], file: io.BufferedIOBase, name: str) -> _Item:
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive.items())
    except (AttributeError, EOFError, MemoryError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile, zlib.error):
        raise SdrError(f"{name} is not an .npz file of plain arrays, or is damaged") from None
    return _from_arrays(kind, arrays, name)


def _from_arrays(kind: type[_Item], arrays: Mapping[str, np.ndarray], source: str) -> _Item:
    values: dict[str, Any] = {}
    for field in fields(kind):
        name, array = field.name, arrays.get(field.name)
        if array is None and name == "side" and kind is ReceivedImage:
            values[name] = None
        elif array is None or not _fits(array, name, field.type):
            raise SdrError(f"{source} is no {kind.__name__}: '{name}' is missing or of another type")
        elif name in _ARRAYS:
            values[name] = array.tobytes() if name == "side" else array
        else:
            values[name] = array.item()
    return kind(**values)


def _fits(array: np.ndarray, name: str, kind: Any) -> bool:
    if name in _ARRAYS:
        return (array.ndim, array.dtype) == _ARRAYS[name]
    return array.ndim == 0 and array.dtype.kind == _KINDS[kind]
