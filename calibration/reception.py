"""From what is heard to pictures, and to lines for people: recordings and radios alike."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from calibration.hearing import Hearing
from flowgraphs.pictures import Outcome, Pictures
from sdr.receive import ReceivedImage

_AHEAD = 32
"""Images of a recording, which can wait, at the decoder before more are heard."""
_WAIT_S = 0.5


class Reception:
    """Hears images and has them decoded into received_000.png and so on, in the order heard.

    An image that cannot be decoded has no `file` but a `reason`, is `kept` as it was received, and does not stop the
    others.

    Args:
        hearing: what listens; its playback may be stopped at any time, what was heard by then is still decoded.
        pictures: of the model that the sender uses.
        original: what they are compared with, if given.
        limit: number of decodable images after which listening ends.
        stage: told what is being done.
        on_image: told of every image as soon as it is heard.
    """

    def __init__(
        self,
        hearing: Hearing,
        pictures: Pictures,
        *,
        original: UInt8[np.ndarray, "h w 3"] | None = None,
        limit: int | None = None,
        stage: Callable[[str], None] = lambda text: None,
        on_image: Callable[[ReceivedImage], None] = lambda image: None,
    ) -> None:
        self.hearing, self._on_image = hearing, on_image
        self.count = self.written = 0
        self._pictures, self._original, self._limit, self._stage = pictures, original, limit, stage
        self._decodable = 0
        self._entries: dict[int, dict[str, Any]] = {}  # of the images that have not been decoded yet, by identity

    def images(self) -> Iterator[dict[str, Any]]:
        """Every image, described for JSON, as soon as its picture is written or there will be none.

        Raises:
            ModelError: a picture cannot be written.
            SdrError: a recording cannot be read, or an image not be kept. Of a radio that vanished,
                `hearing.playback.failure` tells.
        """
        for found in self.hearing.steps():
            for image in found:
                yield from self._take(image)
            yield from self._collect(0.0)
            self._stage(self._progress())
            if self._limit is not None and self._decodable >= self._limit:
                self.hearing.playback.stop()
        while self._entries:
            self._stage(f"decode {len(self._entries)} more")
            yield from self._collect(_WAIT_S)

    def _take(self, image: ReceivedImage) -> Iterator[dict[str, Any]]:
        self.count += 1
        self._on_image(image)
        self._decodable += image.side is not None
        self._entries[id(image)] = {"file": None, **self.hearing.describe(image)}
        for outcome in self._pictures.submit(image):
            yield self._finish(outcome)
        while not self.hearing.playback.device.live and len(self._entries) >= _AHEAD:
            yield from self._collect(_WAIT_S)

    def _collect(self, timeout_s: float) -> Iterator[dict[str, Any]]:
        for outcome in self._pictures.poll(timeout_s):
            yield self._finish(outcome)

    def _finish(self, outcome: Outcome) -> dict[str, Any]:
        entry, picture, original = self._entries.pop(id(outcome.image)), outcome.picture, self._original
        if picture is None:
            return entry | {"kept": str(outcome.file), "reason": outcome.reason}
        self.written += 1
        entry["file"] = str(outcome.file)
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
