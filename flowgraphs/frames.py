"""Pictures one after the other: a folder, a list, or a camera, of which only the latest picture counts."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from models.errors import ModelError
from models.image import load_image

CAMERA = "camera:"
_SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".png", ".ppm", ".tif", ".tiff", ".webp")
_SILENCE_S = 5.0
"""A camera that gives no picture for so long has gone."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture, and when it was taken or read, by time.monotonic."""

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    taken_s: float


@runtime_checkable
class Frames(Protocol):
    """Where pictures come from, for one thread."""

    live: bool
    """They come by themselves, and old ones are worth nothing."""
    missed: int
    """Pictures that came and were not taken."""

    def next(self) -> Frame | None:
        """The next picture, of a live source the latest, once there is a new one; None at the end.

        Raises ModelError for a picture that cannot be read; the one after it can be asked for.
        """

    def close(self) -> None:
        """Let go of it; whoever waits in `next` gets None."""


class FileFrames:
    """Picture files in order, each as often as it is named."""

    live = False

    def __init__(self, paths: Sequence[Path]) -> None:
        self.missed = 0
        self._paths = iter(paths)

    def next(self) -> Frame | None:
        """See `Frames`."""
        path = next(self._paths, None)
        return None if path is None else Frame(str(path), load_image(path), time.monotonic())

    def close(self) -> None:
        """Nothing to let go of."""


class CameraFrames:
    """A camera through OpenCV, by its number or whatever else cv2.VideoCapture takes; a thread keeps the latest."""

    live = True

    def __init__(self, camera: str) -> None:
        try:
            import cv2
        except ImportError as error:
            raise ModelError("a camera needs OpenCV: pip install 'lrisc[camera]', or opencv-python-headless") from error
        self.missed = 0
        self._name = f"{CAMERA}{camera}"
        self._capture = cv2.VideoCapture(int(camera) if camera.isdecimal() else camera)
        if not self._capture.isOpened():
            self._capture.release()
            raise ModelError(f"{self._name} cannot be opened: is it plugged in, and free?")
        self._changed = threading.Condition()
        self._latest: Frame | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._grab, daemon=True)
        self._thread.start()

    def next(self) -> Frame | None:
        """See `Frames`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._latest is not None or self._ended, _SILENCE_S):
                raise ModelError(f"{self._name} gives no pictures any more")
            frame, self._latest = self._latest, None
            return frame

    def close(self) -> None:
        """See `Frames`."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(_SILENCE_S)
        self._capture.release()

    def _grab(self) -> None:
        number = 0
        while not self._ended:
            good, picture = self._capture.read()
            with self._changed:
                if good:
                    image = np.ascontiguousarray(picture[:, :, ::-1])  # OpenCV has blue first
                    self.missed += self._latest is not None
                    self._latest = Frame(f"{self._name} {number}", image, time.monotonic())
                    number += 1
                self._ended |= not good
                self._changed.notify_all()


def open_frames(source: str) -> Frames | None:
    """The pictures of a folder, of a list (NAME.txt, one path a line, relative to it) or of camera:NUMBER.

    None for anything else, which is one picture. Raises ModelError for a folder or list without pictures, a list that
    cannot be read, a camera that cannot be had.
    """
    if source.startswith(CAMERA):
        return CameraFrames(source.removeprefix(CAMERA) or "0")
    path = Path(source)
    if path.is_dir():
        paths = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
    elif path.suffix == ".txt":
        paths = _read_list(path)
    else:
        return None
    if not paths:
        raise ModelError(f"{source} has no pictures in it")
    return FileFrames(paths)


def _read_list(path: Path) -> list[Path]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"list {path} cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error
    return [path.parent / line.strip() for line in lines if line.strip() and not line.startswith("#")]
