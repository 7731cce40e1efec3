"""The digital baseline: the best picture that JPEG, WebP or AVIF can make of the bits an ideal channel code delivers.

Separate source and channel coding at its upper bound: a capacity-achieving code of infinite length on the Gaussian
channel turns n complex symbols at SNR γ into n·log2(1 + γ) bits without error (Shannon 1948). No real modem reaches
it and a real one fails altogether a little below its rate, so this reference is generous to the digital side.

It is no `models.codec.Codec`: at ideal capacity there are no symbols that a channel could act on, and what arrives
depends on the SNR alone. It stands beside the codecs with the same picture, CBR and SNR. With a code that exists, the
same choice of file goes over the radio in `flowgraphs.digital`.
"""

import functools
import io
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from models.errors import ModelError
from models.metrics import psnr_db

MEAN_COLOUR = "mean colour"
_MAX_SHRINKS = 20  # each by 1/sqrt(2) a side: down to a thousandth
_COARSE = 30  # below this quality a smaller picture coded more finely may be the better one


_Stream = bytes  # under another name, for a field below is called bytes


@dataclass(frozen=True)
class DigitalResult:
    """What came through: `image` uint8[h, w, 3], and how.

    `format` is the winner's name, `MEAN_COLOUR` where no file fits; `quality` its encoder's setting; `bytes` what was
    counted against `bits_available`; `scale` the size at which it was coded, 1 for full. A mean colour has quality
    and scale 0. `stream` is what crosses the channel, for `restore`; of a mean colour always its 3 values.
    """

    image: UInt8[np.ndarray, "h w 3"]
    format: str
    quality: int
    bytes: int
    bits_available: int
    scale: float
    stream: _Stream


@dataclass(frozen=True)
class _Format:
    lowest: int
    highest: int
    max_side: int  # pixels
    options: Callable[[int], Mapping[str, Any]]  # Pillow's, for a number of pixels
    strip: Callable[[bytes], bytes]  # what of a file has to cross the channel
    wrap: Callable[[bytes, int, int], bytes]  # and its inverse, for a width and a height: a file of the same pixels


def _strip_avif(file: bytes) -> bytes:
    """The `mdat` payload (ISO/IEC 14496-12): an AV1 stream from which the boxes around it can be rebuilt."""
    return file[_payload_start(file) :]


def _wrap_avif(stream: bytes, width: int, height: int) -> bytes:
    """Boxes of any picture of this size, with the length in `iloc` and `mdat` put right."""
    other = _encode(Image.new("RGB", (width, height)), "AVIF", FORMATS["AVIF"].lowest)
    start = _payload_start(other)
    extent = struct.pack(">II", start, len(other) - start)
    boxes = other[: start - 8].replace(extent, struct.pack(">II", start, len(stream)))
    return boxes + struct.pack(">I4s", len(stream) + 8, b"mdat") + stream


def _payload_start(file: bytes) -> int:
    position = 0
    while position < len(file):
        size = int.from_bytes(file[position : position + 4], "big")
        if file[position + 4 : position + 8] == b"mdat":
            return position + 8
        position += max(size, 8)
    raise AssertionError("an AVIF file without mdat")


def _strip_webp(file: bytes) -> bytes:
    return file[20:]  # RIFF header and chunk header; the VP8 frame itself knows its size


def _wrap_webp(stream: bytes, width: int, height: int) -> bytes:
    return struct.pack("<4sI4s4sI", b"RIFF", len(stream) + 12, b"WEBP", b"VP8 ", len(stream)) + stream


def _strip_jpeg(file: bytes) -> bytes:
    return file[:2] + file[20:]  # the JFIF segment (APP0), which decoders do without


def _wrap_jpeg(stream: bytes, width: int, height: int) -> bytes:
    return stream


def _avif_options(pixels: int) -> dict[str, Any]:
    speed = 6 if pixels <= 2_000_000 else 8  # the better search would take minutes on a large photograph
    return {"codec": "aom", "subsampling": "4:4:4", "advanced": {"tune": "psnr"}, "speed": speed}


# Settings for the highest PSNR. JPEG stops at 90: beyond it Pillow's buffer can be too small for optimised tables.
FORMATS: dict[str, _Format] = {
    "AVIF": _Format(0, 100, 16384, _avif_options, _strip_avif, _wrap_avif),
    "WebP": _Format(0, 100, 16383, lambda pixels: {"method": 6}, _strip_webp, _wrap_webp),
    "JPEG": _Format(1, 90, 65500, lambda pixels: {"optimize": True, "progressive": True}, _strip_jpeg, _wrap_jpeg),
}


@functools.cache
def unavailable_formats() -> dict[str, str]:
    """The names among `FORMATS` that this Pillow cannot write, each with the reason; empty with Pillow's own wheels."""
    reasons = {}
    for name, fmt in FORMATS.items():
        try:
            _encode(Image.new("RGB", (8, 8)), name, fmt.lowest)
        except (OSError, ValueError, KeyError) as error:
            reasons[name] = f"Pillow cannot write {name} here: {error}"
    return reasons


def capacity_bits(height: int, width: int, cbr: float, snr_db: float) -> int:
    """floor(n log2(1 + SNR)) bits for the n = floor(cbr·3·height·width) complex symbols of a picture.

    `snr_db` is Es/N0.

    Raises:
        ModelError: `cbr` not a positive number, or `snr_db` not finite or over 100 dB.
    """
    if not (0 < cbr < math.inf):
        raise ModelError(f"cbr must be a positive number, not {cbr}")
    if not (-math.inf < snr_db <= 100):
        raise ModelError(f"the SNR must be a number of at most 100 dB, not {snr_db}")
    symbols = math.floor(cbr * 3 * height * width)
    return math.floor(symbols * math.log2(1 + 10 ** (snr_db / 10)))


def digital_reference(image: UInt8[np.ndarray, "h w 3"], cbr: float, snr_db: float) -> DigitalResult:
    """The picture of the highest PSNR, among all formats, qualities and sizes, that fits into the channel's capacity.

    Each format takes the highest quality that fits. Where that is coarse, or nothing fits, the picture is also coded
    at smaller sizes (by 1/sqrt(2) a side, Lanczos both ways) for as long as this helps. Where no file fits at all,
    one mean colour is sent in at most 3 bytes.

    Counted are the compressed streams with all that their decoders need. Not counted is what a receiver could put
    back by itself: the boxes of AVIF and RIFF, the JFIF segment, and the size to which a smaller picture is enlarged.

    Args:
        image: uint8[h, w, 3] RGB.
        cbr: complex channel symbols / (3·h·w), all of them for this picture.
        snr_db: Es/N0 in dB.

    Raises:
        ModelError: `cbr` or `snr_db` out of range.
    """
    height, width = image.shape[:2]
    return best_within(image, capacity_bits(height, width, cbr, snr_db))


def best_within(image: UInt8[np.ndarray, "h w 3"], bits: int) -> DigitalResult:
    """The same for a number of bits."""
    candidates = [_mean_colour(image, bits)]
    for name in FORMATS:
        if name not in unavailable_formats():
            candidates += _best_of_format(image, name, bits)
    return max(candidates, key=lambda candidate: psnr_db(image, candidate.image))


def restore(stream: bytes, name: str, scale: float, height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """The picture of a `DigitalResult` from its `stream`, its `format` and its `scale`.

    Raises:
        ModelError: they are no picture of this size.
    """
    if name == MEAN_COLOUR:
        if len(stream) != 3:
            raise ModelError(f"a mean colour has 3 bytes, not {len(stream)}")
        return np.broadcast_to(np.frombuffer(stream, np.uint8), (height, width, 3)).copy()
    size = _scaled((width, height), scale)
    try:
        with Image.open(io.BytesIO(FORMATS[name].wrap(stream, *size)), formats=[name]) as decoded:
            restored = decoded.convert("RGB")
    except (OSError, RuntimeError, SyntaxError, ValueError) as error:
        raise ModelError(f"the {name} picture does not decode: {' '.join(str(error).split())}") from error
    if restored.size != size:
        raise ModelError(f"the {name} picture has {restored.size} pixels and not {size}")
    if scale < 1:
        restored = restored.resize((width, height), Image.Resampling.LANCZOS)
    return np.array(restored)


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height


def _best_of_format(image: UInt8[np.ndarray, "h w 3"], name: str, bits: int) -> list[DigitalResult]:
    """One result per size that was tried and fitted; the last but one or the last is the best."""
    original = Image.fromarray(image)
    results: list[DigitalResult] = []
    for shrink in range(_MAX_SHRINKS):
        scale = 2 ** (-shrink / 2)
        small = original
        if shrink > 0:
            small = original.resize(_scaled(original.size, scale), Image.Resampling.LANCZOS)
        found = _finest_that_fits(small, name, bits)
        if found is None:
            continue
        quality, file = found
        with Image.open(io.BytesIO(file)) as decoded:
            restored = decoded.convert("RGB")
        if shrink > 0:
            restored = restored.resize(original.size, Image.Resampling.LANCZOS)
        stream = FORMATS[name].strip(file)
        results.append(DigitalResult(np.array(restored), name, quality, len(stream), bits, scale, stream))
        got_worse = len(results) > 1 and psnr_db(image, results[-1].image) < psnr_db(image, results[-2].image)
        if quality >= _COARSE or got_worse:
            break
    return results


def _finest_that_fits(picture: Image.Image, name: str, bits: int) -> tuple[int, bytes] | None:
    """The highest quality whose counted bytes fit into `bits`, by bisection, and its file."""
    fmt = FORMATS[name]
    if max(picture.size) > fmt.max_side:
        return None
    fits = None
    low, high = fmt.lowest, fmt.highest
    quality = low  # first of all, whether anything fits
    while low <= high:
        file = _encode(picture, name, quality)
        if 8 * len(fmt.strip(file)) <= bits:
            fits = quality, file
            low = quality + 1
        else:
            high = quality - 1
        quality = (low + high + 1) // 2
    return fits


def _encode(picture: Image.Image, name: str, quality: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, format=name, quality=quality, **FORMATS[name].options(picture.width * picture.height))
    return file.getvalue()


def _mean_colour(image: UInt8[np.ndarray, "h w 3"], bits: int) -> DigitalResult:
    """The mean colour in 3, 2, 1 or 0 bytes, that is 8, 5, 2 or 0 bits for each of red, green and blue."""
    sent = min(3, bits // 8)
    levels = 2 ** (8 * sent // 3)
    mean = image.mean(axis=(0, 1))
    colour = np.round((np.floor(mean / 256 * levels) + 0.5) * 256 / levels - 0.5) if levels < 256 else np.round(mean)
    flat = np.broadcast_to(colour.astype(np.uint8), image.shape).copy()
    return DigitalResult(flat, MEAN_COLOUR, 0, sent, bits, 0.0, flat[0, 0].tobytes())
