"""Campaigns over two virtual radios: the SNR that was asked for, what is refused, and what a kill costs."""

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

import lrisc
from calibration.errors import CampaignError
from calibration.ledger import Records
from calibration.plan import Design, Plan, resolve
from calibration.radios import TOLERANCE_DB, RadioAir, over_radios
from sdr.errors import SdrError
from sdr.recording import open_recording
from tests.calibration.tiny import run, tiny_plan

ROOT = Path(__file__).parents[2]
VIRTUAL = yaml.safe_load((ROOT / "configs" / "radio_virtual.yaml").read_text())
WRONG_BY_DB = 2.5  # what the calibration says too much: the loop must find that out
Stations = Callable[..., tuple[str, str]]


@pytest.fixture
def stations(tmp_path: Path, air: None) -> Stations:
    """Writes files of two virtual HackRFs and of a calibration that is a little off; gives the stations'."""

    def write(changes: dict[str, Any] | None = None, **sender: Any) -> tuple[str, str]:
        gains = [float(gain) for gain in range(0, 48, 4)]
        calibration = {
            "version": 1,
            "date": datetime.now(UTC).isoformat(),
            **{"frequency_hz": 2.45e9, "rate_hz": 4e6, "sender": "alice", "receiver": "bob"},
            **{"transmit_gains": {"AMP": 0.0}, "transmit_element": "VGA"},
            "tx_gain": {
                "gain_db": gains,
                "snr_db": [gain - 6.0 + WRONG_BY_DB for gain in gains],
                "sd_db": [0.1] * len(gains),
                "usable_db": [0.0, 36.0],
            },
        }
        (tmp_path / "calibration.yaml").write_text(yaml.safe_dump(calibration | (changes or {})))
        files = []
        for serial, more in (("alice", {"calibration": {"file": "calibration.yaml"}, **sender}), ("bob", {})):
            values = {**VIRTUAL, "name": serial, "serial": serial, **more}
            files.append(str(tmp_path / f"{serial}.yaml"))
            Path(files[-1]).write_text(yaml.safe_dump({key: it for key, it in values.items() if it is not None}))
        return files[0], files[1]

    return write


def radio_plan(folder: Path, stations: tuple[str, str], **changes: Any) -> Plan:
    values: dict[str, Any] = {"images": (str(folder / "0.png"),), "station": stations, "snr_db": (3.0, 12.0)}
    return tiny_plan(folder, **{**values, **changes})


def over_air(design: Design, out: Path) -> Any:
    assert design.stations is not None
    with RadioAir(design.stations) as air:
        return run(design, out, source=lambda work: over_radios(work, air))


def rows_of(out: Path) -> list[dict[str, Any]]:
    with Records(out) as records:
        return list(records.rows())


def test_each_picture_is_received_at_the_snr_that_was_asked_for(
    tiny_folder: Path, tmp_path: Path, stations: Stations
) -> None:
    """Though the calibration is wrong by more than the tolerance, and VGA gains are whole dB."""
    design = resolve(radio_plan(tiny_folder, stations(), snr_db=(-1.5, 12.3, 20.7), keep_recordings=True))
    summary = over_air(design, tmp_path / "run")
    assert (summary.lost, summary.failed) == (0, 0)
    for row in rows_of(tmp_path / "run"):
        assert row["channel"] == "radio" and row["packets_received"] == row["packets_sent"]
        assert abs(row["snr_db_estimated"] - row["snr_db"]) < TOLERANCE_DB + 0.3  # the estimate's own scatter
    again = resolve(radio_plan(tiny_folder, stations(), snr_db=(-1.5, 12.3, 20.7)))
    run(again, tmp_path / "again", recorded=tmp_path / "run")  # what was heard, without radios
    heard = [(row["psnr_db"], row["snr_db_estimated"]) for row in rows_of(tmp_path / "run")]
    assert heard == [(row["psnr_db"], row["snr_db_estimated"]) for row in rows_of(tmp_path / "again")]
    name = rows_of(tmp_path / "run")[0]["recording"]
    assert open_recording(tmp_path / "run" / name).annotations


def test_an_snr_out_of_reach_is_a_failed_row_and_the_rest_goes_on(
    tiny_folder: Path, tmp_path: Path, stations: Stations
) -> None:
    bands = [{**VIRTUAL["bands"][0], "max_gain_db": 24}]
    plan = radio_plan(
        tiny_folder, stations(bands=bands), snr_db=(12.0, 25.0, 38.0), models=(str(tiny_folder / "other"),)
    )
    summary = over_air(resolve(plan), tmp_path / "run")
    assert summary.failed == 2
    reasons = [row["reason"] for row in rows_of(tmp_path / "run")]
    assert reasons[0] is None
    assert "24 dB are allowed" in reasons[1]  # by the station, though the radio could
    assert "out of reach" in reasons[2]  # by the calibration


@pytest.mark.parametrize(
    ("changes", "sender", "message"),
    [
        ({"sender": "carol"}, {}, "for sender carol"),
        ({"frequency_hz": 1e9}, {}, "frequency_hz"),
        ({"tx_gain": None}, {}, "tx_gain"),
        ({}, {"calibration": None}, "lrisc calibrate tx-gain"),
        ({}, {"transmit": None}, "no 'transmit' section"),
        ({}, {"bands": None}, "allows no band"),
    ],
)
def test_stations_that_cannot_do_it_are_refused_before_anything_starts(
    changes: dict[str, Any], sender: dict[str, Any], message: str, tiny_folder: Path, stations: Stations
) -> None:
    with pytest.raises((CampaignError, SdrError), match=message):
        resolve(radio_plan(tiny_folder, stations(changes, **sender)))


@pytest.fixture
def plan(tiny_folder: Path, tmp_path: Path, stations: Stations) -> Path:
    values = {"name": "radios", "images": [str(tiny_folder / "*.png")], "snr_db": [6, 14], "cbr": ["1/12"]}
    values |= {"models": [str(tiny_folder / "tiny")], "station": list(stations())}
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize(
    "more", [[], ["--transmit", "--workers", "2"], ["--transmit", "--cluster", "tcp://127.0.0.1:1"]]
)
def test_nothing_is_sent_unless_told_to(
    more: list[str], plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("calibration.radios.RadioAir.__init__", lambda *_: pytest.fail("a radio was opened"))
    monkeypatch.setattr(sys, "argv", ["lrisc", "sweep", str(plan), "--out", str(tmp_path / "run"), *more])
    with pytest.raises(SystemExit) as stopped:
        lrisc.main()
    assert stopped.value.code == 2 and not (tmp_path / "run").exists()
    assert ("--cluster" if more else "--transmit") in capsys.readouterr().err


def test_a_killed_campaign_goes_on(plan: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lrisc", "sweep", str(plan), "--out", str(tmp_path / "run"), "--transmit"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert first.stdout is not None
    shown = [first.stdout.readline().strip() for _ in range(2)]
    first.send_signal(signal.SIGKILL)
    shown += first.communicate()[0].splitlines()
    second = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert second.returncode == 0, second.stderr
    shown += second.stdout.splitlines()[:-1]
    assert len(shown) == len({line.partition("] ")[2] for line in shown}) == 6  # every point once
    with (tmp_path / "run" / "results.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["ok"] * 6
    session = json.loads((tmp_path / "run" / "run.json").read_text())["sessions"][-1]
    assert session["radios"]["sender"]["frequency_hz"] == VIRTUAL["frequency_hz"]
