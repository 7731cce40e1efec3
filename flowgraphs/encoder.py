"""Pictures are encoded in a process of their own: a neural network inside a flowgraph would stall its samples.

The pipe from that process holds few pictures, so that it encodes no faster than the flowgraph sends.
"""

import argparse
import contextlib
import io
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np

from flowgraphs import exchange
from flowgraphs.errors import LinkError
from flowgraphs.exchange import Outgoing
from models.errors import ModelError
from sdr.errors import SdrError
from sdr.framing import side_repetition
from sdr.header import IMAGE_ID_LIMIT, SESSION_LIMIT

_SUFFIXES = {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
_PATIENCE_S = 5.0


class Encoder:
    """A process that encodes pictures one after another. An iterator of them, for one thread at a time.

    pictures: a file, or a folder whose pictures are sent in the order of their names; with `repeat` again and again.
    seed: of the session number; None is random.

    Raises LinkError from the iterator, in one line, when nothing could be encoded or the process ended early.
    """

    def __init__(
        self, pictures: str, *, model: str, cbr: str, snr_hint_db: float, repeat: bool, seed: int | None
    ) -> None:
        command = [sys.executable, "-m", "flowgraphs.encoder", f"--model={model}", f"--cbr={cbr}"]
        command += [f"--snr-hint-db={snr_hint_db}"] + ["--repeat"] * repeat
        command += [] if seed is None else [f"--seed={seed}"]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen([*command, "--", pictures], stdout=subprocess.PIPE, stderr=self._said)

    def __iter__(self) -> Iterator[Outgoing]:
        pipe = cast(io.BufferedReader, self._process.stdout)
        while (outgoing := exchange.get(pipe)) is not None:
            yield outgoing
        if code := self._process.wait():
            self._said.seek(0)
            lines = self._said.read().decode(errors="replace").split("\n")
            raise LinkError(next((line for line in reversed(lines) if line), f"the encoder ended with code {code}"))

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def find_pictures(path: Path) -> list[Path]:
    """The picture, or those in the folder by name. Raises LinkError if there are none."""
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
    if not found:
        raise LinkError(f"the folder {path} holds no pictures ({', '.join(sorted(_SUFFIXES))})")
    return found


def encode(options: argparse.Namespace) -> Iterator[Outgoing]:
    """Encoded pictures. One that cannot be encoded is passed over if there are others.

    Raises ModelError, LinkError: bad options, or nothing could be encoded.
    """
    from models.codec import parse_cbr
    from models.image import load_image

    ratio, files = parse_cbr(options.cbr), find_pictures(Path(options.pictures))
    if len(files) == 1:
        load_image(files[0])  # before anything heavy is imported: a mistake is told at once
    import torch

    from flowgraphs import link
    from models.registry import load_codec

    codec = load_codec(options.model, "cuda" if torch.cuda.is_available() else "cpu")
    session = int(np.random.default_rng(options.seed).integers(SESSION_LIMIT))
    numbers = itertools.count()
    while files:
        for file in list(files):
            try:
                picture = load_image(file)
                encoded = link.encode(codec, picture, cbr=ratio, snr_hint_db=options.snr_hint_db, mask=None)
            except ModelError as error:
                if files == [file]:
                    raise
                print(error, file=sys.stderr)
                files.remove(file)
                continue
            number = next(numbers) % IMAGE_ID_LIMIT
            repetition = side_repetition(options.snr_hint_db, len(encoded.side))
            yield Outgoing(encoded.symbols, encoded.side, session, number, repetition, picture, file.name)
        if not options.repeat:
            return


def main() -> None:
    """The process itself."""
    parser = argparse.ArgumentParser("python -m flowgraphs.encoder", description=__doc__)
    parser.add_argument("pictures")
    for name in ("model", "cbr"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--snr-hint-db", type=float, required=True)
    parser.add_argument("--repeat", action="store_true")
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the pictures
    try:
        with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):  # the flowgraph has ended
            for outgoing in encode(options):
                exchange.put(pipe, outgoing)
    except (LinkError, ModelError, SdrError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
