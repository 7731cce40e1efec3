"""Radios and what stands in for them, behind one interface; see `sdr.devices.base.Device`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sdr.channel import Channel, parse_channel
from sdr.devices.base import Device
from sdr.devices.file import RecorderDevice, RecordingDevice
from sdr.devices.loopback import LoopbackDevice
from sdr.devices.soapy import SoapyDevice, driver_arguments
from sdr.errors import SdrError
from sdr.recording import open_recording
from sdr.safety import TransmitGuard
from sdr.station import Station
from sdr.waveform import Waveform


@dataclass(frozen=True)
class Opening:
    """All that any device may want to know before it is opened."""

    waveform: Waveform
    transmit: bool = False
    """To send with it. A radio is then opened only if its station allows what would be sent."""
    station: Station | None = None
    """Radios need one."""
    rate_hz: float | None = None
    """Of a recording that states none; goes before a stated one."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What a recording that is written says of what is in it."""
    seed: int = 0
    """Of a software channel."""


def _open_file(address: str, opening: Opening) -> Device:
    if opening.transmit:
        return RecorderDevice(Path(address), opening.waveform, opening.facts)
    return RecordingDevice(open_recording(Path(address), opening.rate_hz))


def _open_loopback(address: str, opening: Opening) -> Device:
    channel = parse_channel(address) if address else Channel()
    return LoopbackDevice(channel, opening.waveform, np.random.default_rng(opening.seed))


def _open_soapy(address: str, opening: Opening) -> Device:
    if opening.station is None:
        raise SdrError("a radio needs --station FILE for its frequency and gains, like configs/radio_hackrf.yaml")
    guard = TransmitGuard(opening.station, opening.waveform) if opening.transmit else None
    return SoapyDevice(driver_arguments(address, opening.station), opening.station, opening.waveform, guard)


DEVICES: dict[str, Callable[[str, Opening], Device]] = {
    "file": _open_file,
    "loopback": _open_loopback,
    "soapy": _open_soapy,
}
"""How to open what stands before the colon of a target, from what stands after it."""


def parse_target(target: str) -> tuple[str, str]:
    """Scheme and address of a target such as soapy:driver=hackrf; whatever names no scheme is a file."""
    scheme, colon, address = target.partition(":")
    return (scheme, address) if colon and scheme in DEVICES else ("file", target)


def open_device(target: str, opening: Opening) -> Device:
    """Open `file:PATH` or a bare path, `loopback:[CHANNEL]` or `soapy:driver=NAME[,serial=…]`.

    Raises SdrError with what is wrong with the target, its station or the device itself.
    """
    scheme, address = parse_target(target)
    return DEVICES[scheme](address, opening)
