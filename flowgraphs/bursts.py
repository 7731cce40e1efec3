"""Pictures to bursts of samples, encoded ahead of time and given out when each is due."""

import contextlib
import queue
import threading
import time
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Complex64

from flowgraphs.encoder import Encoder
from flowgraphs.errors import LinkError
from flowgraphs.exchange import Outgoing
from sdr.errors import SdrError
from sdr.safety import TransmitGuard
from sdr.transmit import transmit
from sdr.waveform import Waveform


@dataclass(frozen=True)
class Timing:
    """Silence around bursts, and when the next one may come.

    lead_samples: of silence before the first burst.
    silence_samples: after every burst, or more: up to a `multiple` of a length.
    pause_s: from the start of one burst to the next, at least; drain_s: from that of the last one to the end.
    """

    lead_samples: int = 0
    silence_samples: int = 0
    multiple: int = 1
    pause_s: float = 0.0
    drain_s: float = 0.0


@dataclass(frozen=True, eq=False)
class Burst:
    """All packets of a picture, with silence around them."""

    outgoing: Outgoing
    samples: Complex64[np.ndarray, "n"]
    packets: int
    air_s: float
    """How long the packets take."""


def make_burst(outgoing: Outgoing, waveform: Waveform, timing: Timing) -> Burst:
    """A picture's packets between two silences, that of the first burst before them.

    Raises SdrError for what no header can express.
    """
    sent = transmit(
        outgoing.symbols,
        outgoing.side,
        waveform,
        session=outgoing.session,
        image_id=outgoing.image_id,
        repetition=outgoing.repetition,
    )
    length = timing.lead_samples + sent.samples.size + timing.silence_samples
    samples = np.pad(sent.samples, (timing.lead_samples, timing.silence_samples + -length % timing.multiple))
    return Burst(outgoing, samples, len(sent.packets), sent.samples.size / waveform.sample_rate_hz)


class Bursts:
    """Bursts of the pictures that `source` gives, the next one prepared by a thread while one is on its way.

    guard: whose duty cycle is kept; None: none.
    """

    over = False
    """Nothing more comes."""
    problem: str | None = None
    """Why nothing more comes, if it is not that all have been sent."""

    def __init__(self, source: Encoder, waveform: Waveform, timing: Timing, guard: TransmitGuard | None) -> None:
        self._source, self._waveform, self._timing, self._guard = source, waveform, timing, guard
        self._ready: queue.Queue[Burst | None] = queue.Queue(maxsize=1)
        self._left = np.empty(0, np.complex64)  # of the burst that is on its way
        self._due_s = self._drained_s = 0.0
        self._ended = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._prepare, name="bursts", daemon=True)
        self._thread.start()

    def take(self, wait_s: float) -> Burst | None:
        """The next burst if it is due within that time. It is taken to be on the air from now on."""
        left_s = self._due_s - time.monotonic()
        if left_s > wait_s:
            time.sleep(wait_s)
            return None
        time.sleep(max(left_s, 0.0))
        if self._ended:
            self.over = True
            return None
        try:
            burst = self._ready.get(timeout=max(wait_s, 1e-3))
        except queue.Empty:
            return None
        now = time.monotonic()
        if burst is None:
            self._ended = True
            self._due_s = self._drained_s
            return None
        if self._guard is not None:
            self._guard.note(burst.air_s)
        silence_s = 0.0 if self._guard is None else burst.air_s + self._guard.wait_s()
        self._drained_s = now + self._timing.drain_s
        self._due_s = now + max(self._timing.pause_s, silence_s)
        return burst

    def fill(self, out: Complex64[np.ndarray, "n"], wait_s: float) -> tuple[int, Burst | None]:
        """Copy what comes next into `out`: how many samples, and their burst if they are its first."""
        burst = None
        if not self._left.size and (burst := self.take(wait_s)) is not None:
            self._left = burst.samples
        chunk, self._left = np.split(self._left, [out.size])
        out[: chunk.size] = chunk
        return chunk.size, burst

    def close(self) -> None:
        """End what prepares bursts."""
        self._closed.set()
        self._source.close()
        self._thread.join()

    def _prepare(self) -> None:
        try:
            timing = self._timing
            for outgoing in self._source:
                self._put(make_burst(outgoing, self._waveform, timing))
                timing = replace(timing, lead_samples=0)
        except (LinkError, SdrError) as error:
            self.problem = str(error)
        self._put(None)

    def _put(self, burst: Burst | None) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._ready.put(burst, timeout=0.1)
                return
