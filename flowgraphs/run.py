"""How a flowgraph begins and ends: mistakes are one line, and nothing that was received is thrown away.

The snippets of the .grc files call these functions.
"""

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from flowgraphs.errors import LinkError
from models.errors import ModelError
from sdr.errors import SdrError
from sdr.waveform import DEFAULT, Waveform, load_waveform

_MISTAKES = (LinkError, ModelError, SdrError)
_LOOK_S = 0.1


def begin(link: str = "") -> Waveform:
    """The waveform of that file, or the default one. From here on mistakes of the user end the program with one line.

    Its exit code is then 2, as that of `lrisc`. Raises SdrError for a file that is no waveform.
    """
    before = sys.excepthook

    def one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, _MISTAKES):
            before(kind, error, trace)
            return
        say(str(error))
        atexit.register(os._exit, 2)  # Python's own code for an exception is 1

    sys.excepthook = one_line
    return load_waveform(Path(link)) if link else DEFAULT


def say(line: str) -> None:
    """Tell the user what is wrong."""
    print(f"{Path(sys.argv[0]).stem}: {line}", file=sys.stderr, flush=True)


def watch(stop: Callable[[], None], *parts: Any, seconds: float = 0.0) -> None:
    """Stop a running flowgraph as soon as one of its blocks is `over`, or after so many seconds; 0: never."""
    end_s = time.monotonic() + (seconds or float("inf"))

    def look() -> None:
        while time.monotonic() < end_s and not any(part.over for part in parts):
            time.sleep(_LOOK_S)
        stop()

    threading.Thread(target=look, name="watch", daemon=True).start()


def finish_sending(transmitter: Any) -> int:
    """Exit code of a flowgraph that has sent."""
    if transmitter.problem is not None:
        return 2
    print(f"{transmitter.sent} picture{'s' * (transmitter.sent != 1)} sent", flush=True)
    return 0


def finish_receiving(receiver: Any, decoder: Any) -> int:
    """Decode what is left of a flowgraph that has received, and give its exit code: 1 if a picture did not arrive."""
    for image in receiver.rest():
        decoder.take(image)
    decoder.finish()
    counters = ", ".join(f"{count} {name}" for name, count in receiver.counters().items() if count)
    print(f"{decoder.done} images received, {decoder.decoded} decoded; {counters or 'no samples'}", flush=True)
    return int(receiver.problem is not None or decoder.problem is not None or decoder.missed > 0 or not decoder.done)


def arrange(window: Any) -> None:
    """Give a flowgraph's window its looks: colours, size, and two wide columns of plots beside one of pictures."""
    window.setStyleSheet((Path(__file__).parent / "displays.qss").read_text())
    window.resize(1500, 960)
    for column, stretch in enumerate((4, 4, 3)):
        window.top_grid_layout.setColumnStretch(column, stretch)
    for plot in (value for name, value in vars(window).items() if name.endswith("_win")):
        plot.setMinimumSize(240, 24)
