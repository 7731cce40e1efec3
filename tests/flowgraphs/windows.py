"""Runs scripts/flowgraph_pictures.py with stand-ins for the neural networks: python windows.py FOLDER."""

import itertools
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flowgraphs import pictures
from flowgraphs.blocks import transmitter
from flowgraphs.exchange import Outgoing
from tests.flowgraphs.helpers import ROOT, FakeDecoder, FakeEncoder, outgoing


class Endless(FakeEncoder):
    """Pictures of one colour each."""

    def __iter__(self) -> Iterator[Outgoing]:
        for number in itertools.count():
            if self.closed.is_set():
                return
            yield outgoing(number, picture=np.full((200, 300, 3), (30 * number % 256, 90, 160), np.uint8))


setattr(transmitter, "Encoder", lambda *words, **options: Endless())  # noqa: B010
setattr(pictures, "open_decoder", lambda address, model: FakeDecoder())  # noqa: B010
sys.argv = ["flowgraph_pictures", str(Path(sys.argv[1]))]
script = runpy.run_path(str(ROOT / "scripts" / "flowgraph_pictures.py"))
script["main"].__globals__.update(PICTURES=2, SHOWN_S=1.0, PATIENCE_S=60.0)
script["main"]()
