"""What a device is: anything that gives chunks of samples, takes bursts of them, or both."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Complex64

from sdr.calibrated import IqError
from sdr.errors import SdrError
from sdr.transmit import PacketSpan


class DeviceError(SdrError):
    """A radio vanished or no longer answers while it is in use; what it gave before is good."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """The next samples of a stream, full scale 1; empty where none came in the time that was given."""

    samples: Complex64[np.ndarray, "n"]
    time_s: float | None = None
    """Of the first sample, by the device's clock; None: it has none."""
    lost_samples: int = 0
    """How many samples are missing just before the first, as far as the device knows."""
    overflow: bool = False
    """Samples are missing just before the first; if `lost_samples` is 0, nobody knows how many."""


@dataclass
class Counters:
    """What went wrong since the device was opened."""

    overflows: int = 0
    """How often received samples were lost, because they were not fetched in time."""
    underflows: int = 0
    """How often a transmitter ran out of samples within a burst, which is torn there."""
    late: int = 0
    """Timed bursts that came after their time and were not sent."""
    lost_samples: int = 0
    """Received ones, as far as their number is known."""


class Device(ABC):
    """One radio or what stands in for one.

    A receiver is started, read until it has nothing more, and stopped, any number of times. Bursts can be transmitted
    at any time, on a half-duplex device only while it does not receive. `close` leaves a radio silent, and is safe to
    call at any time and again. Used by one thread.
    """

    kind: ClassVar[str]
    """What reports call it: recording, loopback, radio."""
    live: ClassVar[bool] = False
    """What is not fetched in time is lost."""
    full_duplex: bool = True
    timed: bool = False
    """Bursts can be given a time, and chunks have one."""

    imbalance: IqError | None = None
    """Of its receiver, where that was calibrated; its samples come as they are."""

    def __init__(self, name: str, rate_hz: float) -> None:
        self.name = name
        self.rate_hz = rate_hz
        self.counters = Counters()
        self._receiving = self._closed = False

    def start(self) -> None:
        """Begin to receive. Raises SdrError if this device cannot, DeviceError if it does not answer."""
        self._require(not self._receiving, "receives already")
        self._start()
        self._receiving = True

    def read(self, timeout_s: float) -> Chunk | None:
        """The next samples; an empty chunk if none come in that time, None once the stream has ended.

        Raises DeviceError if the device has vanished, SdrError if a file cannot be read.
        """
        self._require(self._receiving, "does not receive: start it first")
        chunk = self._read(timeout_s)
        if chunk is not None and (chunk.overflow or chunk.lost_samples):
            self.counters.overflows += 1
            self.counters.lost_samples += chunk.lost_samples
        return chunk

    def stop(self) -> None:
        """End receiving; what was not read is dropped."""
        if self._receiving:
            self._receiving = False
            self._stop()

    def transmit(
        self, samples: Complex64[np.ndarray, "n"], spans: Sequence[PacketSpan] = (), *, at_s: float | None = None
    ) -> None:
        """Send a burst and return when it has been sent.

        Args:
            samples: magnitude 1 is full scale.
            spans: where packets lie in them; a recording annotates them, a channel fades each by itself.
            at_s: when the first sample is sent, by the device's clock; None: as soon as can be.

        Raises:
            SdrError: no such burst can be sent by this device now; nothing was.
            DeviceError: the device vanished.
        """
        self._require(self.full_duplex or not self._receiving, "is half-duplex: stop receiving first")
        self._require(at_s is None or self.timed, "has no clock: a burst cannot be given a time")
        self._require(samples.size > 0, "was given no samples to send")
        peak = float(np.max(np.abs(samples)))
        self._require(peak <= 1, f"was given samples of magnitude {peak:g}, and can send no more than 1")
        self._transmit(samples, spans, at_s)

    def close(self) -> None:
        """Stop everything, leave a radio silent, finish a file."""
        if not self._closed:
            self._closed = True
            try:
                self.stop()
            finally:
                self._close()

    def silence_s(self) -> float:
        """How long it must not send now, after what it has sent."""
        return 0.0

    def now_s(self) -> float:
        """The device's clock. Raises SdrError if it has none."""
        raise SdrError(f"{self.name} has no clock")

    def describe(self) -> dict[str, Any]:
        """What it is, for JSON."""
        return {"device": self.name, "sample_rate_hz": self.rate_hz, **vars(self.counters)}

    def notes(self) -> list[str]:
        """What was odd beside lost samples, in words for people."""
        counters, notes = self.counters, []
        if counters.underflows:
            notes.append(f"{self.name}: ran out of samples {counters.underflows} times while sending")
        if counters.late:
            notes.append(f"{self.name}: {counters.late} bursts came too late for their time and were not sent")
        return notes

    def _require(self, condition: bool, otherwise: str) -> None:
        if self._closed:
            raise SdrError(f"{self.name} is closed")
        if not condition:
            raise SdrError(f"{self.name} {otherwise}")

    @abstractmethod
    def _start(self) -> None: ...

    @abstractmethod
    def _read(self, timeout_s: float) -> Chunk | None: ...

    @abstractmethod
    def _stop(self) -> None: ...

    @abstractmethod
    def _transmit(
        self, samples: Complex64[np.ndarray, "n"], spans: Sequence[PacketSpan], at_s: float | None
    ) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...
