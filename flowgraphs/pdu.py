"""Received images and pictures as GNU Radio's PDUs: a dictionary of numbers and a vector of samples or pixels."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pmt
from jaxtyping import UInt8

from sdr.receive import ReceivedImage

_VECTORS = {
    np.dtype(np.complex64): pmt.init_c32vector,
    np.dtype(np.float32): pmt.init_f32vector,
    np.dtype(np.uint8): pmt.init_u8vector,
}


def make_pdu(numbers: Mapping[str, Any], vector: np.ndarray) -> Any:
    """A PDU of numbers, texts or one-dimensional arrays by name, and a one-dimensional array."""
    table = pmt.make_dict()
    for name, value in numbers.items():
        table = pmt.dict_add(table, pmt.intern(name), _to_pmt(value))
    return pmt.cons(table, _to_pmt(vector))


def _to_pmt(value: Any) -> Any:
    """Arrays through lists: `pmt.to_pmt` takes them number by number out of NumPy, five times as slow."""
    if isinstance(value, np.ndarray) and value.dtype in _VECTORS:
        return _VECTORS[value.dtype](value.size, value.tolist())
    return pmt.to_pmt(value)


def read_pdu(pdu: Any) -> tuple[dict[str, Any], np.ndarray]:
    """Numbers and vector of a PDU."""
    return pmt.to_python(pmt.car(pdu)), np.asarray(pmt.to_python(pmt.cdr(pdu)))


def image_to_pdu(image: ReceivedImage) -> Any:
    """A received image; the vector is its symbols (c32)."""
    numbers = {field.name: getattr(image, field.name) for field in fields(image) if field.name != "symbols"}
    side = numbers["side"]
    numbers["side"] = None if side is None else np.frombuffer(side, np.uint8)
    return make_pdu(numbers, image.symbols)


def pdu_to_image(pdu: Any) -> ReceivedImage:
    """The inverse of `image_to_pdu`."""
    numbers, symbols = read_pdu(pdu)
    side = numbers.pop("side")
    return ReceivedImage(symbols=symbols, side=None if side is None else side.tobytes(), **numbers)


def picture_to_pdu(picture: UInt8[np.ndarray, "h w 3"], numbers: Mapping[str, Any]) -> Any:
    """A picture with its `height`, `width` and other numbers; the vector is its pixels row by row, RGB (u8)."""
    height, width, _ = picture.shape
    return make_pdu({**numbers, "height": height, "width": width}, picture.reshape(-1))


def pdu_to_picture(pdu: Any) -> tuple[UInt8[np.ndarray, "h w 3"], dict[str, Any]]:
    """The inverse of `picture_to_pdu`."""
    numbers, pixels = read_pdu(pdu)
    return pixels.reshape(numbers.pop("height"), numbers.pop("width"), 3), numbers
