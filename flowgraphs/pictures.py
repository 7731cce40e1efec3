"""Received images to picture files by way of a decoder in another process; what is not decoded is kept."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Complex64, Float32, UInt8

from flowgraphs.exchange import write_image
from models.client import Decoded, open_decoder
from models.codec import Codec
from models.errors import ModelError
from models.image import save_image
from sdr.errors import SdrError
from sdr.receive import ReceivedImage

_KEEP = "none"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a received image."""

    image: ReceivedImage
    picture: UInt8[np.ndarray, "h w 3"] | None
    file: Path
    """The picture, or the image as it was received, for `lrisc decode`."""
    reason: str | None
    """Why there is no picture."""
    missed: bool
    """There should be one."""
    seconds: float
    """From its reception to now."""

    def line(self) -> str:
        """In words for people."""
        image = self.image
        return (
            f"{self.file}: SNR {image.snr_db:.1f} dB, CFO {round(image.cfo_hz)} Hz, {image.packets_received} of "
            f"{image.packets_expected} packets" + (f"; not decoded: {self.reason}" if self.reason else "")
        )

    def numbers(self) -> dict[str, Any]:
        """What is said of a picture beside its pixels."""
        image = self.image
        return {
            "name": self.file.name,
            "session": image.session,
            "image_id": image.image_id,
            "snr_db": image.snr_db,
            "cfo_hz": image.cfo_hz,
            "packets_received": image.packets_received,
            "packets_expected": image.packets_expected,
            "seconds": self.seconds,
        }


@runtime_checkable
class PictureDecoder(Protocol):
    """Pictures from received symbols, here or in another process: `LocalDecoder`, `models.client.Decoder`."""

    def submit(
        self,
        key: str,
        symbols: Complex64[np.ndarray, "n"],
        noise_var: Float32[np.ndarray, "n"],
        snr_db: float,
        side: bytes,
        *,
        steps: int | None = None,
        seed: int = 0,
    ) -> None:
        """Hand over an image without waiting. Raises DecoderFull, or another ModelError if it will never decode."""

    def poll(self, timeout_s: float = 0.0) -> list[Decoded]:
        """What has been decoded meanwhile."""

    def close(self) -> None:
        """Let go of it."""


class LocalDecoder:
    """A codec in this process as a decoder: for recordings, which wait."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._decoded: list[Decoded] = []

    def submit(
        self,
        key: str,
        symbols: Complex64[np.ndarray, "n"],
        noise_var: Float32[np.ndarray, "n"],
        snr_db: float,
        side: bytes,
        *,
        steps: int | None = None,
        seed: int = 0,
    ) -> None:
        """Decode at once."""
        try:
            picture = self._codec.decode(symbols, noise_var, snr_db, side, steps=steps, seed=seed)
        except ModelError as error:
            self._decoded.append(Decoded(key, None, str(error)))
        else:
            self._decoded.append(Decoded(key, picture, None))

    def poll(self, timeout_s: float = 0.0) -> list[Decoded]:
        """What was submitted since the last time."""
        decoded, self._decoded = self._decoded, []
        return decoded

    def close(self) -> None:
        """Nothing to let go of."""


class Pictures:
    """Numbers images in the order of their reception, and writes received_000.png and so on. For one thread.

    What cannot be decoded becomes received_000.npz: nothing is lost to a decoder that is full or gone. Without a
    decoder all images are kept that way.
    """

    def __init__(self, decoder: PictureDecoder | None, folder: Path, *, steps: int | None, seed: int) -> None:
        self._decoder, self._folder, self._steps, self._seed = decoder, folder, steps, seed
        self._waiting: dict[str, tuple[ReceivedImage, float]] = {}
        self._received = 0

    def __enter__(self) -> "Pictures":
        return self

    def __exit__(self, *_: object) -> None:
        if self._decoder is not None:
            self._decoder.close()

    @property
    def waiting(self) -> int:
        """Images at the decoder."""
        return len(self._waiting)

    def submit(self, image: ReceivedImage) -> list[Outcome]:
        """Hand an image to the decoder and do not wait; gives what became of it if there is nothing to wait for.

        Raises SdrError: the image cannot be kept.
        """
        key = f"received_{self._received:03d}"
        self._received += 1
        self._waiting[key] = image, time.monotonic()
        if image.side is None:
            return [self._finish(key, None, "its side information was lost, without which there is no picture")]
        if self._decoder is None:
            return [self._finish(key, None, "kept as it was received")]
        try:
            self._decoder.submit(
                key, image.symbols, image.noise_var, image.snr_db, image.side, steps=self._steps, seed=self._seed
            )
        except ModelError as error:
            return [self._finish(key, None, str(error))]
        return []

    def poll(self, timeout_s: float) -> list[Outcome]:
        """What has been decoded meanwhile; waits at most that long for the first.

        Raises ModelError, SdrError: a picture cannot be written.
        """
        if self._decoder is None:
            return []
        done: list[Decoded] = self._decoder.poll(timeout_s)
        return [self._finish(one.key, one.image, one.error) for one in done if one.key in self._waiting]

    def give_up(self, reason: str) -> list[Outcome]:
        """Keep what the decoder still has. Raises SdrError if it cannot be kept."""
        return [self._finish(key, None, reason) for key in list(self._waiting)]

    def _finish(self, key: str, picture: UInt8[np.ndarray, "h w 3"] | None, reason: str | None) -> Outcome:
        image, since_s = self._waiting.pop(key)
        file = self._folder / f"{key}.{'npz' if picture is None else 'png'}"
        if picture is None:
            write_image(file, image)
        else:
            save_image(file, picture)
        missed = picture is None and self._decoder is not None
        return Outcome(image, picture, file, reason, missed, time.monotonic() - since_s)


def open_pictures(folder: Path, decoder: str, model: str, *, steps: str = "", seed: int = 0) -> Pictures:
    """Pictures into a folder.

    Args:
        folder: is made if it is not there.
        decoder: zmq:tcp://HOST:PORT of `lrisc serve`, '' for a process of our own, 'none' to keep images undecoded.
        steps: of denoising; '' is the model's default.

    Raises:
        ModelError: no such model or decoder.
        SdrError: the folder cannot be written, or `steps` is no number.
    """
    if steps and not steps.isdecimal():
        raise SdrError(f"steps must be a whole number, or empty for the model's own, got {steps!r}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SdrError(f"cannot write to the folder {folder}: {error.strerror}") from error
    service = None if decoder == _KEEP else open_decoder(decoder or None, model)
    return Pictures(service, folder, steps=int(steps) if steps else None, seed=seed)
