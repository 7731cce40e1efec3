"""Stations as files, and the guard that reads them before anything is sent."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdr.errors import SdrError
from sdr.safety import TransmitGuard
from sdr.station import Band, Calibration, Side, Station, load_station
from sdr.waveform import DEFAULT

STATION = Station(
    name="table",
    driver="hackrf",
    frequency_hz=2.45e9,
    transmit=Side({"AMP": 0.0, "VGA": 20.0}),
    bands=(Band(2.4e9, 2.4835e9, max_gain_db=20.0, duty_cycle=0.1),),
)
BANDWIDTH_HZ = 177 * 4e6 / 256
TEXT = """
name: table
driver: hackrf
serial: abc
frequency_hz: 2_450_000_000
transmit: {gains: {AMP: 0, VGA: 20}}
bands:
  - {low_hz: 2_400_000_000, high_hz: 2_483_500_000, max_gain_db: 20, duty_cycle: 0.1}
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Station]:
    def write(text: str) -> Station:
        path = tmp_path / "radio.yaml"
        path.write_text(text, encoding="utf-8")
        return load_station(path)

    return write


def test_a_station_is_what_its_file_says(load: Callable[[str], Station]) -> None:
    assert load(TEXT) == dataclasses.replace(STATION, serial="abc")
    assert load(TEXT).device_arguments() == {"driver": "hackrf", "serial": "abc"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("name:", "nom:", "unknown key nom; known are name, driver, frequency_hz"),
        ("low_hz:", "lowest_hz:", r"bands\[0\]: unknown key lowest_hz; known are low_hz"),
        (", duty_cycle: 0.1", "", r"bands\[0\] lacks duty_cycle"),
        ("duty_cycle: 0.1", "duty_cycle: 2", r"bands\[0\]: duty_cycle must lie in 0…1"),
        ("low_hz: 2_400_000_000", "low_hz: 9.0e+9", r"bands\[0\]: a band must have"),
        ("VGA: 20", "VGA: loud", r"transmit\.gains\.VGA must be float, got 'loud'"),
        ("{gains: {AMP: 0, VGA: 20}}", "loud", r"transmit must be a mapping"),
        ("{gains: {AMP: 0, VGA: 20}}", "{antenna: TX}", r"transmit lacks gains"),
        ("serial: abc", "serial: 12", "serial must be str, got 12"),
        ("frequency_hz: 2_450_000_000", "frequency_hz: 2.45e9", "frequency_hz must be float.*YAML wants a point"),
        ("frequency_hz: 2_450_000_000", "frequency_hz: -1", "frequency_hz must lie in"),
        ("frequency_hz: 2_450_000_000", "", "lacks frequency_hz"),
        ("serial: abc", "calibration: {oscillator_ppm: 900}", "calibration: oscillator_ppm must lie in"),
        ("bands:", "bands: 3\nserial: a\nx:", "bands must be a list|unknown key x"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(load: Callable[[str], Station], old: str, new: str, words: str) -> None:
    with pytest.raises(SdrError, match=words) as refused:
        load(TEXT.replace(old, new))
    assert "\n" not in str(refused.value) and "radio.yaml" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"transmit": None}, "no 'transmit' section"),
        ({"bands": ()}, "allows no band"),
        (
            {"frequency_hz": 2.5e9},
            r"2498\.\d+…2501\.\d+ MHz, oscillator tolerance included, .* is 2400…2483\.5",
        ),
        ({"frequency_hz": 2.4e9 + BANDWIDTH_HZ / 2}, "oscillator tolerance"),
        ({"transmit": Side({"AMP": 14.0, "VGA": 20.0})}, "34 dB of gain, and 20 dB are allowed"),
    ],
)
def test_a_station_that_does_not_allow_it_is_refused_with_the_reason(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SdrError, match=f"station 'table' does not transmit: .*{words}"):
        TransmitGuard(dataclasses.replace(STATION, **changes), DEFAULT)


@given(offset_hz=st.floats(-60e6, 60e6))
def test_the_whole_signal_lies_within_the_band_or_is_refused(offset_hz: float) -> None:
    frequency_hz = 2.44e9 + offset_hz
    station = dataclasses.replace(STATION, frequency_hz=frequency_hz, tolerance_ppm=20.0)
    half_hz = BANDWIDTH_HZ / 2 + 20e-6 * frequency_hz
    if frequency_hz - half_hz >= 2.4e9 and frequency_hz + half_hz <= 2.4835e9:
        assert TransmitGuard(station, DEFAULT).band == STATION.bands[0]
    else:
        with pytest.raises(SdrError):
            TransmitGuard(station, DEFAULT)


def test_power_needs_a_calibration_and_is_that_of_the_waveform() -> None:
    (band,) = STATION.bands
    limited = dataclasses.replace(STATION, bands=(dataclasses.replace(band, max_power_dbm=-10.0),))
    with pytest.raises(SdrError, match="lacks tx_full_scale_dbm"):
        TransmitGuard(limited, DEFAULT)
    for full_scale_dbm, allowed in ((2.0, True), (2.1, False)):  # the waveform's rms is 12.04 dB below full scale
        station = dataclasses.replace(limited, calibration=Calibration(tx_full_scale_dbm=full_scale_dbm))
        if allowed:
            TransmitGuard(station, DEFAULT)
        else:
            with pytest.raises(SdrError, match=r"-9\.9 dBm, and -10 dBm are allowed"):
                TransmitGuard(station, DEFAULT)


def test_of_two_bands_the_one_that_allows_it_counts() -> None:
    wide = Band(1e9, 3e9, max_gain_db=0.0, duty_cycle=1.0)
    assert TransmitGuard(dataclasses.replace(STATION, bands=(wide, *STATION.bands)), DEFAULT).band == STATION.bands[0]


@given(duty_cycle=st.floats(0.01, 1), burst_s=st.floats(0, 10))
def test_silence_follows_a_burst_in_proportion(duty_cycle: float, burst_s: float) -> None:
    (band,) = STATION.bands
    station = dataclasses.replace(STATION, bands=(dataclasses.replace(band, duty_cycle=duty_cycle),))
    guard = TransmitGuard(station, DEFAULT)
    assert guard.wait_s() == 0
    before = time.monotonic()
    guard.note(burst_s)
    silence_s = guard.wait_s()
    passed = time.monotonic() - before  # the machine may have been slow between the two
    assert burst_s / (burst_s + silence_s + passed + 1e-9) <= duty_cycle * (1 + 1e-6) + 1e-6
