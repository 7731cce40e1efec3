"""Continuous sending: one picture is encoded while another is on the air, and the latest one wins."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowgraphs.frames import Frame, Frames
from flowgraphs.link import Sent
from models.errors import ModelError
from sdr.devices.base import Device
from sdr.header import IMAGE_ID_LIMIT

_TICK_S = 0.1


@dataclass(frozen=True, eq=False)
class _Ready:
    frame: Frame
    image_id: int
    sent: Sent


class PictureStream:
    """Sends what `frames` gives with `device`, in this thread; another one encodes.

    Of a live source, a newer picture takes the place of one that is encoded and still waits. Otherwise every picture is
    sent, and the next one is read when there is room. A picture that cannot be read or encoded is left out and noted.

    Args:
        encode: a picture and its image id to samples; raises ModelError for a picture that cannot be sent.
        seconds: after which no more are sent; None: never.
    """

    def __init__(
        self,
        frames: Frames,
        encode: Callable[[Any, int], Sent],
        device: Device,
        seconds: float | None = None,
    ) -> None:
        self._frames, self._encode, self._device = frames, encode, device
        self._seconds = seconds
        self.notes: list[str] = []
        self._latencies_s: list[float] = []
        self._air_s = 0.0
        self._replaced = 0
        self._begun = self._ended_s = time.monotonic()
        self._changed = threading.Condition()
        self._ready: _Ready | None = None
        self._end = False
        self._failure: Exception | None = None

    def run(self) -> Iterator[dict[str, Any]]:
        """Every picture as it has been sent, for JSON. Raises SdrError, ModelError as device and source do."""
        thread = threading.Thread(target=self._fill, daemon=True)
        self._begun = self._ended_s = time.monotonic()
        thread.start()
        try:
            while (ready := self._take()) is not None:
                transmission = ready.sent.transmission
                self._device.transmit(transmission.samples, transmission.packets)
                self._ended_s = time.monotonic()
                latency_s = self._ended_s - ready.frame.taken_s
                self._latencies_s.append(latency_s)
                self._air_s += transmission.samples.size / self._device.rate_hz
                yield {
                    "name": ready.frame.name,
                    "image_id": ready.image_id,
                    "cbr": ready.sent.cbr,
                    "packets": len(transmission.packets),
                    "samples": transmission.samples.size,
                    "latency_s": latency_s,
                }
        finally:
            with self._changed:
                self._end = True
                self._changed.notify_all()
            self._frames.close()

    def report(self) -> dict[str, Any]:
        """What was sent and how fast, for JSON. Latency is from taking or reading a picture to its last sample."""
        sent, seconds = len(self._latencies_s), self._ended_s - self._begun
        return {
            "pictures_sent": sent,
            "pictures_dropped": self._frames.missed + self._replaced,
            "seconds": seconds,
            "fps": sent / seconds if sent else 0.0,
            "air_share": self._air_s / seconds if sent else 0.0,
            "latency_s": {"mean": float(np.mean(self._latencies_s)), "max": max(self._latencies_s)} if sent else None,
            "notes": self.notes,
        }

    def _take(self) -> _Ready | None:
        """The next picture to send; None at the end."""
        with self._changed:
            while self._ready is None and not self._end:
                self._changed.wait(_TICK_S)
                if self._seconds is not None and time.monotonic() - self._begun > self._seconds:
                    return None
            if self._ready is None and self._failure is not None:
                raise self._failure
            ready, self._ready = self._ready, None
            self._changed.notify_all()
            late = self._seconds is not None and time.monotonic() - self._begun > self._seconds
            return None if late else ready

    def _fill(self) -> None:
        """The thread that reads and encodes."""
        try:
            number = 0
            while not self._end:
                try:
                    if (frame := self._frames.next()) is None:
                        break
                    ready = _Ready(frame, number % IMAGE_ID_LIMIT, self._encode(frame.image, number % IMAGE_ID_LIMIT))
                except ModelError as error:
                    if self._frames.live:
                        raise
                    self.notes.append(f"left out: {error}")
                    continue
                number += 1
                self._offer(ready)
        except Exception as error:  # raised by `run` in the caller's thread
            self._failure = error
        with self._changed:
            self._end = True
            self._changed.notify_all()

    def _offer(self, ready: _Ready) -> None:
        with self._changed:
            if self._frames.live:
                self._replaced += self._ready is not None
            else:
                self._changed.wait_for(lambda: self._ready is None or self._end)
            self._ready = ready
            self._changed.notify_all()
