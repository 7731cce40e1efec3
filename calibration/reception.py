"""From what is heard to pictures, and to lines for people: recordings and radios alike."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Complex64, Float32, UInt8

from calibration.hearing import Hearing
from models.client import Decoded, DecoderFull
from models.codec import Codec
from models.errors import ModelError
from models.image import save_image
from sdr.receive import ReceivedImage

_BACKLOG = 64
"""Images from a radio that wait for a decoder whose own queue is full; beyond that the oldest is given up."""
_WAIT_S = 0.5


@runtime_checkable
class Decoder(Protocol):
    """Pictures from received symbols, somewhere else: see `models.client.Decoder`."""

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
    """A codec in this process as a `Decoder`: for recordings, which wait."""

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


class Reception:
    """Decodes every image that is heard into received_000.png and so on, in the order heard.

    An image that cannot be decoded has no `file` but a `reason`, and does not stop the others.

    Args:
        hearing: what listens; its playback may be stopped at any time, what was heard by then is still decoded.
        decoder: of the model that the sender uses.
        folder: for the pictures.
        original: what they are compared with, if given.
        steps: of denoising; None for the model's default.
        seed: of the diffusion.
        limit: number of decodable images after which listening ends.
        stage: told what is being done.
    """

    def __init__(
        self,
        hearing: Hearing,
        decoder: Decoder,
        folder: Path,
        *,
        original: UInt8[np.ndarray, "h w 3"] | None = None,
        steps: int | None = None,
        seed: int = 0,
        limit: int | None = None,
        stage: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.hearing = hearing
        self.count = self.decodable = self.written = 0
        self._decoder, self._folder, self._original = decoder, folder, original
        self._steps, self._seed, self._limit, self._stage = steps, seed, limit, stage
        self._backlog: deque[tuple[str, ReceivedImage]] = deque()
        self._entries: dict[str, dict[str, Any]] = {}  # of what has not been decoded yet

    def images(self) -> Iterator[dict[str, Any]]:
        """Every image, described for JSON, as soon as its picture is written or there will be none.

        Raises:
            ModelError: a picture cannot be written.
            SdrError: a recording cannot be read. Of a radio that vanished, `hearing.playback.failure` tells.
        """
        for found in self.hearing.steps():
            for image in found:
                yield from self._take(image)
            yield from self._collect(0.0)
            self._stage(self._progress())
            if self._limit is not None and self.decodable >= self._limit:
                self.hearing.playback.stop()
        while self._entries:
            self._stage(f"decode {len(self._entries)} more")
            yield from self._collect(_WAIT_S)

    def _take(self, image: ReceivedImage) -> Iterator[dict[str, Any]]:
        """Queue an image; those that this shows to be hopeless come out."""
        key = str(self.count)
        self.count += 1
        entry: dict[str, Any] = {"file": None, **self.hearing.describe(image)}
        if image.side is None:
            entry["reason"] = "its side information was lost, without which there is no picture"
            yield entry
            return
        self.decodable += 1
        self._entries[key] = entry
        self._backlog.append((key, image))
        while not self.hearing.playback.device.live and len(self._backlog) >= _BACKLOG:
            yield from self._collect(_WAIT_S)
        if len(self._backlog) > _BACKLOG:
            lost, _ = self._backlog.popleft()
            yield self._entries.pop(lost) | {"reason": "the decoder is too slow: too many images were waiting for it"}

    def _collect(self, timeout_s: float) -> Iterator[dict[str, Any]]:
        """Submit what waits, and take what has been decoded."""
        while self._backlog:
            key, image = self._backlog[0]
            assert image.side is not None
            try:
                self._decoder.submit(
                    key, image.symbols, image.noise_var, image.snr_db, image.side, steps=self._steps, seed=self._seed
                )
            except DecoderFull:
                break
            except ModelError as error:
                yield self._entries.pop(key) | {"reason": str(error)}
            self._backlog.popleft()
        for decoded in self._decoder.poll(timeout_s):
            yield self._finish(self._entries.pop(decoded.key), decoded)

    def _finish(self, entry: dict[str, Any], decoded: Decoded) -> dict[str, Any]:
        picture, original = decoded.image, self._original
        if picture is None:
            return entry | {"reason": decoded.error}
        file = self._folder / f"received_{int(decoded.key):03d}.png"
        save_image(file, picture)
        self.written += 1
        entry["file"] = str(file)
        if original is not None and original.shape == picture.shape:
            from calibration.compare import quality_json  # with torch, which receiving alone does not need
            from models.metrics import quality

            entry["quality"] = quality_json(quality(original, picture))
        elif original is not None:
            entry["reason"] = f"the reference is {original.shape[1]}×{original.shape[0]}: no quality measured"
        return entry

    def _progress(self) -> str:
        hearing = self.hearing
        heard = f"{hearing.samples / hearing.waveform.sample_rate_hz:.1f} s heard, {hearing.packet_count} packets"
        if hearing.packets:
            heard += f", the last at {hearing.packets[-1].snr_db:.1f} dB"
        waiting = f", {len(self._entries)} to decode" if self._entries else ""
        return f"{heard}, {self.written} pictures{waiting}"


def image_line(name: str, image: Mapping[str, Any]) -> str:
    """What `Hearing.describe` and `Reception` say of one image, in one line."""
    measured = image.get("quality")
    return (
        f"{name}: SNR {image['snr_db_estimated']:.1f} dB, CFO {round(image['cfo_hz_estimated'])} Hz, "
        f"{image['packets_received']} of {image['packets_expected']} packets"
        + (f", PSNR {measured['psnr_db']:.2f} dB" if measured and measured["psnr_db"] is not None else "")
        + "".join(f" – {image[key]}" for key in ("incomplete", "reason") if key in image)
    )


def rejected_line(hearing: Hearing) -> str:
    """Preambles that led to no packet, by reason."""
    faulty = ", ".join(f"{count} × {reason}" for reason, count in hearing.faulty().items())
    return f"packets rejected: {faulty or 'none'}"
