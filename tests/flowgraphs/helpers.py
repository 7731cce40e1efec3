"""Running compiled flowgraphs, and what stands in for the neural networks at both ends."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowgraphs.encoder import Encoder
from flowgraphs.exchange import Outgoing
from models.client import Decoded, Decoder, DecoderFull
from models.network import JsccNetwork
from models.pipeline import JsccCodec
from models.weights import Card
from tests.sdr.helpers import gaussian

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """Of a process without a display that finds this checkout."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return inherited | {"PYTHONPATH": str(ROOT)}


def run(*command: object, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """A GNU Radio tool or program under this interpreter, which has the project's packages."""
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, env=environment(), check=False)


def random_codec() -> JsccCodec:
    """Random weights: what crosses the air is none the less the code of a picture."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = JsccNetwork((8, 16, 16), components=160, encoder_depth=1, decoder_depth=1, condition=16)
    return JsccCodec(Card("random", 0, {"none": "7f" * 32}), network, None)


def outgoing(number: int = 0, *, count: int = 9000, picture: np.ndarray | None = None) -> Outgoing:
    """An encoded picture whose symbols follow from its number."""
    if picture is None:
        picture = np.full((24, 32, 3), 40 * number % 256, np.uint8)
    symbols = gaussian(count, np.random.default_rng(number))
    return Outgoing(symbols, bytes(range(40)), 7, number, 1, picture, f"photo_{number}.png")


class FakeEncoder(Encoder):
    """Gives what it was made with, then ends, or fails."""

    def __init__(self, *items: Outgoing, error: Exception | None = None) -> None:
        self._items, self._error = items, error
        self.given = 0
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[Outgoing]:
        for item in self._items:
            self.given += 1
            yield item
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed.set()


class FakeDecoder(Decoder):
    """Makes a grey picture of everything after a while; takes `capacity` images at once."""

    def __init__(self, *, delay_s: float = 0.0, capacity: int = 100, error: str | None = None) -> None:
        self._delay_s, self._capacity, self._error = delay_s, capacity, error
        self._waiting: list[tuple[str, float]] = []
        self.jobs: list[tuple[Any, ...]] = []
        self.threads: set[int] = set()
        self.closed = False

    def submit(self, key: str, *job: Any, steps: int | None = None, seed: int = 0) -> None:
        self.threads.add(threading.get_ident())
        if len(self._waiting) >= self._capacity:
            raise DecoderFull("the decoder is full")
        self._waiting.append((key, time.monotonic()))
        self.jobs.append((key, *job, steps, seed))

    def poll(self, timeout_s: float = 0.0) -> list[Decoded]:
        self.threads.add(threading.get_ident())
        time.sleep(timeout_s)
        done = [key for key, since_s in self._waiting if time.monotonic() - since_s >= self._delay_s]
        self._waiting = [item for item in self._waiting if item[0] not in done]
        picture = None if self._error is not None else np.full((24, 32, 3), 128, np.uint8)
        return [Decoded(key, picture, self._error) for key in done]

    def close(self) -> None:
        self.closed = True
