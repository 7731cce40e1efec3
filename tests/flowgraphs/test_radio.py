"""Which radio a text names, and that gr-uhd's blocks are tuned by the same rules; test_programs uses gr-soapy's."""

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from gnuradio import uhd

from flowgraphs.blocks.radio import RadioSink, RadioSource
from flowgraphs.radio import UhdBlock, arguments, open_sink, open_source
from sdr.devices.tuning import RX, tune
from sdr.errors import SdrError
from sdr.station import load_station
from sdr.waveform import DEFAULT
from tests.flowgraphs.helpers import ROOT

STATIONS = ROOT / "configs"


def span(low: float, high: float, step: float = 0.0) -> SimpleNamespace:
    """A range as gr-uhd gives it."""
    return SimpleNamespace(start=lambda: low, stop=lambda: high, step=lambda: step)


def usrp() -> MagicMock:
    """Has the methods of gr-uhd's source, and no others."""
    block = MagicMock(spec=uhd.usrp_source)
    block.get_antennas.return_value = ("TX/RX", "RX2")
    block.get_samp_rates.return_value, block.get_samp_rate.return_value = span(2e5, 56e6), 4e6
    block.get_freq_range.return_value, block.get_bandwidth_range.return_value = span(5e7, 6e9), span(2e5, 56e6)
    block.get_gain_names.return_value, block.get_gain_range.return_value = ("PGA",), span(0.0, 76.0, 1.0)
    return block


def test_a_text_names_a_kind_of_block_and_adds_to_the_station() -> None:
    hackrf, b210 = (load_station(STATIONS / f"radio_{name}.yaml") for name in ("hackrf", "b210"))
    assert arguments("soapy:driver=hackrf,serial=12", hackrf) == ("soapy", {"driver": "hackrf", "serial": "12"})
    assert arguments("uhd:", b210) == ("uhd", {"driver": "uhd", "type": "b200"})
    for device, text in (("hackrf", "is no radio"), ("uhd:", "not driver=uhd"), ("soapy:driver", "is no list")):
        with pytest.raises(SdrError, match=text):
            arguments(device, hackrf)


def test_a_usrp_is_tuned_as_its_station_says() -> None:
    block = usrp()
    tune(UhdBlock(block), RX, load_station(STATIONS / "radio_b210.yaml"), DEFAULT.sample_rate_hz)
    block.set_antenna.assert_called_once_with("RX2", 0)
    block.set_samp_rate.assert_called_once_with(4e6)
    block.set_center_freq.assert_called_once_with(2.45e9, 0)
    block.set_gain.assert_called_once_with(40.0, "PGA", 0)
    block.get_samp_rates.return_value = span(5e6, 56e6)
    with pytest.raises(SdrError, match="nearest is 5"):
        tune(UhdBlock(block), RX, load_station(STATIONS / "radio_b210.yaml"), DEFAULT.sample_rate_hz)


def test_a_receiver_goes_by_its_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = usrp()
    monkeypatch.setattr("flowgraphs.radio._BLOCKS", {"uhd": lambda given, direction: (block, UhdBlock(block))})
    (tmp_path / "made.yaml").write_text(
        "{version: 1, date: '2026-01-01T00:00:00+00:00', frequency_hz: 2450000000, rate_hz: 4000000, sender: a, "
        "receiver: b, frequency: {ppm: 10, sd_ppm: 0.001}}"
    )
    station = (STATIONS / "radio_b210.yaml").read_text().replace("reference: none yet", "file: made.yaml")
    (tmp_path / "station.yaml").write_text(station)
    open_source("uhd:serial=b", str(tmp_path / "station.yaml"), DEFAULT)
    assert block.set_center_freq.call_args.args[0] == pytest.approx(2.45e9 * (1 + 10e-6), abs=1)
    with pytest.raises(SdrError, match="for receiver b, and this is c"):
        open_source("uhd:serial=c", str(tmp_path / "station.yaml"), DEFAULT)


def test_nothing_is_opened_to_send_unless_told_to_and_allowed(tmp_path: Path) -> None:
    """The radio does not exist: a refusal comes before anything looks for it."""
    virtual = (STATIONS / "radio_virtual.yaml").read_text()
    (tmp_path / "mute.yaml").write_text(virtual.replace("6_000_000_000", "2_000_000_000"))
    with pytest.raises(SdrError, match="unless told to"):
        open_sink("soapy:driver=lrisc", str(STATIONS / "radio_virtual.yaml"), DEFAULT, transmit=False)
    with pytest.raises(SdrError, match="allowed is"):
        open_sink("soapy:driver=lrisc", str(tmp_path / "mute.yaml"), DEFAULT, transmit=True)
    (tmp_path / "fast.yaml").write_text(virtual + "rate_hz: 8_000_000\n")
    with pytest.raises(SdrError, match="leave rate_hz out"):
        open_sink("soapy:driver=lrisc", str(tmp_path / "fast.yaml"), DEFAULT, transmit=True)


def test_companion_sees_the_ports_of_a_radio_that_is_not_there() -> None:
    source, sink = RadioSource(), RadioSink()
    assert [len(list(side)) for side in (source.in_sig(), source.out_sig())] == [0, 1]
    assert [len(list(side)) for side in (sink.in_sig(), sink.out_sig())] == [1, 0]
