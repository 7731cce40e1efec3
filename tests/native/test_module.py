"""The driver as SoapySDR sees it: found, opened, described, and wrong arguments refused by name."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.native.radio import RX, TX, Radio, Radios


def test_soapy_util_finds_a_radio_of_every_profile(air: Path) -> None:
    done = subprocess.run(["SoapySDRUtil", "--find=driver=lrisc"], capture_output=True, text=True, timeout=60)
    for name in ("b210", "hackrf", "ideal"):
        assert f"profile = {name}" in done.stdout, done.stderr
    done = subprocess.run(["SoapySDRUtil", "--info"], capture_output=True, text=True, timeout=60)
    assert "lrisc" in done.stdout


@pytest.mark.parametrize(
    ("profile", "lines"),
    [
        ("hackrf", ("hardware=HackRF One", "Full-duplex: NO", "Native format: CS8 [full-scale=128]")),
        ("b210", ("hardware=B210", "Full-duplex: YES", "Native format: CS16 [full-scale=32768]", "Timestamps: YES")),
    ],
)
def test_soapy_util_describes_one(profile: str, lines: tuple[str, ...], air: Path) -> None:
    command = ["SoapySDRUtil", f"--probe=driver=lrisc,profile={profile},serial=alice"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for line in lines:
        assert line in done.stdout


def test_a_hackrf_is_like_a_hackrf(radios: Radios) -> None:
    device = radios("alice", "hackrf").device
    assert list(device.listGains(RX, 0)) == ["LNA", "VGA", "AMP"]
    assert list(device.listGains(TX, 0)) == ["VGA", "AMP"]
    assert list(device.listAntennas(RX, 0)) == ["TX/RX"]
    assert not device.hasHardwareTime("")
    assert not device.getFullDuplex(RX, 0)
    stream = device.setupStream(TX, "CS8")
    assert device.getStreamMTU(stream) == 131_072
    device.closeStream(stream)
    device.setGain(RX, 0, "LNA", 23.0)
    assert device.getGain(RX, 0, "LNA") == 16  # steps of 8 dB
    device.setGain(RX, 0, "VGA", 99.0)
    assert device.getGain(RX, 0, "VGA") == 62
    assert list(device.listFrequencies(RX, 0)) == ["RF"]
    assert (device.getFrequencyRange(RX, 0)[0].minimum(), device.getFrequencyRange(RX, 0)[0].maximum()) == (1e6, 6e9)


def test_a_b210_is_like_a_b210(radios: Radios) -> None:
    device = radios("alice", "b210").device
    assert list(device.listGains(RX, 0)) == ["PGA"]
    assert list(device.listAntennas(RX, 0)) == ["TX/RX", "RX2"]
    assert device.hasHardwareTime("") and device.getFullDuplex(RX, 0)
    device.setHardwareTime(5_000_000_000, "")
    assert device.getHardwareTime("") == 5_000_000_000
    device.setAntenna(RX, 0, "RX2")
    assert device.getAntenna(RX, 0) == "RX2"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"bandwith": 1}, "unknown argument 'bandwith'"),
        ({"ppm": "many"}, "ppm=many: a number is expected"),
        ({"ppm": "inf"}, "ppm=inf is out of range"),
        ({"pace": "slow"}, "pace=slow: real or free"),
        ({"bits": 1}, "bits=1"),
        ({"path_loss_db": -1}, "path_loss_db=-1 is out of range"),
        ({"profile": "usrp9"}, "no profile 'usrp9'; there are b210, hackrf, ideal"),
        ({"serial": "../x"}, "serial '../x'"),
        ({"air": "a b"}, "air 'a b'"),
    ],
)
def test_wrong_arguments_are_refused_by_name(
    arguments: dict[str, object], complaint: str, air: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = {"serial": "alice", "profile": "hackrf", **arguments}
    with pytest.raises(RuntimeError) as caught:
        Radio(**given)  # type: ignore[arg-type]
    assert complaint in str(caught.value) + capfd.readouterr().err


def test_wrong_settings_are_refused_by_name(radios: Radios) -> None:
    device = radios("alice", "hackrf").device
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: device.setFrequency(RX, 0, 7e9), "frequency"),
        (lambda: device.setSampleRate(RX, 0, 40e6), "rate"),
        (lambda: device.setAntenna(RX, 0, "RX9"), "RX9"),
        (lambda: device.setGain(RX, 0, "PGA", 1.0), "PGA"),
        (lambda: device.setupStream(RX, "CF64"), "CF64"),
        (lambda: device.setupStream(RX, "CF32", [1]), "channel"),
        (lambda: device.writeSetting("ppm", "3"), "ppm"),
        (lambda: device.readSetting("nothing"), "nothing"),
        (lambda: device.readSensor("nothing"), "nothing"),
    ]
    for call, complaint in wrong:
        with pytest.raises(RuntimeError, match=complaint):
            call()


@pytest.mark.parametrize(
    ("line", "changed", "complaint"),
    [
        ("bits: 12", "bits: 12\nbitz: 3", "unknown key 'bitz'"),
        ("bits: 12", "", "key 'bits' is missing"),
        ("bits: 12", "bits: many", "value of 'bits'"),
        ("bits: 12", "bits: 99", "bits is 0 or 2...16"),
        ("  ppm: 2", "  ppn: 2", "unknown key 'ppn'"),
    ],
)
def test_profiles_are_files_of_ones_own(
    line: str, changed: str, complaint: str, driver: Path, tmp_path: Path, air: Path
) -> None:
    text = (driver.parent / "profiles" / "b210.yaml").read_text()
    file = tmp_path / "mine.yaml"
    file.write_text(text.replace("hardware: B210", "hardware: Mine"))
    mine = Radio("alice", str(file))
    assert mine.device.getHardwareKey() == "Mine"
    mine.close()
    assert line in text
    file.write_text(text.replace(line, changed))
    with pytest.raises(RuntimeError, match=complaint):
        Radio("alice", str(file))


def test_a_serial_number_is_an_individual(radios: Radios) -> None:
    truths = {}
    for serial in ("alice", "bob"):
        truths[serial] = [radios(serial, "hackrf").truth(key) for key in ("ppm", "tx_gain_error_db", "rx_dc_i")]
    assert truths["alice"] != truths["bob"]
    assert all(abs(ppm) <= 20 for ppm, *_ in truths.values())
    carol = radios("carol", "hackrf", ppm=-3.5)
    assert carol.truth("ppm") == -3.5
    assert {info.key for info in carol.device.getSettingInfo()} > {
        "ppm",
        "noise_figure_db",
        "rx_iq_phase_deg",
        "path_loss_db",
    }


def test_a_radio_is_opened_only_once(radios: Radios, air: Path) -> None:
    radios("alice", "hackrf")
    with pytest.raises(RuntimeError, match="radio 'alice' is in use"):
        Radio("alice", "b210")
    other = ["SoapySDRUtil", "--probe=driver=lrisc,profile=b210,serial=alice"]
    done = subprocess.run(other, capture_output=True, text=True, timeout=60, env=os.environ)
    assert "radio 'alice' is in use on air 'default' (by another process)" in done.stdout + done.stderr


def test_an_air_has_one_pace(radios: Radios, air: Path) -> None:
    radios("alice", "hackrf", pace="real")
    with pytest.raises(RuntimeError, match="runs at pace=real"):
        Radio("bob", "hackrf", pace="free")
