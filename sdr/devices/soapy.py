"""Radios through SoapySDR: HackRF, USRP and whatever else has a driver. The only module that imports it."""

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Complex64

from sdr.calibrated import Role, apply_calibration
from sdr.devices.base import Chunk, Device, DeviceError
from sdr.devices.burst import LEAD_S, send_burst
from sdr.devices.fetch import Fetcher, first_line, vanished
from sdr.devices.tuning import RX, TX, GainRange, gain_ranges, hush, tune
from sdr.errors import SdrError
from sdr.safety import TransmitGuard
from sdr.station import Station
from sdr.transmit import PacketSpan
from sdr.waveform import Waveform

_CHANNEL = 0
_OWN_DRIVERS = Path(__file__).parents[2] / "build" / "soapy"
"""Where `make setup` puts the virtual radio."""
_OPEN_S = 30.0
"""Loading the firmware of a USRP takes ten."""
_CLOSE_S = 5.0
_Answer = TypeVar("_Answer")


def list_radios() -> list[dict[str, str]]:
    """Everything that SoapySDR finds. Raises SdrError if SoapySDR is not installed or does not answer in time."""
    found = _bounded(_soapy().Device.enumerate, _OPEN_S, "the search for radios")
    return [{str(key): str(value) for key, value in dict(one).items()} for one in found]


def list_drivers() -> list[str]:
    """Names of the driver modules that are installed. Raises SdrError if SoapySDR is not."""
    return sorted(Path(module).stem for module in _soapy().listModules())


def use_own_drivers() -> None:
    """Let SoapySDR, which has loaded no driver yet, find the virtual radio too."""
    paths = list(filter(None, os.environ.get("SOAPY_SDR_PLUGIN_PATH", "").split(os.pathsep)))
    if _OWN_DRIVERS.is_dir() and str(_OWN_DRIVERS) not in paths:
        os.environ["SOAPY_SDR_PLUGIN_PATH"] = os.pathsep.join([str(_OWN_DRIVERS), *paths])


def driver_arguments(address: str, station: Station) -> dict[str, str]:
    """The station's arguments and KEY=VALUE,… of an address. Raises SdrError where they contradict each other."""
    given = dict(part.partition("=")[::2] for part in address.split(",") if part)
    if not all(given.values()):
        raise SdrError(f"soapy:{address} is no list of arguments: write soapy:driver=NAME[,serial=…]")
    arguments = station.device_arguments()
    for key, value in given.items():
        if key in ("driver", "serial") and arguments.get(key, value) != value:
            raise SdrError(f"station '{station.name}' is for {key}={arguments[key]}, not {key}={value}")
    return {**arguments, **given}


class SoapyDevice(Device):
    """A radio, tuned as its station says; opened to receive, or with a guard to transmit as well.

    Closed, and between bursts, its transmitting gains are at their lowest. Raises SdrError if there is no such radio,
    it is in use, or the station asks for what it has not.
    """

    kind = "radio"
    live = True

    def __init__(
        self, arguments: Mapping[str, str], station: Station, waveform: Waveform, guard: TransmitGuard | None
    ) -> None:
        rate_hz = station.rate_hz or waveform.sample_rate_hz
        super().__init__("radio " + ",".join(f"{key}={value}" for key, value in arguments.items()), rate_hz)
        if guard is not None and rate_hz != waveform.sample_rate_hz:
            raise SdrError(
                f"station '{station.name}' has rate_hz {rate_hz:g} and waveform '{waveform.name}' is sent at "
                f"{waveform.sample_rate_hz:g}: leave rate_hz out, or choose another waveform"
            )
        self._guard = guard
        self._soapy = _soapy()
        self._driver, self.serial = _open(self._soapy, dict(arguments), self.name)
        self._tuned: set[int] = set()
        self._streams: dict[int, Any] = {}
        self._fetcher: Fetcher | None = None
        try:
            self._follow(station)
            for direction in (TX, RX):
                hush(self._driver, direction)
            self.full_duplex = bool(self._driver.getFullDuplex(RX, _CHANNEL))
            self.timed = bool(self._driver.hasHardwareTime())
            self._tune(RX if guard is None else TX)
        except RuntimeError as error:
            self.close()
            raise SdrError(f"{self.name}: {first_line(error)}") from error
        except BaseException:
            self.close()
            raise

    def silence_s(self) -> float:
        """What the station's duty cycle asks for after the last burst; the next one waits for it."""
        return self._guard.wait_s() if self._guard is not None else 0.0

    def now_s(self) -> float:
        """The radio's own clock. Raises SdrError if it has none."""
        return float(self._driver.getHardwareTime()) * 1e-9 if self.timed else super().now_s()

    def describe(self) -> dict[str, Any]:
        """What it is and how it is tuned, for JSON."""
        station = self._station
        return {**super().describe(), "station": station.name, "frequency_hz": station.frequency_hz}

    def gain_ranges(self, direction: int) -> dict[str, GainRange]:
        """What each gain element of a direction, `tuning.TX` or `RX`, can be set to, in the driver's order."""
        return gain_ranges(self._driver, direction)

    def retune(self, station: Station) -> None:
        """Go on with other settings, gains for example, of the same radio; not while it receives.

        Raises SdrError if the station does not allow to send with them; settings then stay as they were. What the radio
        has not is refused when it next receives or sends.
        """
        self._require(not self._receiving, "receives: its settings cannot be changed now")
        if self._guard is not None:
            self._guard.follow(station)
        self._follow(station)
        self._tuned.clear()

    def _start(self) -> None:
        try:
            self._tune(RX)
            stream = self._active(RX)
        except RuntimeError as error:
            raise DeviceError(f"{self.name} does not start to receive: {first_line(error)}") from error
        self._fetcher = Fetcher(self._soapy, self._driver, stream, self.name, self.rate_hz, self.timed)

    def _read(self, timeout_s: float) -> Chunk:
        assert self._fetcher is not None
        return self._fetcher.get(timeout_s)

    def _stop(self) -> None:
        if self._fetcher is not None:
            self._fetcher.halt(_CLOSE_S)
        self._fetcher = None
        try:
            self._driver.deactivateStream(self._streams[RX])
        except RuntimeError as error:
            raise vanished(self.name, first_line(error)) from error

    def _transmit(self, samples: Complex64[np.ndarray, "n"], spans: Sequence[PacketSpan], at_s: float | None) -> None:
        guard = self._guard
        if guard is None:
            raise SdrError(f"{self.name} was opened to receive: nothing is sent")
        time.sleep(guard.wait_s())
        try:
            if at_s is not None and at_s <= self.now_s():
                self.counters.late += 1
                return
            self._tune(TX)
            stream = self._active(TX)
            start_s = self.now_s() + LEAD_S if self.timed and at_s is None else at_s
            try:
                send_burst(
                    self._soapy,
                    self._driver,
                    stream,
                    samples,
                    start_s=start_s,
                    rate_hz=self.rate_hz,
                    name=self.name,
                    counters=self.counters,
                )
            finally:
                guard.note(samples.size / self.rate_hz)
                self._driver.deactivateStream(stream)
                hush(self._driver, TX)
                self._tuned.discard(TX)
        except RuntimeError as error:
            raise vanished(self.name, first_line(error)) from error

    def _follow(self, station: Station) -> None:
        """Settings as the station says and its calibration wants them."""
        role: Role = "receiver" if self._guard is None else "sender"
        self._applied = apply_calibration(station, rate_hz=self.rate_hz, serial=self.serial, role=role)
        self._station, self.imbalance = self._applied.station, self._applied.imbalance

    def notes(self) -> list[str]:
        """With what is to be said of its calibration."""
        return [*super().notes(), *self._applied.warnings]

    def _tune(self, direction: int) -> None:
        if direction not in self._tuned:
            tune(self._driver, direction, self._station, self.rate_hz)
            self._tuned.add(direction)

    def _active(self, direction: int) -> Any:
        """The stream of that direction, running."""
        if direction not in self._streams:
            self._streams[direction] = self._driver.setupStream(direction, self._soapy.SOAPY_SDR_CF32, [_CHANNEL])
        if result := self._driver.activateStream(self._streams[direction]):
            raise DeviceError(f"{self.name} does not start: {self._soapy.errToStr(result)}")
        return self._streams[direction]

    def _close(self) -> None:
        try:
            _bounded(self._silence, _CLOSE_S, f"closing {self.name}")
        except RuntimeError as error:
            raise vanished(self.name, first_line(error)) from error

    def _silence(self) -> None:
        for stream in self._streams.values():
            self._driver.deactivateStream(stream)
        for direction in (TX, RX):
            hush(self._driver, direction)
        for stream in self._streams.values():
            self._driver.closeStream(stream)
        self._driver.close()


def _soapy() -> Any:
    """The module, which pip does not have, with the virtual radio among its drivers."""
    use_own_drivers()
    try:
        import SoapySDR
    except ImportError as error:
        raise SdrError("SoapySDR's Python bindings are missing; install them: make setup") from error
    if "SOAPY_SDR_LOG_LEVEL" not in os.environ:
        SoapySDR.setLogLevel(SoapySDR.SOAPY_SDR_CRITICAL)  # what is wrong is said once, in one line
    return SoapySDR


def _open(soapy: Any, arguments: dict[str, str], name: str) -> tuple[Any, str | None]:
    """The driver's device and its serial number, if it has one."""
    found = _bounded(lambda: soapy.Device.enumerate(arguments), _OPEN_S, f"the search for {name}")
    if not found:
        raise SdrError(f"there is no {name}; `lrisc radios` lists those that there are")
    serial = arguments.get("serial") or dict(found[0]).get("serial")
    try:
        return _bounded(lambda: soapy.Device(arguments), _OPEN_S, f"opening {name}"), serial
    except RuntimeError as error:
        raise SdrError(f"{name} does not open, is another program using it? ({first_line(error)})") from error


def _bounded(call: Callable[[], _Answer], limit_s: float, what: str) -> _Answer:
    """The result of a call into a driver, which may hang. Raises DeviceError after that time, and what it raises."""
    answers: queue.Queue[Callable[[], _Answer]] = queue.Queue()

    def run() -> None:
        try:
            answer = call()
        except BaseException as caught:
            error = caught
            answers.put(lambda: _throw(error))
        else:
            answers.put(lambda: answer)

    threading.Thread(target=run, daemon=True).start()
    try:
        return answers.get(timeout=limit_s)()
    except queue.Empty:
        raise DeviceError(
            f"{what} gave no answer within {limit_s:g} s: unplug the radio and plug it in again"
        ) from None


def _throw(error: BaseException) -> Any:
    raise error
