"""`lrisc decode`: what a receiver kept becomes the picture that it would have become at once."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import UInt8

import lrisc
from flowgraphs import link
from flowgraphs.exchange import write_image
from models.image import load_image
from models.pipeline import JsccCodec
from sdr.channel import Channel
from sdr.waveform import DEFAULT
from tests.flowgraphs.helpers import random_codec
from tests.flowgraphs.test_exchange import received


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["lrisc", "decode", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        lrisc.main()
    return int(end.value.code or 0)


def test_a_kept_image_is_decoded(
    photo: UInt8[np.ndarray, "h w 3"],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    random_codec().save(tmp_path / "model", "random", 0)
    codec = JsccCodec.from_pretrained(tmp_path / "model")
    passage = link.loopback(codec, photo, DEFAULT, Channel("awgn", 15.0), cbr=1 / 12, seed=2)
    write_image(tmp_path / "kept.npz", passage.received)
    assert run(monkeypatch, tmp_path / "kept.npz", "--model", tmp_path / "model", "--seed", 3, "--json") == 0
    (entry,) = json.loads(capsys.readouterr().out)["images"]
    assert entry["file"] == str(tmp_path / "kept.png") and entry["snr_db_estimated"] == pytest.approx(15, abs=0.7)
    assert np.array_equal(load_image(tmp_path / "kept.png"), link.decode(codec, passage.received, seed=3))
    assert (tmp_path / "kept.npz").is_file()


def test_what_cannot_be_decoded_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "lost.npz", received(side=None))
    for words, code, text in (
        ([tmp_path / "none.npz"], 2, "cannot read"),
        ([Path(__file__)], 2, "not an .npz file"),
        ([tmp_path / "lost.npz"], 1, "side information was lost"),
    ):
        assert run(monkeypatch, *words) == code
        (line,) = filter(None, capsys.readouterr().err.splitlines())
        assert text in line
