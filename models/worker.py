"""A worker of the decoder service: a process with one model on one device, that decodes what it is given.

Started by `models.server`, with whose end it ends: the pipe on its standard input closes then.
"""

import argparse
import os
import select
import sys
import threading
from collections.abc import Callable, Sequence

import numpy as np
import zmq
from jaxtyping import UInt8

from models.codec import Codec
from models.errors import ModelError
from models.protocol import Batch, Beat, Failure, Job, Message, Picture, Ready, decode, encode

BEAT_S = 1.0

Load = Callable[[str, str, str], Codec]
"""Model, device and runtime → codec."""


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
    socket.send_multipart(encode(Ready()))
    while True:
        batch = _receive(socket)
        assert isinstance(batch, Batch)
        jobs = [_receive(socket) for _ in range(batch.count)]
        for job in jobs:
            assert isinstance(job, Job)
            socket.send_multipart(encode(_answer(codec, job)))


def _answer(codec: Codec, job: Job) -> Picture | Failure:
    try:
        image: UInt8[np.ndarray, "h w 3"] = codec.decode(
            job.symbols, job.noise_var, job.snr_db, job.side, steps=job.steps, seed=job.seed
        )
    except ModelError as error:
        return Failure(job.number, str(error))
    except MemoryError:
        return Failure(job.number, "the decoder has too little memory for this picture")
    return Picture(job.number, image)


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
    import torch

    from models.registry import load_codec

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_codec(model, device)


if __name__ == "__main__":
    work(sys.argv[1:], _load)
