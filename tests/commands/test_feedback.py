"""`--feedback` of the commands: a receiver in a process of its own, a sender in another, a radio that is a file."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from PIL import Image

from flowgraphs.feedback import Report, Subscriber, pack
from models.image import default_photo

ROOT = Path(__file__).parents[2]
LIMIT_S = 120.0
SEED = 3


def lrisc(*arguments: object) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "lrisc", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def port() -> int:
    with zmq.Context() as context, context.socket(zmq.REP) as probe:
        return probe.bind_to_random_port("tcp://127.0.0.1")


@pytest.fixture
def good_link(port: int) -> Iterator[None]:
    """A receiver that hears every picture at 20 dB, among noise that is no report."""
    session, ended = int(np.random.default_rng(SEED).integers(1 << 16)), threading.Event()

    def publish() -> None:
        with zmq.Context() as context, context.socket(zmq.PUB) as socket:
            socket.bind(f"tcp://127.0.0.1:{port}")
            counter = 0
            while not ended.wait(0.02):
                counter += 1
                socket.send(b"noise")
                socket.send(pack(Report(session, 0, 20.0, 4, 4, counter)))

    thread = threading.Thread(target=publish)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.mark.usefixtures("good_link")
def test_a_sender_follows_and_a_receiver_reports(tmp_path: Path, port: int) -> None:
    folder, recording = tmp_path / "pictures", tmp_path / "air.sigmf-meta"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(default_photo()[0][20:180, 40 * number : 40 * number + 160]).save(folder / f"{number}.png")
    address = f"zmq:tcp://127.0.0.1:{port}"
    code, out, err = lrisc(
        "send", folder, "--to", recording, "--cbr", "1/8", "--seed", SEED, "--feedback", address, "--json"
    )
    assert code == 0, err
    *entries, report = map(json.loads, out.splitlines())
    feedback = report["feedback"]
    assert feedback["reports"] > 0 and feedback["malformed"] > 0 and feedback["snr_hint_db"] > 12
    assert len(entries) == 4 and entries[-1]["cbr"] < 0.9 / 8

    heard: list[Report] = []
    done = threading.Event()
    with_port = f"zmq:ipc://{tmp_path}/reports"

    def listen() -> None:
        subscriber = Subscriber(with_port)
        while not done.wait(0.01):
            heard.extend(subscriber.poll())
        subscriber.close()

    thread = threading.Thread(target=listen)
    thread.start()
    code, _, err = lrisc("receive", "--from", recording, "--out", tmp_path / "out", "--feedback", with_port, "--json")
    time.sleep(0.1)
    done.set()
    thread.join()
    assert code == 0, err
    assert [entry.image_id for entry in heard] == [0, 1, 2, 3] and all(entry.valid for entry in heard)


def test_without_a_receiver_pictures_are_sent_as_asked_for(tmp_path: Path, port: int) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(default_photo()[0][:96, :96]).save(photo)
    code, out, err = lrisc(
        "send", photo, "--to", tmp_path / "a.sigmf-meta", "--feedback", f"zmq:tcp://127.0.0.1:{port}", "--json"
    )
    assert code == 0, err
    facts: dict[str, Any] = json.loads(out)
    assert facts["cbr"] == pytest.approx(1 / 12, rel=0.02)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--feedback", "tcp://127.0.0.1:5"), "zmq:tcp"),
        (("--feedback", "zmq:tcp://192.0.2.1:5"), "--feedback-keys"),
        (("--feedback-keys", "keys"), "--feedback"),
    ],
)
def test_what_is_refused_before_anything_is_received(tmp_path: Path, options: tuple[str, ...], reason: str) -> None:
    code, out, err = lrisc("receive", "--from", tmp_path / "none.sigmf-meta", *options)
    assert code == 2 and reason in err and not out and "Traceback" not in err
