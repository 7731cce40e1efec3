"""A worker of the decoder service: a process with one model on one device, that decodes what it is given.

Started by `models.server`, with whose end it ends: the pipe on its standard input closes then.
"""

import argparse
import os
import select
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import zmq
from jaxtyping import Complex64, Float32, UInt8

from models.codec import Codec
from models.errors import ModelError
from models.protocol import Batch, Beat, Failure, Job, Message, Picture, Ready, decode, encode

BEAT_S = 1.0
BATCH = 8

Load = Callable[[str, str, str], Codec]
"""Model, device and runtime → codec."""


@runtime_checkable
class Painter(Protocol):
    """A codec that can decode several pictures at once; see `models.pipeline.JsccCodec`."""

    def read(
        self,
        symbols: Complex64[np.ndarray, "n"],
        noise_var: Float32[np.ndarray, "m"],
        snr_db: float,
        side: bytes,
        *,
        steps: int | None = None,
        seed: int = 0,
    ) -> Any:
        """A received picture with a key `batch`. Raises ModelError."""

    def paint(self, batch: list[Any]) -> list[UInt8[np.ndarray, "h w 3"]]:
        """Pictures of one key."""
        ...


def work(arguments: Sequence[str], load: Load) -> None:
    """Decodes until the service ends.

    Args:
        arguments: of the command line, as `models.server` gives them.
        load: raises ModelError for a model or device that cannot be had; the service is told so.
    """
    parser = argparse.ArgumentParser(description="A worker of the decoder service; started by it.")
    parser.add_argument("--address", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--batch", type=int, default=0)
    options = parser.parse_args(arguments)
    context = zmq.Context()
    threading.Thread(target=_beat, args=(context, options.address, options.name), daemon=True).start()
    socket = _connect(context, options.address, options.name)
    try:
        codec = load(options.model, options.device, options.runtime)
    except ModelError as error:
        socket.send_multipart(encode(Failure(0, str(error))))
        socket.close(linger=2000)
        context.destroy(linger=2000)
        return
    socket.send_multipart(encode(Ready(options.batch or _suitable_batch(codec))))
    while True:
        batch = _receive(socket)
        assert isinstance(batch, Batch)
        jobs = [_receive(socket) for _ in range(batch.count)]
        for answer in answers(codec, [job for job in jobs if isinstance(job, Job)]):
            socket.send_multipart(encode(answer))


def answers(codec: Codec, jobs: Sequence[Job]) -> Iterator[Picture | Failure]:
    """Decodes jobs, those of equal size and steps at once where the codec can, as soon as each is done."""
    if not isinstance(codec, Painter) or len(jobs) == 1:
        for job in jobs:
            yield from _decoded([job.number], partial(_alone, codec, job))
        return
    groups: dict[Hashable, tuple[list[int], list[Any]]] = {}
    for job in jobs:
        try:
            received = codec.read(job.symbols, job.noise_var, job.snr_db, job.side, steps=job.steps, seed=job.seed)
        except ModelError as error:
            yield Failure(job.number, str(error))
            continue
        numbers, items = groups.setdefault(received.batch, ([], []))
        numbers.append(job.number)
        items.append(received)
    for numbers, items in groups.values():
        yield from _decoded(numbers, partial(codec.paint, items))


def _alone(codec: Codec, job: Job) -> list[UInt8[np.ndarray, "h w 3"]]:
    return [codec.decode(job.symbols, job.noise_var, job.snr_db, job.side, steps=job.steps, seed=job.seed)]


def _decoded(
    numbers: Sequence[int], decode_all: Callable[[], list[UInt8[np.ndarray, "h w 3"]]]
) -> Iterator[Picture | Failure]:
    try:
        pictures = decode_all()
    except ModelError as error:
        yield from (Failure(number, str(error)) for number in numbers)
    except MemoryError:
        yield from (Failure(number, "the decoder has too little memory for this picture") for number in numbers)
    else:
        yield from (Picture(number, picture) for number, picture in zip(numbers, pictures, strict=True))


def _suitable_batch(codec: Codec) -> int:
    """One after the other on a CPU, where all at once take about as long and the first would wait for the last."""
    network = getattr(codec, "network", None)
    return BATCH if isinstance(codec, Painter) and network is not None and network.device.type == "cuda" else 1


def _connect(context: zmq.Context[zmq.Socket[bytes]], address: str, name: str) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    socket.identity = name.encode()
    socket.connect(address)
    return socket


def _receive(socket: zmq.Socket[bytes]) -> Message:
    return decode(socket.recv_multipart())


def _beat(context: zmq.Context[zmq.Socket[bytes]], address: str, name: str) -> None:
    """Tells the service every second that this process lives, also while the other thread decodes."""
    socket = _connect(context, address, f"{name} beat")
    while True:
        socket.send_multipart(encode(Beat()))
        readable, _, _ = select.select([sys.stdin], [], [], BEAT_S)
        if readable and not os.read(sys.stdin.fileno(), 1):
            os._exit(0)  # the service is gone; nobody waits for what is being decoded


def _load(model: str, device: str, runtime: str) -> Codec:
    from models.runtime import load

    return load(model, device, runtime)


if __name__ == "__main__":
    work(sys.argv[1:], _load)
