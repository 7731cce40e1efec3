"""What the tests do with virtual radios, by way of SoapySDR's own Python bindings."""

import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Complex64

DRIVER = Path(__file__).parents[2] / "build" / "soapy" / "liblriscVirtual.so"
RATE_HZ = 4e6
FREQUENCY_HZ = 2.45e9
TIMEOUT, STREAM_ERROR, OVERFLOW, TIME_ERROR, UNDERFLOW = -1, -2, -4, -6, -7
TX, RX = 0, 1
HAS_TIME, END_BURST = 4, 2
LONGEST_S = 20.0  # for what ought to take a fraction of it


class Radio:
    """One virtual radio at `RATE_HZ` and `FREQUENCY_HZ`, its path loss 0 dB unless `arguments` say otherwise."""

    def __init__(self, serial: str, profile: str, **arguments: object) -> None:
        import SoapySDR

        given = {"path_loss_db": 0, **arguments, "driver": "lrisc", "profile": profile, "serial": serial}
        self.device = SoapySDR.Device({key: str(value) for key, value in given.items()})
        self._streams: dict[int, Any] = {}
        for direction in (TX, RX):
            self.device.setSampleRate(direction, 0, RATE_HZ)
            self.device.setFrequency(direction, 0, FREQUENCY_HZ)

    def activate(self, direction: int, kind: str = "CF32") -> int:
        if direction not in self._streams:
            self._streams[direction] = self.device.setupStream(direction, kind)
        return int(self.device.activateStream(self._streams[direction]))

    def deactivate(self, direction: int) -> None:
        assert self.device.deactivateStream(self._streams[direction]) == 0

    def write(self, samples: np.ndarray, *, flags: int = 0, time_ns: int = 0, timeout_us: int = 100_000) -> int:
        return int(self.device.writeStream(self._streams[TX], [samples], len(samples), flags, time_ns, timeout_us).ret)

    def read_once(self, size: int, timeout_us: int = 100_000) -> tuple[int, Complex64[np.ndarray, "n"], int]:
        """What readStream returned, the samples and, where the radio has a clock, the time of the first in ns."""
        into = np.zeros(size, np.complex64)
        done = self.device.readStream(self._streams[RX], [into], size, 0, timeout_us)
        return done.ret, into[: max(done.ret, 0)], done.timeNs if done.flags & HAS_TIME else 0

    def read(self, count: int) -> Complex64[np.ndarray, "count"]:
        """Exactly `count` samples, without a gap."""
        got = [np.zeros(0, np.complex64)]
        end = time.monotonic() + LONGEST_S
        while (left := count - sum(map(len, got))) > 0:
            code, samples, _ = self.read_once(left)
            assert code > 0 or code == TIMEOUT, code
            assert time.monotonic() < end, f"{count - left} of {count} samples came"
            got.append(samples)
        return np.concatenate(got)

    def status(self, timeout_us: int = 1_000_000) -> Any:
        return self.device.readStreamStatus(self._streams[TX], timeout_us)

    def sensor(self, key: str) -> float:
        return float(self.device.readSensor(key))

    def truth(self, key: str) -> float:
        return float(self.device.readSetting(key))

    def close(self) -> None:
        for stream in self._streams.values():
            self.device.closeStream(stream)
        self._streams.clear()
        self.device = None


class Radios(Protocol):
    """The fixture that opens a radio."""

    def __call__(self, serial: str, profile: str = "ideal", **arguments: object) -> Radio: ...


def exchange(sender: Radio, receiver: Radio, samples: np.ndarray, count: int) -> Complex64[np.ndarray, "count"]:
    """The first `count` samples that `receiver` gets while `sender` sends `samples`, in one thread."""
    assert receiver.activate(RX) == 0
    assert sender.activate(TX, {np.complex64: "CF32", np.int8: "CS8", np.int16: "CS16"}[samples.dtype.type]) == 0
    written, got = 0, [np.zeros(0, np.complex64)]
    end = time.monotonic() + LONGEST_S
    finished = False
    while (left := count - sum(map(len, got))) > 0:
        assert time.monotonic() < end, f"{written} written, {count - left} of {count} received"
        if written < len(samples):
            written += max(sender.write(samples[written:], timeout_us=1000), 0)
        elif not finished and sender.device.hasHardwareTime(""):
            sender.write(samples[:0], flags=END_BURST)
            finished = True
        code, block, _ = receiver.read_once(left, timeout_us=20_000)
        assert code > 0 or code == TIMEOUT, code
        got.append(block)
    return np.concatenate(got)


def tone(
    frequency_hz: float, count: int, *, amplitude: float = 0.5, rate_hz: float = RATE_HZ
) -> Complex64[np.ndarray, "count"]:
    phase = 2 * np.pi * frequency_hz * np.arange(count) / rate_hz
    return np.asarray(amplitude * np.exp(1j * phase), np.complex64)


def noise(count: int, *, seed: int = 1, rms: float = 0.25) -> Complex64[np.ndarray, "count"]:
    rng = np.random.default_rng(seed)
    pairs = rng.standard_normal((count, 2)) * rms / np.sqrt(2)
    return np.asarray(pairs[:, 0] + 1j * pairs[:, 1], np.complex64)


def mean_power_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.abs(samples.astype(np.complex128)) ** 2)))
