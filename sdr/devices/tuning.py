"""A station's settings put into a radio, each compared with what the radio can do; what it cannot is named.

`driver` is a SoapySDR device, or anything with its methods; channel 0 is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sdr.errors import SdrError
from sdr.station import Side, Station

TX, RX = 0, 1
"""SoapySDR's numbers of the two directions."""
_CHANNEL = 0
_RATE_TOLERANCE = 1e-6
_GAIN_TOLERANCE_DB = 0.01


@dataclass(frozen=True)
class GainRange:
    """What one gain element can be set to, in dB."""

    minimum_db: float
    maximum_db: float
    step_db: float
    """0: any value."""


def gain_ranges(driver: Any, direction: int) -> dict[str, GainRange]:
    """Every gain element of a direction, in the driver's order."""
    spans = {name: driver.getGainRange(direction, _CHANNEL, name) for name in driver.listGains(direction, _CHANNEL)}
    return {name: GainRange(span.minimum(), span.maximum(), span.step()) for name, span in spans.items()}


def tune(driver: Any, direction: int, station: Station, rate_hz: float) -> None:
    """Set antenna, rate, filter, frequency and gains of one direction. Raises SdrError for what the radio has not."""
    verb = "transmit" if direction == TX else "receive"
    side = station.transmit if direction == TX else station.receive
    where = f"station '{station.name}'"
    if side is None:
        raise SdrError(f"{where} does not {verb}: its file has no '{verb}' section")
    if not driver.getNumChannels(direction):
        raise SdrError(f"{where}: this radio cannot {verb}")
    antennas = list(driver.listAntennas(direction, _CHANNEL))
    if side.antenna is not None and side.antenna not in antennas:
        raise SdrError(f"{where}: no antenna '{side.antenna}' to {verb} with; there are {', '.join(antennas)}")
    if side.antenna is not None:
        driver.setAntenna(direction, _CHANNEL, side.antenna)
    _set_rate(driver, direction, rate_hz, where)
    if station.bandwidth_hz is not None:
        ranges = driver.getBandwidthRange(direction, _CHANNEL)
        _require_near(station.bandwidth_hz, ranges, f"{where}: no filter of {{:g}} MHz", 1e6, _RATE_TOLERANCE)
        driver.setBandwidth(direction, _CHANNEL, station.bandwidth_hz)
    frequency_hz = station.frequency_hz / (1 + 1e-6 * station.calibration.oscillator_ppm)
    ranges = driver.getFrequencyRange(direction, _CHANNEL)
    if ranges and not any(span.minimum() <= frequency_hz <= span.maximum() for span in ranges):
        spans = ", ".join(f"{span.minimum() / 1e6:g}…{span.maximum() / 1e6:g}" for span in ranges)
        raise SdrError(f"{where}: this radio cannot {verb} at {frequency_hz / 1e6:g} MHz, only at {spans} MHz")
    driver.setFrequency(direction, _CHANNEL, frequency_hz)
    set_gains(driver, direction, side, where)


def set_gains(driver: Any, direction: int, side: Side, where: str) -> None:
    """Set every gain element: those that the station names, and the others to their lowest. Raises SdrError."""
    names = list(driver.listGains(direction, _CHANNEL))
    if unknown := [name for name in side.gains if name not in names]:
        raise SdrError(f"{where}: no gain {', '.join(unknown)}; there are {', '.join(names) or 'none'}")
    for name in names:
        span = driver.getGainRange(direction, _CHANNEL, name)
        gain_db = side.gains.get(name, span.minimum())
        tolerance = _GAIN_TOLERANCE_DB / max(abs(gain_db), 1.0)
        _require_near(gain_db, [span], f"{where}: gain {name} cannot be {{:g}} dB", 1.0, tolerance)
        driver.setGain(direction, _CHANNEL, name, gain_db)


def hush(driver: Any, direction: int) -> None:
    """Set every gain element to its lowest, amplifiers off."""
    if driver.getNumChannels(direction):
        for name in driver.listGains(direction, _CHANNEL):
            driver.setGain(direction, _CHANNEL, name, driver.getGainRange(direction, _CHANNEL, name).minimum())


def nearest(value: float, ranges: Sequence[Any]) -> float:
    """The value within SoapySDR's ranges that is nearest; `value` itself where nothing is said."""

    def within(span: Any) -> float:
        low, high, step = float(span.minimum()), float(span.maximum()), float(span.step())
        clamped = min(max(value, low), high)
        return low + round((clamped - low) / step) * step if step > 0 else clamped

    return min((within(span) for span in ranges), key=lambda candidate: abs(candidate - value), default=value)


def _set_rate(driver: Any, direction: int, rate_hz: float, where: str) -> None:
    otherwise = f"{where}: this radio cannot sample at {{:g}} Msps"
    _require_near(rate_hz, driver.getSampleRateRange(direction, _CHANNEL), otherwise, 1e6, _RATE_TOLERANCE)
    driver.setSampleRate(direction, _CHANNEL, rate_hz)
    taken_hz = driver.getSampleRate(direction, _CHANNEL)
    if abs(taken_hz - rate_hz) > _RATE_TOLERANCE * rate_hz:
        raise SdrError(f"{otherwise.format(rate_hz / 1e6)}; the nearest is {taken_hz / 1e6:g}")


def _require_near(value: float, ranges: Sequence[Any], otherwise: str, unit: float, tolerance: float) -> None:
    """Raise SdrError unless a value lies within the ranges; the message names the nearest that does."""
    near = nearest(value, ranges)
    if abs(near - value) > tolerance * max(abs(value), 1.0):
        raise SdrError(f"{otherwise.format(value / unit)}; the nearest is {near / unit:g}")
