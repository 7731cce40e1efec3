"""From what is heard to pictures: nothing is lost to a decoder that is slow, full or gone."""

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.hearing import Hearing
from calibration.reception import Reception, image_line
from flowgraphs.exchange import read_image
from flowgraphs.pictures import Pictures
from models.client import Decoded, DecoderFull, DecoderGone
from models.image import load_image
from sdr.devices.file import RecordingDevice
from sdr.playback import Playback
from sdr.recording import open_recording, write_recording
from sdr.waveform import DEFAULT
from tests.sdr.helpers import passage

SENT = [passage(seed, count=3000, image_id=seed, snr_db=15.0) for seed in range(4)]


class SlowDecoder:
    """Decodes one image per poll, later than asked, into a grey picture; takes `capacity` and then no more."""

    def __init__(self, capacity: int = 64, gone: bool = False) -> None:
        self.capacity, self.gone, self.most = capacity, gone, 0
        self.queue: deque[str] = deque()

    def submit(self, key: str, *_: Any, **__: Any) -> None:
        if self.gone:
            raise DecoderGone("the decoder has gone")
        if len(self.queue) >= self.capacity:
            raise DecoderFull("the decoder is full")
        self.queue.append(key)
        self.most = max(self.most, len(self.queue))

    def poll(self, timeout_s: float = 0.0) -> list[Decoded]:
        if not timeout_s or not self.queue:
            return []
        return [Decoded(self.queue.popleft(), np.full((4, 6, 3), 128, np.uint8), None)]

    def close(self) -> None: ...


def hear(folder: Path, decoder: SlowDecoder, times: int = 1, **options: Any) -> list[dict[str, Any]]:
    path = folder / "air.sigmf-meta"
    write_recording(path, np.concatenate([sent.samples for sent in SENT * times]), DEFAULT, (), {})
    hearing = Hearing(Playback(RecordingDevice(open_recording(path)), DEFAULT), DEFAULT)
    reception = Reception(hearing, Pictures(decoder, folder, steps=None, seed=0), **options)
    return list(reception.images())


def test_pictures_come_in_the_order_heard_and_are_compared(tmp_path: Path) -> None:
    entries = hear(tmp_path, SlowDecoder(), original=np.full((4, 6, 3), 128, np.uint8))
    assert [entry["image_id"] for entry in entries] == [0, 1, 2, 3]
    assert [Path(entry["file"]).name for entry in entries] == [f"received_{index:03d}.png" for index in range(4)]
    assert load_image(entries[0]["file"]).shape == (4, 6, 3) and entries[0]["quality"]["psnr_db"] is None
    assert "not" not in image_line("a", entries[0])


def test_a_recording_waits_for_a_slow_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calibration.reception._AHEAD", 2)
    decoder = SlowDecoder(capacity=2)
    assert all(entry["file"] for entry in hear(tmp_path, decoder)) and decoder.most == 2


@pytest.mark.parametrize(("decoder", "words"), [(SlowDecoder(capacity=0), "full"), (SlowDecoder(gone=True), "gone")])
def test_what_nobody_decodes_is_kept(tmp_path: Path, decoder: SlowDecoder, words: str) -> None:
    entries = hear(tmp_path, decoder)
    assert len(entries) == 4
    for entry, sent in zip(entries, SENT, strict=True):
        assert entry["file"] is None and words in entry["reason"] and words in image_line(entry["kept"], entry)
        kept = read_image(Path(entry["kept"]))
        assert kept.side == sent.side and kept.image_id == entry["image_id"]


def test_hearing_ends_with_the_number_of_pictures_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdr.devices.file._CHUNK_SAMPLES", 4096)
    assert 1 <= len(hear(tmp_path, SlowDecoder(), times=5, limit=1)) < 20
