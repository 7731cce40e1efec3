"""The GNU Radio loopback, compiled by grcc and run headless: as exact as the link without GNU Radio."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import UInt8

from flowgraphs import link
from flowgraphs.__main__ import main
from flowgraphs.exchange import Outgoing, read_outgoing, read_received, write_outgoing, write_received
from models.image import load_image, save_image
from models.network import JsccNetwork
from models.pipeline import JsccCodec
from models.weights import Card
from sdr.channel import Channel
from sdr.errors import SdrError
from sdr.framing import side_repetition
from sdr.impairments import noise_variance
from sdr.receive import ReceivedImage
from sdr.waveform import DEFAULT

ROOT = Path(__file__).parents[2]
SEED, HINT_DB = 5, 10.0


def environment() -> dict[str, str]:
    """Of a process without a display that finds this checkout."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    # As many threads of linear algebra as here: the last bits of a matrix product depend on it.
    return inherited | {"PYTHONPATH": str(ROOT)}


def run(*command: object) -> subprocess.CompletedProcess[str]:
    """A GNU Radio tool or program under this interpreter, which has the project's packages."""
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment(), check=False)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """flowgraphs/loopback.grc as grcc compiles it."""
    grcc = shutil.which("grcc")
    assert grcc, "grcc is missing: make setup"
    folder = tmp_path_factory.mktemp("grcc")
    done = run(grcc, "-o", folder, ROOT / "flowgraphs" / "loopback.grc")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "loopback.py"


def random_codec() -> JsccCodec:
    """Random weights: what crosses the air is none the less the code of a picture."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = JsccNetwork((8, 16, 16), components=160, encoder_depth=1, decoder_depth=1, condition=16)
    return JsccCodec(Card("random", 0, {"none": "7f" * 32}), network, None)


@pytest.fixture(scope="module")
def codec() -> JsccCodec:
    return random_codec()


def commands(words: list[object]) -> None:
    """python -m flowgraphs, in this process."""
    main([str(word) for word in words])


@pytest.fixture(scope="module")
def passage(codec: JsccCodec, photo: UInt8[np.ndarray, "h w 3"]) -> link.Passage:
    """The picture through the link without GNU Radio."""
    return link.loopback(codec, photo, DEFAULT, Channel("ideal"), cbr=1 / 12, snr_hint_db=HINT_DB, seed=SEED)


@pytest.fixture(scope="module")
def outgoing(passage: link.Passage) -> Outgoing:
    encoded, session = passage.sent.encoded, passage.received.session
    return Outgoing(encoded.symbols, encoded.side, session, image_id=0, repetition=side_repetition(HINT_DB))


Fly = Callable[..., list[ReceivedImage]]


@pytest.fixture
def fly(program: Path, outgoing: Outgoing, tmp_path: Path) -> Fly:
    """Run the flowgraph with options of its command line."""

    def flight(*options: object) -> list[ReceivedImage]:
        sent, received = tmp_path / "sent.npz", tmp_path / "received.npz"
        write_outgoing(sent, outgoing)
        done = run(program, "--input-file", sent, "--output-file", received, *options)
        assert done.returncode == 0, done.stderr
        return read_received(received)

    return flight


def same(first: ReceivedImage, second: ReceivedImage) -> bool:
    return all(np.array_equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(ReceivedImage))


def test_without_noise_it_gives_the_very_picture_of_the_link(fly: Fly, codec: JsccCodec, passage: link.Passage) -> None:
    (image,) = fly()
    assert same(image, passage.received)
    picture = link.decode(codec, image, seed=SEED)
    assert picture.std() > 1 and np.array_equal(picture, link.decode(codec, passage.received, seed=SEED))


def test_noise_and_offset_of_gnu_radio_are_what_the_receiver_measures(fly: Fly, outgoing: Outgoing) -> None:
    options = ("--noise-voltage", noise_variance(15.0, DEFAULT) ** 0.5, "--cfo-hz", 20e3, "--seed", SEED)
    (image,) = fly(*options)
    assert image.side == outgoing.side and image.packets_received == image.packets_expected
    assert image.snr_db == pytest.approx(15.0, abs=1.0)
    assert image.cfo_hz == pytest.approx(20e3, abs=50)
    error = np.mean(np.abs(image.symbols - outgoing.symbols) ** 2)
    assert 10 * np.log10(error) == pytest.approx(-15.0, abs=1.0)
    (again,), (other,) = fly(*options), fly(*options[:-1], SEED + 1)
    # Not to the bit: how GNU Radio rounds while it turns the phase depends on how the scheduler cuts the stream.
    assert np.allclose(again.symbols, image.symbols, atol=1e-4)
    assert not np.allclose(other.symbols, image.symbols, atol=1e-2)


def test_noise_alone_holds_no_image(fly: Fly) -> None:
    assert fly("--noise-voltage", noise_variance(-30.0, DEFAULT) ** 0.5) == []


@pytest.mark.parametrize("content", [None, b"", b"no archive"])
def test_a_bad_input_file_ends_it_with_the_reason(program: Path, tmp_path: Path, content: bytes | None) -> None:
    sent = tmp_path / "sent.npz"
    if content is not None:
        sent.write_bytes(content)
    done = run(program, "--input-file", sent, "--output-file", tmp_path / "received.npz")
    assert done.returncode == 1 and str(sent) in done.stderr.splitlines()[-1]
    assert not (tmp_path / "received.npz").exists()


def test_an_output_that_cannot_be_written_ends_it_with_the_reason(
    program: Path, outgoing: Outgoing, tmp_path: Path
) -> None:
    write_outgoing(tmp_path / "sent.npz", outgoing)
    done = run(program, "--input-file", tmp_path / "sent.npz", "--output-file", tmp_path / "none" / "received.npz")
    assert done.returncode == 1 and "cannot write" in done.stderr.splitlines()[-1]


def test_commands_encode_before_and_decode_after_it(
    program: Path, photo: UInt8[np.ndarray, "h w 3"], tmp_path: Path
) -> None:
    random_codec().save(tmp_path / "model", "random", 0)
    save_image(tmp_path / "photo.png", photo)
    model = ("--model", tmp_path / "model", "--seed", SEED)
    commands(["encode", tmp_path / "photo.png", tmp_path / "sent.npz", *model])
    done = run(program, "--input-file", tmp_path / "sent.npz", "--output-file", tmp_path / "received.npz")
    assert done.returncode == 0, done.stderr
    commands(["decode", tmp_path / "received.npz", tmp_path / "received.png", *model])
    codec = JsccCodec.from_pretrained(tmp_path / "model")
    expected = link.loopback(codec, photo, DEFAULT, Channel("ideal"), cbr=1 / 12, seed=SEED)
    assert np.array_equal(load_image(tmp_path / "received.png"), link.decode(codec, expected.received, seed=SEED))


def test_commands_end_with_one_line_for_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_received(tmp_path / "received.npz", [])
    for words in (
        ["encode", tmp_path / "none.png", tmp_path / "sent.npz"],
        ["encode", tmp_path / "none.png", tmp_path / "sent.npz", "--cbr=1/0"],
        ["decode", tmp_path / "none.npz", tmp_path / "picture.png"],
        ["decode", tmp_path / "received.npz", tmp_path / "picture.png"],
    ):
        with pytest.raises(SystemExit) as end:
            commands(words)
        assert end.value.code == 2 and capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit) as end:
        commands(["encode", "photo.png", "sent.npz", "--seed=-1"])
    assert end.value.code == 2 and "argument --seed: '-1' is not a" in capsys.readouterr().err


# ---------------------------------------------------------------- the files


def test_files_give_back_what_was_written(outgoing: Outgoing, passage: link.Passage, tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    write_outgoing(path, outgoing)
    back = read_outgoing(path)
    assert all(np.array_equal(getattr(back, f.name), getattr(outgoing, f.name)) for f in fields(Outgoing))
    images = [passage.received, replace(passage.received, side=None)]
    write_received(path, images)
    assert all(same(*pair) for pair in zip(read_received(path), images, strict=True))
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_damaged_and_foreign_files_are_refused_in_one_line(outgoing: Outgoing, tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    write_outgoing(path, outgoing)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\x93NUMPY", whole.replace(b"NUMPY", b"NUMPX")):
        path.write_bytes(content)
        with pytest.raises(SdrError, match=r"^[^\n]*not an \.npz file[^\n]*$"):
            read_outgoing(path)
    np.savez(path, symbols=np.array([{}], object), side=np.zeros(1, np.uint8))
    with pytest.raises(SdrError, match=r"not an \.npz file"):
        read_outgoing(path)
    np.savez(path, symbols=np.ones(3), side=np.zeros(1, np.uint8), session=0, image_id=0, repetition=1)
    with pytest.raises(SdrError, match="'symbols' is missing or of another type"):
        read_outgoing(path)
    with pytest.raises(SdrError, match="'images' is missing"):
        read_received(path)
    np.savez(path, images=1)
    with pytest.raises(SdrError, match=r"'0\.symbols' is missing"):
        read_received(path)
    with pytest.raises(SdrError, match="cannot read"):
        read_received(tmp_path)
