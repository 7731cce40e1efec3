"""Photographs in and out: any ordinary picture file becomes uint8 RGB, and RGB becomes a PNG."""

import contextlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from models.errors import ModelError

MAX_PIXELS = 64_000_000

# What photographs come in. A closed list, because some of Pillow's other readers start external programs (EPS).
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")


def load_image(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "h w 3"]:
    """Read a picture file as 8-bit RGB, turned upright.

    Greyscale, palette, CMYK and YCbCr become RGB; transparency is composited over white; 16 bits per sample are
    rounded to 8; the EXIF orientation is applied (and one that cannot be read is ignored). Of a camera's MPO file the
    photograph itself is taken. Colour profiles are not applied.

    Returns:
        uint8[h, w, 3] of at least 1x1 and at most 64 million pixels.

    Raises:
        ModelError: one line with the file's name, for a file that is missing, empty, not a picture, damaged,
            truncated, larger than 64 million pixels (refused from its header, before decoding), animated or of several
            pages, or of a sample type without a defined white (floating point, 32-bit integers).
    """
    path = Path(path)
    if not path.is_file():
        problem = "is not a file" if path.exists() else "does not exist"
        raise ModelError(f"picture {str(path)!r} {problem}")
    try:
        if path.stat().st_size == 0:
            raise ModelError(f"picture {str(path)!r} is empty (0 bytes)")
        # Pillow warns of large pictures, which are refused below, and of odd metadata, which does not matter here.
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_FORMATS) as image:
            return _decode(image, path)
    except ModelError:
        raise
    except Image.DecompressionBombError:
        raise ModelError(_too_large(path, "far more")) from None
    except UnidentifiedImageError:
        kinds = ", ".join(_FORMATS)
        raise ModelError(f"{str(path)!r} is not a picture of a kind that can be read ({kinds})") from None
    except MemoryError:
        raise ModelError(f"picture {str(path)!r} does not fit into memory") from None
    except Exception as error:  # decoders of foreign bytes fail in every way; all of them mean a bad file
        detail = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"picture {str(path)!r} cannot be read, it may be truncated or damaged: {detail}") from None


def _decode(image: Image.Image, path: Path) -> UInt8[np.ndarray, "h w 3"]:
    if image.width * image.height > MAX_PIXELS:
        raise ModelError(_too_large(path, f"{image.width}x{image.height}"))
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise ModelError(f"{str(path)!r} holds {frames} frames or pages: extract the one to send as its own picture")
    image.load()
    with contextlib.suppress(SyntaxError):  # what Pillow raises for garbled EXIF; the pixels are in order
        image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return np.repeat(_grey_from_16_bit(np.asarray(image), path)[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.array(image.convert("RGB"))


def _grey_from_16_bit(values: np.ndarray, path: Path) -> UInt8[np.ndarray, "h w"]:
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 65535:
        raise ModelError(f"picture {str(path)!r} has samples of {values.dtype}: convert it to 8 or 16 bits per sample")
    rounded: np.ndarray = (values.astype(np.uint32) + 128) // 257
    return rounded.astype(np.uint8)


def _too_large(path: Path, size: str) -> str:
    return f"picture {str(path)!r} has {size} pixels, more than {MAX_PIXELS // 1_000_000} million: scale it down first"


def is_grey(image: UInt8[np.ndarray, "h w 3"]) -> bool:
    """Whether the three channels are equal everywhere, as `load_image` makes them of a greyscale file."""
    return bool((image == image[..., :1]).all())


def save_image(path: str | os.PathLike[str], image: UInt8[np.ndarray, "h w 3"]) -> None:
    """Write uint8[h, w, 3] as a PNG, whatever the name's suffix, replacing `path` only when all of it is on disk.

    Raises:
        ModelError: one line with the file's name, where it cannot be written.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            Image.fromarray(image).save(unfinished, format="PNG")
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(f"picture {str(path)!r} cannot be written: {error.strerror or error}") from None


def default_photo() -> tuple[UInt8[np.ndarray, "h w 3"], str]:
    """A photograph that is always at hand: uint8[512, 512, 3] and its name.

    Eileen Collins, NASA, public domain; it ships inside scikit-image, so nothing is downloaded.
    """
    from skimage import data  # only here: everything else works without it

    astronaut: Callable[[], np.ndarray] = data.astronaut
    return astronaut(), "skimage.data.astronaut"
