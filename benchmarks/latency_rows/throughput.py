"""The decoder service under load: pictures per second by workers and batch, and what it adds to one picture."""

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from models.client import Decoder, open_decoder
from models.server import Server
from sdr.receive import ReceivedImage


@contextmanager
def _service(model: str, workers: int, device: str, batch: int) -> Iterator[Decoder]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(f"ipc://{folder}/service", model, (device,) * workers, batch=batch)
        stopped = threading.Event()
        thread = threading.Thread(target=server.run, args=(stopped.is_set,))
        thread.start()
        try:
            while len(server.stats()["workers"]) < workers:
                time.sleep(0.1)
            with open_decoder(f"zmq:ipc://{folder}/service", model) as decoder:
                yield decoder
        finally:
            stopped.set()
            thread.join()
            server.close()


def _decode(decoder: Decoder, found: ReceivedImage, steps: int, count: int) -> float:
    """Seconds until `count` pictures that were submitted at once have come."""
    assert found.side is not None
    begun = time.perf_counter()
    for number in range(count):
        decoder.submit(str(number), found.symbols, found.noise_var, found.snr_db, found.side, steps=steps, seed=number)
    while decoder.pending:
        for result in decoder.poll(1.0):
            if result.error is not None:
                raise SystemExit(f"the service failed: {result.error}")
    return time.perf_counter() - begun


def measure(
    found: ReceivedImage, model: str, device: str, *, workers: int, batch: int, count: int, rounds: int
) -> dict[str, Any]:
    """Pictures per second of `count` that wait, and the seconds of one alone, both with 4 steps."""
    with _service(model, workers, device, batch) as decoder:
        _decode(decoder, found, 4, workers * batch)
        rates, alone = [], []
        for _ in range(rounds):
            rates.append(count / _decode(decoder, found, 4, count))
            alone.append(_decode(decoder, found, 4, 1))
    return {
        "workers": workers,
        "batch": batch,
        "device": device,
        "pictures_per_s": float(np.median(rates)),
        "pictures_per_s_range": [min(rates), max(rates)],
        "one_ms": float(np.median(alone)) * 1e3,
        "pictures": count,
        "rounds": rounds,
    }
