"""Pictures one after the other: every one of a folder, the latest of a camera."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flowgraphs.frames import FileFrames, Frame, open_frames
from flowgraphs.link import Sent, modulate
from flowgraphs.stream import PictureStream
from models.codec import Encoded
from models.errors import ModelError
from sdr.channel import Channel
from sdr.devices.base import DeviceError
from sdr.devices.file import RecorderDevice
from sdr.devices.loopback import LoopbackDevice
from sdr.receive import Receiver
from sdr.recording import open_recording
from sdr.waveform import DEFAULT
from tests.sdr.helpers import gaussian


def encode(image: np.ndarray, image_id: int) -> Sent:
    """Symbols that have nothing to do with the picture."""
    if image.shape[0] < 4:
        raise ModelError("the picture is too small")
    encoded = Encoded(gaussian(500, np.random.default_rng(image_id)), bytes(20))
    return modulate(encoded, image.size, DEFAULT, snr_hint_db=10.0, session=5, image_id=image_id)


def picture(path: Path, grey: int, side: int = 8) -> Path:
    Image.new("RGB", (side, side), (grey, grey, grey)).save(path)
    return path


def test_every_picture_of_a_folder_is_sent_in_order(tmp_path: Path) -> None:
    for name, grey in (("b.png", 2), ("a.JPG", 1), ("c.webp", 3)):
        picture(tmp_path / name, grey)
    (tmp_path / "notes.md").write_text("no picture")
    frames = open_frames(str(tmp_path))
    assert frames is not None
    device = RecorderDevice(tmp_path / "sent.sigmf-meta", DEFAULT, {})
    stream = PictureStream(frames, encode, device)
    entries = list(stream.run())
    device.close()
    assert [Path(entry["name"]).name for entry in entries] == ["a.JPG", "b.png", "c.webp"]
    assert [entry["image_id"] for entry in entries] == [0, 1, 2] and all(entry["latency_s"] > 0 for entry in entries)
    report = stream.report()
    assert (report["pictures_sent"], report["pictures_dropped"], report["notes"]) == (3, 0, [])
    assert report["fps"] == pytest.approx(3 / report["seconds"]) and report["latency_s"]["max"] <= report["seconds"]
    assert report["air_share"] == pytest.approx(sum(e["samples"] for e in entries) / 4e6 / report["seconds"])
    receiver = Receiver(DEFAULT)
    found = [i for chunk in open_recording(tmp_path / "sent.sigmf-meta").chunks() for i in receiver.push(chunk)]
    assert [image.image_id for image in found + receiver.flush()] == [0, 1, 2]


def test_a_list_names_pictures_and_a_bad_one_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    picture(tmp_path / "pictures" / "a.png", 1)
    picture(tmp_path / "pictures" / "small.png", 1, side=2)
    file = tmp_path / "list.txt"
    file.write_text("# mine\npictures/a.png\n\npictures/absent.png\npictures/small.png\npictures/a.png\n")
    frames = open_frames(str(file))
    assert frames is not None
    stream = PictureStream(frames, encode, LoopbackDevice(Channel(), DEFAULT, np.random.default_rng(0)))
    assert [Path(entry["name"]).name for entry in stream.run()] == ["a.png", "a.png"]
    first, second = stream.report()["notes"]
    assert "absent.png" in first and "too small" in second


@pytest.mark.parametrize(("name", "words"), [("empty", "has no pictures"), ("no.txt", "cannot be read")])
def test_sources_without_pictures_are_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=words):
        open_frames(str(tmp_path / name))
    assert open_frames(str(tmp_path / "photo.png")) is None  # one picture, whether it is there or not


class Slow(LoopbackDevice):
    """A device on which every burst takes until it is let go."""

    def __init__(self) -> None:
        super().__init__(Channel(), DEFAULT, np.random.default_rng(0))
        self.go = threading.Semaphore(1)

    def _transmit(self, *_: Any) -> None:
        assert self.go.acquire(timeout=20)


class Live:
    """Ten pictures; each comes when the one before it has been encoded."""

    live, missed = True, 0

    def __init__(self) -> None:
        self.number = 0
        self.all_out = threading.Event()

    def next(self) -> Frame | None:
        if self.number == 10:
            self.all_out.set()
            return None
        self.number += 1
        return Frame(str(self.number), np.zeros((8, 8, 3), np.uint8), time.monotonic())

    def close(self) -> None: ...


def test_of_a_live_source_the_latest_picture_wins() -> None:
    device, frames = Slow(), Live()
    stream = PictureStream(frames, encode, device)
    names = []
    for entry in stream.run():
        names.append(entry["name"])
        assert frames.all_out.wait(20)  # while the device still sends the one before
        device.go.release()
    report = stream.report()
    assert names[-1] == "10" and len(names) <= 3
    assert report["pictures_sent"] == len(names) and report["pictures_dropped"] == 10 - len(names)


def test_a_device_that_vanishes_and_an_encoder_that_fails_end_the_stream(tmp_path: Path) -> None:
    class Gone(LoopbackDevice):
        def _transmit(self, *_: Any) -> None:
            raise DeviceError("gone")

    paths = [picture(tmp_path / "a.png", 1)] * 3
    stream = PictureStream(FileFrames(paths), encode, Gone(Channel(), DEFAULT, np.random.default_rng(0)))
    with pytest.raises(DeviceError, match="gone"):
        list(stream.run())
    assert stream.report()["pictures_sent"] == 0 and stream.report()["latency_s"] is None

    def broken(image: np.ndarray, image_id: int) -> Sent:
        raise MemoryError("too large")

    device = LoopbackDevice(Channel(), DEFAULT, np.random.default_rng(0))
    with pytest.raises(MemoryError):
        list(PictureStream(FileFrames(paths), broken, device).run())


def test_no_more_pictures_are_sent_after_the_time_given(tmp_path: Path) -> None:
    paths = [picture(tmp_path / "a.png", 1)] * 10_000
    device = LoopbackDevice(Channel(), DEFAULT, np.random.default_rng(0))
    assert len(list(PictureStream(FileFrames(paths), encode, device, seconds=0.2).run())) < 10_000


# ---------------------------------------------------------------- cameras, on a stand-in for OpenCV


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Puts a camera in place that gives so many pictures, blue first, and then fails; what it was opened with."""

    def install(pictures: int, opens: bool = True) -> list[Any]:
        log: list[Any] = []

        class VideoCapture:
            def __init__(self, which: int | str) -> None:
                log.append(which)
                self.left = pictures

            def isOpened(self) -> bool:
                return opens

            def read(self) -> tuple[bool, np.ndarray | None]:
                time.sleep(1e-3)
                self.left -= 1
                frame = np.zeros((8, 10, 3), np.uint8)
                frame[:, :, 0] = 200 - self.left
                return (True, frame) if self.left >= 0 else (False, None)

            def release(self) -> None:
                log.append("released")

        monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(VideoCapture=VideoCapture))
        return log

    return install


def test_a_camera_gives_its_latest_picture(camera: Callable[..., list[Any]]) -> None:
    log = camera(50)
    frames = open_frames("camera:")
    assert frames is not None and frames.live
    first = frames.next()
    time.sleep(0.2)
    last = frames.next()
    assert first is not None and last is not None and frames.next() is None
    assert first.image[0, 0, 2] >= 151 and tuple(last.image[0, 0]) == (0, 0, 200)  # of OpenCV's blue
    assert frames.missed == 48 and last.name == "camera:0 49"
    frames.close()
    assert log == [0, "released"]


def test_cameras_that_cannot_be_had_are_named(
    camera: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    camera(0, opens=False)
    with pytest.raises(ModelError, match="camera:1 cannot be opened"):
        open_frames("camera:1")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ModelError, match="needs OpenCV: pip install"):
        open_frames("camera:1")
