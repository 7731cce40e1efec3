"""Radios and all that goes wrong with them, on a stand-in for SoapySDR that fails on demand."""

import dataclasses
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdr.devices import Opening, fetch, open_device
from sdr.devices import soapy as soapy_module
from sdr.devices.base import DeviceError
from sdr.devices.soapy import SoapyDevice, list_drivers, list_radios
from sdr.devices.tuning import nearest
from sdr.errors import SdrError
from sdr.playback import Playback
from sdr.receive import Receiver
from sdr.station import Calibration, Side, load_station
from sdr.waveform import DEFAULT
from tests.contract.test_devices import BURST, STATION
from tests.sdr.devices import fake_soapy as fake
from tests.sdr.devices.fake_soapy import Module, Radio, Range

Open = Callable[..., SoapyDevice]
LOWEST = {(0, "AMP"): 0.0, (0, "VGA"): 0.0}


@pytest.fixture
def radio(monkeypatch: pytest.MonkeyPatch) -> Radio:
    made = Radio()
    monkeypatch.setattr(soapy_module, "_soapy", lambda: Module(made))
    return made


@pytest.fixture
def opened(radio: Radio) -> Iterator[Open]:
    devices: list[SoapyDevice] = []

    def open_radio(*, transmit: bool = False, target: str = "soapy:driver=fake", **changes: Any) -> SoapyDevice:
        station = dataclasses.replace(STATION, **changes)
        device = open_device(target, Opening(DEFAULT, transmit=transmit, station=station))
        assert isinstance(device, SoapyDevice)
        devices.append(device)
        return device

    yield open_radio
    radio.hangs = False
    for device in devices:
        device.close()


def transmitting(radio: Radio) -> dict[tuple[int, str], float]:
    return {key: gain for key, gain in radio.gains.items() if key[0] == fake.SOAPY_SDR_TX}


# ---------------------------------------------------------------- which radio


def test_radios_and_drivers_are_listed(radio: Radio) -> None:
    assert list_radios() == [{"driver": "fake", "serial": "1", "label": "Fake #1"}]
    assert list_drivers() == ["libfakeSupport"]


def test_no_radio_a_busy_one_and_none_that_answers(radio: Radio, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    radio.absent = True
    with pytest.raises(SdrError, match=r"there is no radio driver=fake; `lrisc radios` lists"):
        opened()
    radio.absent, radio.busy = False, True
    with pytest.raises(SdrError, match=r"another program.*Resource busy \(-1000\)\)$"):
        opened()
    monkeypatch.setattr(soapy_module, "_OPEN_S", 0.05)
    with pytest.raises(DeviceError, match=r"forever gave no answer within 0\.05 s"):
        soapy_module._bounded(threading.Event().wait, 0.05, "forever")


def test_without_soapysdr_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SoapySDR", None)
    with pytest.raises(SdrError, match="make setup"):
        list_radios()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("soapy:driver=hackrf", "is for driver=fake, not driver=hackrf"),
        ("soapy:driver", "soapy:driver=NAME"),
        ("soapy:driver=fake,serial=2", None),
    ],
)
def test_the_target_names_the_radio_within_its_station(opened: Open, target: str, words: str | None) -> None:
    if words is None:
        assert opened(target=target).name == "radio driver=fake,serial=2"
        return
    with pytest.raises(SdrError, match=words):
        opened(target=target)


def test_a_radio_needs_a_station(radio: Radio) -> None:
    with pytest.raises(SdrError, match=r"--station FILE.*configs/radio_hackrf\.yaml"):
        open_device("soapy:driver=fake", Opening(DEFAULT))
    assert radio.opened == 0


# ---------------------------------------------------------------- tuning


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rate_hz": 1.5e6}, r"cannot sample at 1\.5 Msps; the nearest is 1$"),
        ({"rate_hz": 30e6}, r"cannot sample at 30 Msps; the nearest is 20$"),
        ({"bandwidth_hz": 3e6}, r"no filter of 3 MHz; the nearest is [23]\.5$"),
        ({"frequency_hz": 7e9}, r"cannot receive at 7000 MHz, only at 1…6000 MHz"),
        ({"receive": Side({"VGA": 60.0})}, r"gain VGA cannot be 60 dB; the nearest is 47$"),
        ({"receive": Side({"AMP": 8.0})}, r"gain AMP cannot be 8 dB; the nearest is 14$"),
        ({"receive": Side({"LNA": 8.0})}, r"no gain LNA; there are AMP, VGA"),
        ({"receive": Side({}, antenna="RX9")}, r"no antenna 'RX9' to receive with; there are TX/RX"),
        ({"receive": None}, r"does not receive: its file has no 'receive' section"),
    ],
)
def test_what_a_radio_has_not_is_named_with_what_it_has(
    radio: Radio, opened: Open, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(SdrError, match=words):
        opened(**changes)
    assert radio.log[-1] == "closed" and transmitting(radio) == LOWEST


def test_a_station_is_tuned_with_its_calibration(radio: Radio, opened: Open) -> None:
    opened(calibration=Calibration(oscillator_ppm=10.0), bandwidth_hz=3.5e6, receive=Side({"VGA": 12.0}, "TX/RX"))
    assert f"frequency {2.45e9 / (1 + 10e-6):.0f}" in radio.log
    assert {"bandwidth 3.5e+06", "antenna TX/RX"} <= set(radio.log)
    assert radio.gains[1, "VGA"] == 12 and radio.gains[1, "AMP"] == 0
    assert transmitting(radio) == LOWEST  # from whatever the last program left


@pytest.mark.parametrize(
    ("ranges", "value", "expected"),
    [
        ([Range(0.0, 40.0, 8.0)], 13.0, 16.0),
        ([Range(0.0, 40.0, 8.0)], 99.0, 40.0),
        ([Range(1.0, 1.0), Range(2.0, 2.0), Range(5.0, 9.0)], 3.6, 5.0),
        ([], 3.6, 3.6),
    ],
)
def test_the_nearest_of_a_radios_ranges(ranges: list[Range], value: float, expected: float) -> None:
    assert nearest(value, ranges) == expected


# ---------------------------------------------------------------- receiving


@pytest.mark.parametrize("timed", [True, False])
def test_an_overflow_costs_what_was_lost_and_is_counted(radio: Radio, opened: Open, timed: bool) -> None:
    """Images on both sides of it come; with a clock the gap has its true length, without one a packet's."""
    radio.timed, lost = timed, 5_000
    device = opened()
    device._driver.pending = np.concatenate([BURST, np.zeros(300_000, np.complex64), BURST])
    playback, receiver = Playback(device, DEFAULT), Receiver(DEFAULT)
    images, got = [], 0
    for chunk in playback:
        images += receiver.push(chunk)
        if got < 200_000 <= got + chunk.size:
            radio.skip = lost
            radio.reads.append(fake.SOAPY_SDR_OVERFLOW)
        got += chunk.size
        if got > 700_000:
            playback.stop()
    images += receiver.flush()
    assert [image.packets_received for image in images] == [images[0].packets_expected] * 2
    assert device.counters.overflows == 1
    assert playback.missing_samples == (lost if timed else DEFAULT.packet_samples(DEFAULT.payload_symbols))
    (note,) = playback.notes()
    assert ("unknown length" in note) != timed


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ([fake.SOAPY_SDR_STREAM_ERROR], r"radio driver=fake has vanished \(STREAM_ERROR\): plug it in again"),
        ([fake.SOAPY_SDR_TIMEOUT] * 50, r"has vanished \(it has sent no samples for 0\.3 s\)"),
    ],
)
def test_a_radio_that_is_unplugged_ends_the_stream_and_what_came_is_kept(
    radio: Radio, opened: Open, monkeypatch: pytest.MonkeyPatch, codes: list[int], words: str
) -> None:
    monkeypatch.setattr(fetch, "SILENCE_S", 0.3)
    device = opened()
    device._driver.pending = BURST
    radio.reads.extend([0] * 8 + codes)
    playback, receiver = Playback(device, DEFAULT), Receiver(DEFAULT)
    images = [image for chunk in playback for image in receiver.push(chunk)] + receiver.flush()
    assert playback.samples == 8 * radio.mtu and len(images) == 1 and images[0].packets_received > 0
    with pytest.raises(DeviceError, match=words):
        assert playback.failure is not None
        raise playback.failure


def test_a_slow_reader_makes_the_driver_wait_not_the_memory_grow(radio: Radio, opened: Open) -> None:
    device = opened()
    device.start()
    assert device._fetcher is not None
    room = device._fetcher._queue.maxsize
    while not device._fetcher._queue.full():
        time.sleep(0.01)
    time.sleep(0.2)
    assert radio.clock <= (room + 2) * radio.mtu and room * radio.mtu < 3 * device.rate_hz
    device.stop()


def test_a_driver_that_hangs_does_not_hang_the_program(
    radio: Radio, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soapy_module, "_CLOSE_S", 0.2)
    device = opened()
    device.start()
    radio.hangs = True
    begun = time.monotonic()
    device.close()
    assert time.monotonic() - begun < 10


# ---------------------------------------------------------------- transmitting


def test_without_a_clock_a_burst_is_padded_to_the_drivers_buffers(radio: Radio, opened: Open) -> None:
    radio.mtu = 131_072  # a HackRF's
    device = opened(transmit=True)
    device.transmit(BURST)
    sent = np.concatenate(radio.sent)
    assert all(piece.size == radio.mtu for piece in radio.sent)
    (first, *_, last) = np.flatnonzero(sent)
    assert first >= 5 * radio.mtu and sent.size - last > 2 * radio.mtu
    assert np.array_equal(sent[5 * radio.mtu :][: BURST.size], BURST)
    assert "flags 2" in radio.log[-2] or any("flags 2" in line for line in radio.log)  # the last one ends the burst
    assert radio.log.index("activate 0") < radio.log.index("deactivate 0") and transmitting(radio) == LOWEST


def test_with_a_clock_a_burst_has_its_time_and_no_padding_before(radio: Radio, opened: Open) -> None:
    radio.timed = True
    device = opened(transmit=True)
    device.transmit(BURST, at_s=device.now_s() + 0.05)
    assert np.array_equal(np.concatenate(radio.sent)[: BURST.size], BURST)
    flags = [line.rsplit(" ", 1)[1] for line in radio.log if line.startswith("write")]
    assert flags[0] == "4" and flags[-1] == "2" and set(flags[1:-1]) == {"0"}


def test_underflows_are_counted_and_survived(radio: Radio, opened: Open) -> None:
    device = opened(transmit=True)
    radio.writes.extend([fake.SOAPY_SDR_UNDERFLOW, 0, 0, fake.SOAPY_SDR_UNDERFLOW, fake.SOAPY_SDR_TIMEOUT, 0])
    radio.statuses.append(fake.SOAPY_SDR_UNDERFLOW)
    device.transmit(BURST)
    assert device.counters.underflows == 2  # nothing ran dry before the first sample
    assert sum(piece.size for piece in radio.sent) >= BURST.size
    assert any("ran out of samples 2 times" in note for note in device.notes())


@pytest.mark.parametrize("clumsy", [fake.SOAPY_SDR_STREAM_ERROR, fake.SOAPY_SDR_TIMEOUT])
def test_a_radio_unplugged_while_sending_is_named(
    radio: Radio, opened: Open, monkeypatch: pytest.MonkeyPatch, clumsy: int
) -> None:
    monkeypatch.setattr("sdr.devices.burst.SILENCE_S", 0.05)
    device = opened(transmit=True)
    radio.writes.extend([0, 0] + [clumsy] * 1_000_000)
    with pytest.raises(DeviceError, match="radio driver=fake has vanished"):
        device.transmit(BURST)
    assert transmitting(radio) == LOWEST


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, ValueError])
def test_whatever_ends_a_burst_the_radio_is_silent(
    radio: Radio, opened: Open, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    device = opened(transmit=True)
    loud: list[dict[tuple[int, str], float]] = []

    def fail(*_: Any, **__: Any) -> None:
        loud.append(transmitting(radio))
        raise error("in the middle")

    monkeypatch.setattr(device._driver, "writeStream", fail)
    with pytest.raises((error, DeviceError)):
        device.transmit(BURST)
    assert loud[0][0, "VGA"] == 20 and transmitting(radio) == LOWEST
    assert radio.log[-1] == "deactivate 0"


def test_opened_to_receive_it_cannot_transmit(radio: Radio, opened: Open) -> None:
    device = opened()
    with pytest.raises(SdrError, match="opened to receive: nothing is sent"):
        device.transmit(BURST)
    assert not radio.sent and transmitting(radio) == LOWEST


def test_what_the_station_forbids_does_not_even_open_the_radio(radio: Radio, opened: Open) -> None:
    with pytest.raises(SdrError, match="allows no band"):
        opened(transmit=True, bands=())
    with pytest.raises(SdrError, match="leave rate_hz out"):
        opened(transmit=True, rate_hz=8e6)
    assert radio.opened == 0


def test_the_silence_that_a_burst_owes_is_kept(radio: Radio, opened: Open) -> None:
    (band,) = STATION.bands
    device = opened(transmit=True, bands=(dataclasses.replace(band, duty_cycle=0.05),))
    device.transmit(BURST)
    assert device._guard is not None
    owed = device._guard.wait_s()
    assert 0 < owed <= 19 * BURST.size / 4e6
    begun = time.monotonic()
    device.transmit(BURST[:10])
    assert time.monotonic() - begun >= owed - 0.05


def test_committed_stations_open_what_they_are_for() -> None:
    for path in sorted(Path(__file__).parents[3].joinpath("configs").glob("radio_*.yaml")):
        station = load_station(path)
        assert station.receive and station.transmit and station.bands and station.rx_limit_dbm is not None


def test_close_releases_a_radio_once(radio: Radio, opened: Open) -> None:
    with closing(opened(transmit=True)) as device:
        device.transmit(BURST[:1000])
    device.close()
    assert radio.log.count("closed") == radio.opened == 1 and "close 0" in radio.log
