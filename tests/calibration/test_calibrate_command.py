"""`lrisc calibrate` as a user meets it: what it refuses, what it writes, and that a station then goes by it."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from PIL import Image

import lrisc
from calibration.bench import Bench
from calibration.steps import STEPS
from sdr.calibrated import load_calibration
from sdr.devices import Opening, open_device
from sdr.devices.base import DeviceError
from sdr.devices.soapy import SoapyDevice
from sdr.devices.tuning import RX
from sdr.errors import SdrError
from sdr.station import load_station
from sdr.waveform import DEFAULT
from tests.calibration.simulated import truth

Run = Callable[..., tuple[int, str, str]]
BAND = {"low_hz": 1_000_000, "high_hz": 6_000_000_000, "max_gain_db": 61, "duty_cycle": 1}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `lrisc calibrate` in this process; gives exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lrisc", "calibrate", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            lrisc.main()
        printed = capsys.readouterr()
        return int(stopped.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No radio may be opened."""

    def refuse(*given: object) -> NoReturn:
        raise AssertionError("a radio was opened")

    monkeypatch.setattr("calibration.bench.open_device", refuse)


def write(folder: Path, serial: str, /, **changes: Any) -> Path:
    """A station file of a virtual HackRF."""
    content = {
        "name": serial,
        "driver": "lrisc",
        "serial": serial,
        "arguments": {"profile": "hackrf"},
        "frequency_hz": 2_450_000_000,
        "receive": {"gains": {"AMP": 0, "LNA": 32, "VGA": 40}},
        "transmit": {"gains": {"AMP": 0, "VGA": 20}},
        "bands": [BAND],
    }
    path = folder / f"{serial}.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in (content | changes).items() if value is not None}))
    return path


@pytest.fixture
def bob(tmp_path: Path) -> Path:
    return write(tmp_path, "bob")


@pytest.fixture
def alice(tmp_path: Path) -> Path:
    return write(tmp_path, "alice")


# ---------------------------------------------------------------- what is refused, before any radio is opened


def refused(result: tuple[int, str, str], words: str) -> None:
    code, out, err = result
    assert code == 2 and out == ""
    assert len(err.strip().splitlines()) == 1 and words in err, err


def test_steps_peers_and_leave_to_transmit(run: Run, closed: None, bob: Path, alice: Path, tmp_path: Path) -> None:
    refused(run("gain", "--station", bob), "there is no step 'gain'; there are noise-floor")
    refused(run("tx-gain", "--station", bob, "--transmit"), "tx-gain needs a second radio that sends: --peer FILE")
    refused(run("all", "--station", bob), "frequency, clip, tx-gain, snr-bias needs a second radio")
    refused(run("all", "--station", bob, "--peer", alice), "add --transmit")
    refused(run("iq", "--station", bob, "--peer", alice), "add --transmit")
    refused(run("all", "--station", tmp_path / "none.yaml", "--peer", alice), "cannot read station")
    assert not (tmp_path / "out").exists()


def test_stations_that_do_not_allow_it_or_do_not_fit(run: Run, closed: None, bob: Path, tmp_path: Path) -> None:
    def refuse(words: str, station: Path = bob, **changes: Any) -> None:
        sender = write(tmp_path, "carol", **changes)
        arguments = ("--station", station, "--peer", sender, "--transmit", "--out", tmp_path / "out")
        refused(run("frequency", *arguments), words)

    refuse("its file allows no band", bands=None)
    refuse("and 10 dB are allowed", bands=[BAND | {"max_gain_db": 10}])
    refuse("they must have the same frequency_hz", frequency_hz=2_400_000_000)
    refuse("give each its serial", serial="bob")
    slow = write(tmp_path, "slow", rate_hz=8_000_000)
    refuse("leave rate_hz out", station=slow)


def test_dry_run_prints_the_plan_and_opens_no_radio(run: Run, closed: None, bob: Path, alice: Path) -> None:
    code, out, _ = run("all", "--station", bob, "--peer", alice, "--dry-run")
    assert code == 0
    places = [out.index(name) for name in STEPS]
    assert places == sorted(places) and "up to 61 dB" in out and "nobody" in out
    code, out, _ = run("all", "--station", bob, "--peer", alice, "--dry-run", "--json")
    plan = json.loads(out)
    assert [step["step"] for step in plan["steps"]] == list(STEPS)
    assert [step["transmits"] for step in plan["steps"]] == [False, True, True, True, True, True]
    assert (plan["receiver"], plan["sender"]) == ("bob", "alice")


# ---------------------------------------------------------------- what is written, and how a station goes by it


@pytest.fixture(scope="module")
def folder(air: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With two stations; whose radios are to be calibrated."""
    folder = tmp_path_factory.mktemp("calibrated")
    write(folder, "bob")
    write(folder, "alice")
    return folder


@pytest.fixture(scope="module")
def calibrated(folder: Path) -> Iterator[Path]:
    """The calibration of their frequency."""
    with pytest.MonkeyPatch.context() as patch:
        given = ("frequency", "--station", folder / "bob.yaml", "--peer", folder / "alice.yaml")
        patch.setattr(sys, "argv", ["lrisc", "calibrate", *map(str, given), "--transmit", "--out", str(folder / "out")])
        with pytest.raises(SystemExit) as stopped:
            lrisc.main()
    assert stopped.value.code == 0
    (path,) = (folder / "out").glob("*.yaml")
    yield path


def test_one_dated_file_with_a_plot_beside_it(calibrated: Path) -> None:
    made = load_calibration(calibrated)
    assert made.frequency is not None and made.tx_gain is None and made.receive_iq is None
    assert (made.sender, made.receiver, made.frequency_hz, made.rate_hz) == ("alice", "bob", 2.45e9, 4e6)
    assert made.receive_gains == {"AMP": 0, "LNA": 32, "VGA": 40} and made.transmit_gains == {"AMP": 0, "VGA": 20}
    assert 0 <= made.age_days() < 0.1
    names = sorted(path.name for path in calibrated.parent.iterdir())
    assert names == [calibrated.name, f"{calibrated.stem}_frequency.png"]
    with Image.open(calibrated.parent / names[1]) as plot:
        assert plot.size == (900, 480)


@pytest.fixture
def opened(folder: Path) -> Iterator[Callable[..., SoapyDevice]]:
    """Opens the radio of a station that goes by a calibration."""
    devices: list[SoapyDevice] = []

    def open_radio(serial: str, file: str, transmit: bool = False, **changes: Any) -> SoapyDevice:
        station = load_station(write(folder, serial, calibration={"file": file}, **changes))
        device = open_device("soapy:", Opening(DEFAULT, transmit=transmit, station=station))
        assert isinstance(device, SoapyDevice)
        devices.append(device)
        return device

    yield open_radio
    for device in devices:
        device.close()


def test_a_receiver_is_tuned_to_its_sender(calibrated: Path, opened: Callable[..., SoapyDevice]) -> None:
    receiver = opened("bob", f"out/{calibrated.name}")
    sender = opened("alice", f"out/{calibrated.name}", transmit=True)
    tuned_hz = receiver._driver.getFrequency(RX, 0) * (1 + 1e-6 * truth(receiver, "ppm"))
    sent_hz = 2.45e9 * (1 + 1e-6 * truth(sender, "ppm"))
    assert tuned_hz == pytest.approx(sent_hz, abs=15)  # 0.005 ppm
    assert receiver.notes() == sender.notes() == []


def test_another_radio_or_frequency_is_refused(calibrated: Path, opened: Callable[..., SoapyDevice]) -> None:
    file = f"out/{calibrated.name}"
    with pytest.raises(SdrError, match=r"'carol'.*is for receiver bob, and this is carol"):
        opened("carol", file)
    with pytest.raises(SdrError, match=r"'carol'.*is for sender alice, and this is carol"):
        opened("carol", file, transmit=True)
    with pytest.raises(SdrError, match="is for frequency_hz 2450000000, and this is 2400000000"):
        opened("bob", file, frequency_hz=2_400_000_000)
    with pytest.raises(SdrError, match="cannot read calibration"):
        opened("bob", "out/none.yaml")


def test_a_file_about_a_radios_other_direction_changes_nothing(
    calibrated: Path, opened: Callable[..., SoapyDevice]
) -> None:
    file = f"out/{calibrated.name}"
    sender, receiver = opened("bob", file, transmit=True), opened("alice", file)
    assert sender.notes() == receiver.notes() == []
    assert receiver._driver.getFrequency(RX, 0) == 2.45e9


def test_old_ones_and_gains_that_clip_are_warned_about(
    calibrated: Path, folder: Path, opened: Callable[..., SoapyDevice]
) -> None:
    content = yaml.safe_load(calibrated.read_text())
    content["date"] = "2020-01-01T00:00:00+00:00"
    content["clip"] = {"full_scale": 1.0, "safe_level_dbfs": -10.0, "safe_gain_db": 60.0}
    content["receive_iq"] = dict.fromkeys(("dc_i", "dc_q", "dc_sd", "gain_sd_db", "phase_sd_deg"), 0.0) | {
        "gain_db": 0.3,
        "phase_deg": 1.0,
    }
    (folder / "old.yaml").write_text(yaml.safe_dump(content))
    receiver = opened("bob", "old.yaml")
    assert [words in note for words, note in zip(("days old", "72 dB of"), receiver.notes(), strict=True)] == [True] * 2
    assert receiver.imbalance is not None and receiver.imbalance.gain_db == 0.3


# ---------------------------------------------------------------- what goes wrong on the way


def test_a_step_that_fails_is_said_and_the_others_are_kept(
    air: None, run: Run, bob: Path, alice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(bench: Bench, each: object) -> NoReturn:
        raise SdrError("the cable is loose")

    for name in ("frequency", "clip", "tx-gain", "snr-bias", "iq"):
        monkeypatch.setitem(STEPS, name, type(STEPS[name])(name, "", STEPS[name].peer, fail))
    arguments = ("all", "--station", bob, "--peer", alice, "--transmit", "--out", tmp_path / "out", "--json")
    code, out, err = run(*arguments)
    report = json.loads(out)
    assert code == 1 and err.count("the cable is loose") == 5
    assert report["failed"] == ["frequency", "clip", "tx-gain", "snr-bias", "iq"]
    made = load_calibration(Path(report["file"]))
    assert made.noise_floor is not None and report["calibration"] == yaml.safe_load(Path(report["file"]).read_text())
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".png", ".yaml"]


def test_a_radio_that_vanishes_ends_it_and_leaves_what_was_found(
    air: None, run: Run, bob: Path, alice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(bench: Bench, each: object) -> NoReturn:
        raise DeviceError("radio has vanished: plug it in again")

    monkeypatch.setitem(STEPS, "frequency", type(STEPS["frequency"])("frequency", "", STEPS["frequency"].peer, vanish))
    code, _, err = run("all", "--station", bob, "--peer", alice, "--transmit", "--out", tmp_path / "out")
    assert code == 2 and err.strip().endswith("lrisc: radio has vanished: plug it in again")
    (path,) = (tmp_path / "out").glob("*.yaml")
    assert load_calibration(path).noise_floor is not None


def test_too_weak_a_signal_is_said_with_what_to_do(air: None, run: Run, bob: Path, tmp_path: Path) -> None:
    deaf = write(tmp_path, "bob", arguments={"profile": "hackrf", "path_loss_db": "120"})
    alice = write(tmp_path, "alice")
    code, _, err = run("frequency", "--station", deaf, "--peer", alice, "--transmit", "--out", tmp_path / "out")
    assert code == 1 and "0 of 64 packets were received: raise the gains" in err
    assert not list((tmp_path / "out").iterdir())
