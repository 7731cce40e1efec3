"""A decoder service in a thread, with fake workers, and a client of it."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from models.client import Decoded, Decoder
from models.server import Server
from models.weights import CARD, write_card

FAKE = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))


def make_model(folder: Path, name: str = "grey") -> str:
    """A folder with a card, which is all of a model that the service itself looks at."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / CARD).exists():
        (folder / "empty.safetensors").write_bytes(name.encode())
        write_card(folder, name, default_steps=1)
    return str(folder)


@contextmanager
def serving(folder: Path, devices: tuple[str, ...] = ("cpu",), **options: Any) -> Iterator[Server]:
    """A running service at ipc://FOLDER/service."""
    model = make_model(folder / "grey")
    server = Server(f"ipc://{folder}/service", model, devices, worker=FAKE, **options)
    stopped = threading.Event()
    thread = threading.Thread(target=server.run, args=(stopped.is_set,))
    thread.start()
    try:
        yield server
    finally:
        stopped.set()
        thread.join()
        server.close()


def connect(folder: Path, **options: Any) -> Decoder:
    return Decoder(f"ipc://{folder}/service", "the service", "grey", "", **options)


def submit(decoder: Decoder, key: str, value: float, side: bytes = bytes((2, 3))) -> None:
    decoder.submit(key, np.full(5, value, np.complex64), np.ones(5, np.float32), 10.0, side, steps=2, seed=1)


def collect(decoder: Decoder, count: int, limit_s: float = 40.0) -> dict[str, Decoded]:
    """Waits for `count` results, every one of another key."""
    results: dict[str, Decoded] = {}
    until = time.monotonic() + limit_s
    while len(results) < count and time.monotonic() < until:
        for result in decoder.poll(0.5):
            assert result.key not in results, f"{result.key} came twice"
            results[result.key] = result
    assert len(results) == count, f"{len(results)} of {count} results within {limit_s} s"
    return results
