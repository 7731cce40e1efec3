"""What becomes of received images: pictures, or files that can be decoded later."""

from pathlib import Path
from typing import Any

import pytest

from flowgraphs import pictures
from flowgraphs.exchange import read_image
from flowgraphs.pictures import Pictures, open_pictures
from models.errors import ModelError
from models.image import load_image
from sdr.errors import SdrError
from tests.flowgraphs.helpers import FakeDecoder
from tests.flowgraphs.test_exchange import received, same


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def make(decoder: Any, folder: Path) -> Pictures:
    return Pictures(decoder, folder, steps=2, seed=5)


def test_a_decoded_image_becomes_a_picture_and_a_line(tmp_path: Path) -> None:
    decoder, image = FakeDecoder(), received()
    with make(decoder, tmp_path) as under_test:
        assert under_test.submit(image) == [] and under_test.waiting == 1
        (outcome,) = under_test.poll(0.0)
        assert under_test.waiting == 0
    assert decoder.closed and decoder.jobs[0][0] == "received_000" and decoder.jobs[0][-2:] == (2, 5)
    assert names(tmp_path) == ["received_000.png"] and load_image(outcome.file).shape == (24, 32, 3)
    assert outcome.line() == f"{outcome.file}: SNR 12.5 dB, CFO -1234 Hz, 3 of 4 packets"
    assert not outcome.missed


@pytest.mark.parametrize("capacity", [0, 2])
def test_what_a_full_decoder_does_not_take_is_kept(tmp_path: Path, capacity: int) -> None:
    images = [received(number) for number in range(4)]
    with make(FakeDecoder(capacity=capacity), tmp_path) as under_test:
        refused = [outcome for image in images for outcome in under_test.submit(image)]
        decoded = under_test.poll(0.0)
    assert len(refused) == 4 - capacity and len(decoded) == capacity
    assert all(outcome.missed and "full" in outcome.line() for outcome in refused)
    assert same(read_image(refused[-1].file), images[-1])


def test_what_a_decoder_fails_at_or_has_not_finished_is_kept(tmp_path: Path) -> None:
    with make(FakeDecoder(error="no such model"), tmp_path) as under_test:
        under_test.submit(received(1))
        (outcome,) = under_test.poll(0.0)
        under_test.submit(received(2))
        (given_up,) = under_test.give_up("not waited for")
        assert under_test.waiting == 0
    assert outcome.reason == "no such model" and given_up.reason == "not waited for"
    assert same(read_image(outcome.file), received(1)) and same(read_image(given_up.file), received(2))


def test_without_side_information_or_decoder_nothing_is_asked(tmp_path: Path) -> None:
    decoder = FakeDecoder()
    with make(decoder, tmp_path) as under_test:
        (lost,) = under_test.submit(received(side=None))
    with make(None, tmp_path / "..") as under_test:
        (kept,) = under_test.submit(received())
        assert under_test.poll(0.0) == []
    assert lost.missed and "side information was lost" in lost.line() and decoder.jobs == []
    assert not kept.missed and "kept as it was received" in kept.line()


def test_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SdrError, match="steps must be"):
        open_pictures(tmp_path, "none", "lrisc", steps="many")
    (tmp_path / "file").write_text("")
    with pytest.raises(SdrError, match="cannot write to the folder"):
        open_pictures(tmp_path / "file", "none", "lrisc")
    with pytest.raises(ModelError, match="is no address"):
        open_pictures(tmp_path / "new", "nonsense", "lrisc")
    asked: list[tuple[str | None, str]] = []
    monkeypatch.setattr(pictures, "open_decoder", lambda *words: asked.append(words))
    open_pictures(tmp_path / "new", "", "deepjscc")
    assert asked == [(None, "deepjscc")] and (tmp_path / "new").is_dir()
