"""`lrisc serve`: the decoder as a service for receivers here and elsewhere."""

import json
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from commands.common import Json, Model, NoSeed, terminal, working

EPILOG = (
    "Example: lrisc serve --device cuda:0 --device cuda:1, then: lrisc receive --decoder zmq:tcp://127.0.0.1:5755 …\n\n"
    "Example: lrisc serve --address tcp://0.0.0.0:5755 --keys keys/"
)


def serve(
    model: Model = "lrisc",
    address: Annotated[
        str, typer.Option(help="Where to listen, tcp://HOST:PORT or ipc://PATH; what is not loopback takes --keys.")
    ] = "tcp://127.0.0.1:5755",
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="cpu, cuda or cuda:N; repeated, one worker each [default: cuda where there is one].",
            show_default=False,
        ),
    ] = None,
    runtime: Annotated[
        str,
        typer.Option(
            help="torch (float32), bf16, compile (bf16 through torch.compile), onnx (after `lrisc export`), or auto: "
            "the fastest that is native here."
        ),
    ] = "auto",
    batch: Annotated[
        int, typer.Option(min=0, help="Most pictures of one size decoded at once; 0 is 8 on a GPU and 1 on a CPU.")
    ] = 0,
    queue: Annotated[int, typer.Option(min=1, max=4096, help="Most pictures that may wait or be in work.")] = 64,
    keys: Annotated[
        Path | None,
        typer.Option(help="Folder with CURVE keys; made if it has none.", show_default=False),
    ] = None,
    seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """Decode for receivers, in worker processes, until Ctrl-C or SIGTERM; then say what was done and refused.

    A worker that dies or hangs is started again and what it had is decoded by another. A picture that ends three
    workers is given up. When the queue is full, receivers wait. Over a network the connection is encrypted and both
    ends are known by their keys: copy server.key, client.key and client.key_secret from the --keys folder to the
    receiver, and give that folder to `lrisc receive --keys`; server.key_secret stays here.
    """
    from models.keys import create_keys
    from models.server import Server

    if keys is not None:
        create_keys(keys)
    server = Server(address, model, device or ("auto",), keys=keys, runtime=runtime, capacity=queue, batch=batch)
    stopped = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        terminal.print(f"{server.card.name} at zmq:{server.address}; Ctrl-C ends it", highlight=False, soft_wrap=True)
        with working("load models") as stage:

            def stop() -> bool:
                stats = server.stats()
                if stats["workers"]:
                    stage(f"{len(stats['workers'])} workers, {stats['queued']} waiting, {stats['done']} done")
                return stopped.is_set()

            server.run(stop)
        stats = server.stats()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        server.close()
    if as_json:
        print(json.dumps(stats))
        return
    refused = ", ".join(f"{count} × {why}" for why, count in stats["refused"].items()) or "none"
    print(
        f"{stats['done']} decoded, {stats['failed']} failed, {stats['restarts']} workers restarted; refused: {refused}"
    )
