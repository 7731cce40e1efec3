"""The .grc files as they are used: compiled, and run as programs."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from jaxtyping import UInt8

from flowgraphs import link
from flowgraphs.exchange import read_image
from models.image import load_image, save_image
from models.pipeline import JsccCodec
from sdr.channel import Channel
from sdr.waveform import DEFAULT
from tests.flowgraphs.conftest import GRAPHS
from tests.flowgraphs.helpers import ROOT, environment, random_codec, run

SEED, HINT_DB = 5, 10.0
STATION = ROOT / "configs" / "radio_virtual.yaml"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    random_codec().save(folder, "random", 0)
    return folder


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory, photo: UInt8[np.ndarray, "h w 3"]) -> Path:
    file = tmp_path_factory.mktemp("picture") / "photo.png"
    save_image(file, photo)
    return file


def start(program: Path, *options: object) -> subprocess.Popen[str]:
    words = [sys.executable, str(program), *map(str, options)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())


def psnr_db(first: np.ndarray, second: np.ndarray) -> float:
    return float(20 * np.log10(255) - 10 * np.log10(np.mean((first.astype(float) - second) ** 2)))


@pytest.mark.parametrize("name", GRAPHS)
def test_a_flowgraph_compiles_and_no_block_lies_on_another(programs: Path, name: str) -> None:
    assert (programs / f"{name}.py").is_file()
    content = yaml.safe_load((ROOT / "flowgraphs" / f"{name}.grc").read_text())
    assert content["options"]["parameters"]["id"] == name
    assert content["options"]["parameters"]["generate_options"] == ("qt_gui" if name.endswith("_gui") else "no_gui")
    places = [(block["name"], *block["states"]["coordinate"]) for block in content["blocks"]]
    for index, (block, x, y) in enumerate(places):
        for other, right, down in places[:index]:
            assert abs(x - right) >= 150 or abs(y - down) >= 56, f"{block} lies on {other}"


def test_a_picture_through_the_loopback_is_that_of_the_link(programs: Path, model: Path, picture: Path) -> None:
    """Encoded by the process that the flowgraph starts, and kept instead of decoded."""
    out = picture.parent / "received"
    options = ("--pictures", picture, "--model", model, "--out", out, "--seed", SEED, "--snr-db", 60, "--cfo-hz", 20e3)
    done = run(programs / "loopback.py", *options, "--decoder", "none", timeout_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 packets" in done.stdout and "1 images received, 0 decoded" in done.stdout
    codec, image = JsccCodec.from_pretrained(model), read_image(out / "received_000.npz")
    passage = link.loopback(
        codec, load_image(picture), DEFAULT, Channel("ideal"), cbr=1 / 12, snr_hint_db=HINT_DB, seed=SEED
    )
    assert image.side == passage.received.side
    assert np.mean(np.abs(image.symbols - passage.received.symbols) ** 2) < 1e-5


def test_two_processes_two_radios_one_picture(programs: Path, model: Path, picture: Path, tmp_path: Path) -> None:
    """Two HackRFs of software, 8 bit and with clocks of their own. Both go on until they are interrupted."""
    out = tmp_path / "received"
    radio = ("--station", STATION, "--model", model, "--device")
    air = f"air={tmp_path.name}"
    listen = (*radio, f"soapy:driver=lrisc,serial=bob,{air}", "--out", out, "--seconds", 90)
    speak = (*radio, f"soapy:driver=lrisc,serial=alice,{air}", "--pictures", picture, "--repeat", 1)
    receiver = start(programs / "receive.py", *listen)
    sender = start(programs / "transmit.py", *speak, "--allow-transmit", 1)
    try:
        assert receiver.stdout is not None
        heard = receiver.stdout.readline()
        for process in (sender, receiver):
            process.send_signal(signal.SIGINT)
        said, trouble = sender.communicate(timeout=30)
        told, complaint = receiver.communicate(timeout=30)
    finally:
        receiver.kill()
        sender.kill()
    assert receiver.returncode == 0, heard + told + complaint
    assert sender.returncode == 0 and "sent" in said, said + trouble
    assert "3 of 3 packets" in heard
    codec = JsccCodec.from_pretrained(model)
    expected = link.loopback(codec, load_image(picture), DEFAULT, Channel("ideal"), cbr=1 / 12, snr_hint_db=HINT_DB)
    assert psnr_db(load_image(out / "received_000.png"), link.decode(codec, expected.received)) > 25


def test_mistakes_end_with_one_line_and_nothing_is_sent(programs: Path, picture: Path, tmp_path: Path) -> None:
    """All at the same time, for most of it is Python starting."""
    virtual = "soapy:driver=lrisc,serial=carol"
    station, keep = ("--station", STATION), ("--out", tmp_path / "out", "--decoder", "none")
    (tmp_path / "link.yaml").write_text("fft_size: 100\n")
    cases = {
        ("transmit", *station, "--device", virtual, "--pictures", picture): "nothing is sent unless told to",
        ("receive", "--station", ROOT / "configs" / "radio_b210.yaml", "--device", "uhd:", *keep): "No devices found",
        ("receive", *station, "--device", virtual, "--decoder", "zmq:tcp://127.0.0.1:9"): "does not answer within",
        ("loopback", "--pictures", tmp_path / "none.png", *keep): "none.png' does not exist",
        ("loopback", "--link", tmp_path / "link.yaml", *keep): "power of two",
    }
    running = [(start(programs / f"{name}.py", *options), name, text) for (name, *options), text in cases.items()]
    for process, name, text in running:
        _, complaint = process.communicate(timeout=120)
        lines = [line for line in complaint.splitlines() if "[INFO] [UHD]" not in line]
        assert process.returncode == 2, complaint
        assert len(lines) == 1 and lines[0].startswith(f"{name}: ") and text in lines[0], complaint
