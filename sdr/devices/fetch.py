"""Receiving from a SoapySDR driver: a thread fetches samples, so that the driver's small buffers never wait."""

import queue
import threading
import time
from typing import Any

import numpy as np

from sdr.devices.base import Chunk, DeviceError

POLL_US = 100_000
SILENCE_S = 3.0
"""A radio that gives or takes no samples for so long has vanished."""
_QUEUE_S = 2.0
"""Of samples that wait for the reader; after that the driver's buffers fill, and the driver counts an overflow."""
_READ_SAMPLES = 1 << 14


def vanished(name: str, why: str) -> DeviceError:
    """The one line about a radio that is no longer there."""
    return DeviceError(f"{name} has vanished ({why}): plug it in again")


def first_line(error: BaseException) -> str:
    """What an exception of a driver says."""
    return next(iter(str(error).splitlines()), type(error).__name__)


class Fetcher:
    """The thread of one active stream; gaps are told by the driver's flags and, where it is `timed`, by its times."""

    def __init__(self, soapy: Any, driver: Any, stream: Any, name: str, rate_hz: float, timed: bool) -> None:
        self._soapy, self._driver, self._stream, self._name = soapy, driver, stream, name
        self._rate_hz, self._timed = rate_hz, timed
        self._size = max(int(driver.getStreamMTU(stream)), _READ_SAMPLES)
        self._queue: queue.Queue[Chunk | DeviceError] = queue.Queue(max(2, round(_QUEUE_S * rate_hz / self._size)))
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def get(self, timeout_s: float) -> Chunk:
        """The next chunk, empty if none comes in that time. Raises DeviceError if the radio has vanished."""
        try:
            item = self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return Chunk(np.empty(0, np.complex64))
        if isinstance(item, DeviceError):
            raise item
        return item

    def halt(self, limit_s: float) -> None:
        """End the thread, or leave it alone if the driver hangs."""
        self._halt.set()
        self._thread.join(limit_s)

    def _run(self) -> None:
        try:
            self._put(self._fetch())
        except Exception as error:  # whatever a driver throws
            self._put(vanished(self._name, first_line(error)))

    def _fetch(self) -> DeviceError:
        """Chunks into the queue until told to halt; why there are no more."""
        soapy, buffer = self._soapy, np.empty(self._size, np.complex64)
        lossy = (soapy.SOAPY_SDR_OVERFLOW, soapy.SOAPY_SDR_CORRUPTION, soapy.SOAPY_SDR_TIME_ERROR)
        expected_s: float | None = None
        overflow, heard = False, time.monotonic()
        while not self._halt.is_set():
            result = self._driver.readStream(self._stream, [buffer], self._size, timeoutUs=POLL_US)
            if result.ret > 0:
                heard = time.monotonic()
                time_s = result.timeNs * 1e-9 if self._timed and result.flags & soapy.SOAPY_SDR_HAS_TIME else None
                lost = 0
                if time_s is not None and expected_s is not None:
                    lost = max(0, round((time_s - expected_s) * self._rate_hz))
                self._put(Chunk(buffer[: result.ret].copy(), time_s, lost, overflow or lost > 0))
                expected_s = None if time_s is None else time_s + result.ret / self._rate_hz
                overflow = False
            elif result.ret in lossy:
                overflow, heard = True, time.monotonic()
            elif result.ret not in (0, soapy.SOAPY_SDR_TIMEOUT):
                return vanished(self._name, soapy.errToStr(result.ret))
            elif time.monotonic() - heard > SILENCE_S:
                return vanished(self._name, f"it has sent no samples for {SILENCE_S:g} s")
        return DeviceError(f"{self._name} does not receive any more")

    def _put(self, item: Chunk | DeviceError) -> None:
        while not self._halt.is_set():
            try:
                return self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
