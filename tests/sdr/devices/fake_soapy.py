"""A stand-in for the SoapySDR module with one radio that fails on demand, for what no driver does when asked to.

Its air: what is written is read back once, at the speed of reading; between it there is weak noise.
"""

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SOAPY_SDR_TX, SOAPY_SDR_RX = 0, 1
SOAPY_SDR_CF32 = "CF32"
SOAPY_SDR_END_BURST, SOAPY_SDR_HAS_TIME, SOAPY_SDR_END_ABRUPT = 2, 4, 8
SOAPY_SDR_TIMEOUT, SOAPY_SDR_STREAM_ERROR, SOAPY_SDR_CORRUPTION = -1, -2, -3
SOAPY_SDR_OVERFLOW, SOAPY_SDR_NOT_SUPPORTED, SOAPY_SDR_TIME_ERROR, SOAPY_SDR_UNDERFLOW = -4, -5, -6, -7
SOAPY_SDR_CRITICAL = 2
RATE_HZ = 4e6


@dataclass
class Range:
    low: float
    high: float
    by: float = 0.0

    def minimum(self) -> float:
        return self.low

    def maximum(self) -> float:
        return self.high

    def step(self) -> float:
        return self.by


@dataclass
class Result:
    ret: int
    flags: int = 0
    timeNs: int = 0


@dataclass
class Radio:
    """What it is, and what shall go wrong."""

    timed: bool = False
    full_duplex: bool = False
    mtu: int = 8192
    busy: bool = False
    absent: bool = False
    hangs: bool = False
    reads: deque[int] = field(default_factory=deque)
    """Return codes of the next reads, before samples come; 0 and above mean samples as usual."""
    writes: deque[int] = field(default_factory=deque)
    statuses: deque[int] = field(default_factory=deque)
    skip: int = 0
    """Samples that the next read leaves out, as an overflow does."""
    log: list[str] = field(default_factory=list)
    gains: dict[tuple[int, str], float] = field(default_factory=lambda: {(0, "AMP"): 14.0, (0, "VGA"): 47.0})
    sent: list[np.ndarray] = field(default_factory=list)
    clock: int = 0
    """In samples."""
    opened: int = 0


class Module:
    """What `import SoapySDR` gives, with this one radio."""

    def __init__(self, radio: Radio) -> None:
        self.radio = radio
        self.Device = _Factory(radio)

    def __getattr__(self, name: str) -> Any:
        return globals()[name]

    def errToStr(self, code: int) -> str:
        return {SOAPY_SDR_STREAM_ERROR: "STREAM_ERROR"}.get(code, str(code))

    def listModules(self) -> list[str]:
        return ["/usr/lib/libfakeSupport.so"]

    def setLogLevel(self, level: int) -> None:
        pass


class _Factory:
    def __init__(self, radio: Radio) -> None:
        self.radio = radio

    def enumerate(self, arguments: dict[str, str] | None = None) -> list[dict[str, str]]:
        return [] if self.radio.absent else [{"driver": "fake", "serial": "1", "label": "Fake #1"}]

    def __call__(self, arguments: dict[str, str]) -> "Driver":
        if self.radio.busy:
            raise RuntimeError("hackrf_open() failed: Resource busy (-1000)\nsecond line")
        self.radio.opened += 1
        return Driver(self.radio)


class Driver:
    def __init__(self, radio: Radio) -> None:
        self.radio = radio
        self.active: set[int] = set()
        self.pending = np.zeros(0, np.complex64)
        self.rng = np.random.default_rng(0)
        self.lock = threading.Lock()

    def getNumChannels(self, direction: int) -> int:
        return 1

    def getFullDuplex(self, direction: int, channel: int) -> bool:
        return self.radio.full_duplex

    def hasHardwareTime(self) -> bool:
        return self.radio.timed

    def getHardwareTime(self) -> int:
        return round(self.radio.clock / RATE_HZ * 1e9)

    def listAntennas(self, direction: int, channel: int) -> tuple[str, ...]:
        return ("TX/RX",)

    def setAntenna(self, direction: int, channel: int, name: str) -> None:
        self.radio.log.append(f"antenna {name}")

    def listGains(self, direction: int, channel: int) -> tuple[str, ...]:
        return ("AMP", "VGA")

    def getGainRange(self, direction: int, channel: int, name: str) -> Range:
        return Range(0.0, 14.0, 14.0) if name == "AMP" else Range(0.0, 47.0, 1.0)

    def setGain(self, direction: int, channel: int, name: str, gain_db: float) -> None:
        self.radio.gains[direction, name] = gain_db

    def getSampleRateRange(self, direction: int, channel: int) -> list[Range]:
        return [Range(1e6, 1e6), Range(2e6, 20e6)]

    def setSampleRate(self, direction: int, channel: int, rate_hz: float) -> None:
        self.rate_hz = rate_hz

    def getSampleRate(self, direction: int, channel: int) -> float:
        return self.rate_hz

    def getBandwidthRange(self, direction: int, channel: int) -> list[Range]:
        return [Range(width, width) for width in (1.75e6, 2.5e6, 3.5e6)]

    def setBandwidth(self, direction: int, channel: int, width_hz: float) -> None:
        self.radio.log.append(f"bandwidth {width_hz:g}")

    def getFrequencyRange(self, direction: int, channel: int) -> list[Range]:
        return [Range(1e6, 6e9)]

    def setFrequency(self, direction: int, channel: int, frequency_hz: float) -> None:
        self.radio.log.append(f"frequency {frequency_hz:.0f}")

    def setupStream(self, direction: int, kind: str, channels: list[int]) -> int:
        return direction

    def getStreamMTU(self, stream: int) -> int:
        return self.radio.mtu

    def activateStream(self, stream: int) -> int:
        assert self.radio.full_duplex or not self.active, "half-duplex"
        self.active.add(stream)
        self.radio.log.append(f"activate {stream}")
        return 0

    def deactivateStream(self, stream: int) -> int:
        self.active.discard(stream)
        self.radio.log.append(f"deactivate {stream}")
        return 0

    def closeStream(self, stream: int) -> None:
        self.radio.log.append(f"close {stream}")

    def close(self) -> None:
        self.radio.log.append("closed")

    def readStream(self, stream: int, buffers: list[np.ndarray], count: int, timeoutUs: int) -> Result:
        assert stream in self.active
        while self.radio.hangs:
            time.sleep(0.01)
        with self.lock:
            code = self.radio.reads.popleft() if self.radio.reads else 0
            if code == SOAPY_SDR_TIMEOUT:
                time.sleep(timeoutUs * 1e-6)
            if code < 0:
                return Result(code)
            count = min(count, self.radio.mtu)
            self.radio.clock += self.radio.skip
            self.radio.skip = 0
            begun, self.radio.clock = self.radio.clock, self.radio.clock + count
            values = self.rng.standard_normal((count, 2)) @ [0.001, 0.001j]
            piece, self.pending = self.pending[:count], self.pending[count:]
            values[: piece.size] += piece
            buffers[0][:count] = values
            time.sleep(1e-4)
            flags = SOAPY_SDR_HAS_TIME if self.radio.timed else 0
            return Result(count, flags, round(begun / RATE_HZ * 1e9))

    def writeStream(
        self, stream: int, buffers: list[np.ndarray], count: int, flags: int, timeNs: int, timeoutUs: int
    ) -> Result:
        assert stream in self.active
        code = self.radio.writes.popleft() if self.radio.writes else 0
        if code < 0:
            return Result(code)
        count = min(count, self.radio.mtu)
        with self.lock:
            piece = np.array(buffers[0][:count])
            if flags & SOAPY_SDR_HAS_TIME:
                early = round(timeNs * 1e-9 * RATE_HZ) - self.radio.clock - self.pending.size
                self.pending = np.append(self.pending, np.zeros(max(early, 0), np.complex64))
            self.pending = np.append(self.pending, piece)
            self.radio.sent.append(piece)
            self.radio.log.append(f"write {count} flags {flags}")
        return Result(count)

    def readStreamStatus(self, stream: int, timeoutUs: int) -> Result:
        if self.radio.statuses:
            return Result(self.radio.statuses.popleft())
        return Result(SOAPY_SDR_NOT_SUPPORTED)
