"""A radio as GNU Radio blocks, chosen by one text: gr-soapy's for soapy:driver=…, gr-uhd's for uhd:serial=….

Tuned by the same rules as every other radio here, see `sdr.devices.tuning`.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gnuradio import soapy, uhd

from sdr.calibrated import Role, apply_calibration
from sdr.devices.soapy import driver_arguments, use_own_drivers
from sdr.devices.tuning import RX, TX, tune
from sdr.errors import SdrError
from sdr.safety import TransmitGuard
from sdr.station import Station, load_station
from sdr.waveform import Waveform

LENGTH_TAG = "packet_len"
_BUFFER_S = 0.25
"""Of received samples between driver and receiver, which demodulates in blocks."""


def open_source(device: str, station: str, waveform: Waveform) -> Any:
    """A source of samples, full scale 1. Raises SdrError: no such radio, or its station asks for what it has not."""
    described = load_station(Path(station))
    source = _open(device, described, waveform, RX)
    source.set_log_level("warn")  # the next line would be told to the user otherwise
    source.set_min_output_buffer(int(_BUFFER_S * waveform.sample_rate_hz))
    return source


def open_sink(device: str, station: str, waveform: Waveform, *, transmit: bool) -> Any:
    """A sink for bursts; gr-uhd's needs their length as a tag.

    Raises SdrError: as `open_source`; nobody said `transmit`; the station does not allow this waveform.
    """
    described = load_station(Path(station))
    TransmitGuard(described, waveform)
    if not transmit:
        raise SdrError(
            f"nothing is sent unless told to: add --allow-transmit 1 to send with station '{described.name}'"
        )
    return _open(device, described, waveform, TX)


def arguments(device: str, station: Station) -> tuple[str, dict[str, str]]:
    """Kind of block, `soapy` or `uhd`, and the driver's arguments: the station's and those of the text.

    Raises SdrError for another kind, and where text and station contradict each other.
    """
    kind, _, address = device.partition(":")
    if kind not in _BLOCKS:
        raise SdrError(f"{device!r} is no radio: write soapy:driver=NAME[,serial=…] or uhd:[serial=…]")
    return kind, driver_arguments(address if kind == "soapy" else f"driver=uhd,{address}", station)


def _open(device: str, station: Station, waveform: Waveform, direction: int) -> Any:
    kind, given = arguments(device, station)
    if station.rate_hz not in (None, waveform.sample_rate_hz):
        raise SdrError(
            f"station '{station.name}' has rate_hz {station.rate_hz:g}, and a flowgraph runs at the waveform's "
            f"{waveform.sample_rate_hz:g}: leave rate_hz out, or choose another waveform"
        )
    role: Role = "sender" if direction == TX else "receiver"
    station = apply_calibration(station, rate_hz=waveform.sample_rate_hz, serial=given.get("serial"), role=role).station
    try:
        block, driver = _BLOCKS[kind](given, direction)
        tune(driver, direction, station, waveform.sample_rate_hz)
    except RuntimeError as error:
        reason = str(error).split("\n")[0]
        raise SdrError(f"{device}: {reason}; `lrisc radios` lists those that there are") from error
    return block


def _open_soapy(given: Mapping[str, str], direction: int) -> tuple[Any, Any]:
    use_own_drivers()
    rest = ",".join(f"{key}={value}" for key, value in given.items() if key != "driver")
    make = soapy.sink if direction == TX else soapy.source
    # Without the sink's length tags: of a burst whose first samples a driver does not take at once it drops the others
    # (GNU Radio 3.10.5), and most drivers ignore the end of a burst. Silence that is part of the burst flushes it.
    block = make(f"driver={given['driver']}", "fc32", 1, rest, "", [""], [""])
    return block, SoapyBlock(block)


def _open_uhd(given: Mapping[str, str], direction: int) -> tuple[Any, Any]:
    address = ",".join(f"{key}={value}" for key, value in given.items() if key != "driver")
    stream = uhd.stream_args(cpu_format="fc32", channels=[0])
    block = uhd.usrp_sink(address, stream, LENGTH_TAG) if direction == TX else uhd.usrp_source(address, stream)
    return block, UhdBlock(block)


_BLOCKS: dict[str, Callable[[Mapping[str, str], int], tuple[Any, Any]]] = {"soapy": _open_soapy, "uhd": _open_uhd}


class SoapyBlock:
    """gr-soapy's block under the names of SoapySDR's device: getGainRange(direction, channel, name), …"""

    def __init__(self, block: Any) -> None:
        self._block = block

    def getNumChannels(self, direction: int) -> int:
        """The block would not be there without one."""
        return 1

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._block, re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name))
        return lambda direction, *rest: method(*rest)


class UhdBlock:
    """gr-uhd's block under the names of SoapySDR's device, as far as `tune` uses them."""

    def __init__(self, block: Any) -> None:
        self.getNumChannels = lambda direction: 1
        self.listAntennas = lambda direction, channel: block.get_antennas(channel)
        self.setAntenna = lambda direction, channel, name: block.set_antenna(name, channel)
        self.getSampleRateRange = lambda direction, channel: [_span(block.get_samp_rates())]
        self.setSampleRate = lambda direction, channel, rate_hz: block.set_samp_rate(rate_hz)
        self.getSampleRate = lambda direction, channel: block.get_samp_rate()
        self.getBandwidthRange = lambda direction, channel: [_span(block.get_bandwidth_range(channel))]
        self.setBandwidth = lambda direction, channel, width_hz: block.set_bandwidth(width_hz, channel)
        self.getFrequencyRange = lambda direction, channel: [_span(block.get_freq_range(channel))]
        self.setFrequency = lambda direction, channel, frequency_hz: block.set_center_freq(frequency_hz, channel)
        self.listGains = lambda direction, channel: block.get_gain_names(channel)
        self.getGainRange = lambda direction, channel, name: _span(block.get_gain_range(name, channel))
        self.setGain = lambda direction, channel, name, gain_db: block.set_gain(gain_db, name, channel)


def _span(span: Any) -> Any:
    """UHD's range as one of SoapySDR's."""
    return SimpleNamespace(minimum=span.start, maximum=span.stop, step=span.step)
