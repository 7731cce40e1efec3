"""`lrisc send`, `receive` and `radios` on virtual radios: two processes, interruptions, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

import lrisc
from models.image import default_photo, load_image
from models.metrics import psnr_db
from sdr.devices import Opening, open_device
from sdr.devices import soapy as soapy_module
from sdr.station import load_station
from sdr.waveform import DEFAULT
from tests.sdr.devices.fake_soapy import SOAPY_SDR_STREAM_ERROR as STREAM_ERROR
from tests.sdr.devices.fake_soapy import Module, Radio

ROOT = Path(__file__).parents[1]
STATION = ROOT / "configs" / "radio_virtual.yaml"
LIMIT_S = 120.0  # for what takes a fraction of it
Run = Callable[..., tuple[int, str, str]]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(air: None) -> Iterator[Start]:
    """Starts a command in a process of its own; `code` runs in it before the command."""
    processes: list[subprocess.Popen[str]] = []

    def run(*arguments: object, code: str = "") -> subprocess.Popen[str]:
        program = f"import sys; sys.argv = {['lrisc', *map(str, arguments)]!r}; {code}\nimport lrisc; lrisc.main()"
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", program],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ,
            )
        )
        return processes[-1]

    yield run
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process; gives exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lrisc", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            lrisc.main()
        printed = capsys.readouterr()
        return int(stopped.value.code or 0), printed.out, printed.err

    return call


def picture(path: Path, height: int, width: int) -> Path:
    Image.fromarray(default_photo()[0][20 : 20 + height, 60 : 60 + width]).save(path)
    return path


def station(folder: Path, **changes: Any) -> tuple[str, Path]:
    """The virtual station with other values."""
    content = yaml.safe_load(STATION.read_text()) | changes
    path = folder / "station.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return "--station", path


def radio(serial: str, **arguments: object) -> tuple[str, ...]:
    given = "".join(f",{key}={value}" for key, value in arguments.items())
    return f"soapy:driver=lrisc,serial={serial}{given}", "--station", str(STATION)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=LIMIT_S)
    return process.returncode, out, err


# ---------------------------------------------------------------- two processes, two radios


WAIT_FOR_THE_RECEIVER = """
import sdr.devices.burst as burst
burst.SILENCE_S = 100.0
"""
WAIT_FOR_A_FILE = """
import pathlib, time, sdr.safety as safety
def when_told(guard):
    while not pathlib.Path(FILE).exists():
        time.sleep(0.01)
    return 0.0
safety.TransmitGuard.wait_s = when_told
"""
KILL_WITHIN_THE_BURST = """
import os, signal, time, sdr.devices.burst as burst
whole = burst._write
def first_part(soapy, driver, stream, padded, buffer, *rest):
    whole(soapy, driver, stream, padded[: 6 * buffer], buffer, *rest)  # five of silence, then packets
    driver.deactivateStream(stream)  # which on this air returns when all has been fetched
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
burst._write = first_part
"""


def test_a_photograph_crosses_the_air_and_a_killed_sender_costs_its_own_image_only(
    start: Start, tmp_path: Path
) -> None:
    """Two HackRFs of 8 bits, 26 ppm apart, at 2.45 GHz; a first sender is killed in the middle of its image."""
    large, small = picture(tmp_path / "large.png", 448, 448), picture(tmp_path / "small.png", 192, 256)
    out, told = tmp_path / "out", tmp_path / "told"
    options = ("--transmit", "--snr-hint-db", 15)
    to_killed, to_whole = (radio(serial, ppm=14, peers=1) for serial in ("alice", "carol"))
    wait = WAIT_FOR_THE_RECEIVER + WAIT_FOR_A_FILE.replace("FILE", repr(str(told)))
    killed = start(
        "send", large, "--to", *to_killed, *options, "--cbr", "1/5", code=WAIT_FOR_THE_RECEIVER + KILL_WITHIN_THE_BURST
    )
    sender = start("send", small, "--to", *to_whole, *options, "--json", code=wait)
    receiver = start("receive", "--from", *radio("bob", ppm=-12), "--out", out, "--images", 2, "--steps", 0, "--json")
    assert ended(killed)[0] == -signal.SIGKILL
    told.touch()
    code, sent, err = ended(sender)
    assert code == 0, err
    code, received, err = ended(receiver)
    assert code == 0, err
    *images, report = map(json.loads, received.splitlines())
    # An incomplete image comes when half a second has passed without more of it, which may be after the next.
    whole, partial = sorted(images, key=lambda image: image["session"] != json.loads(sent)["session"])

    assert 0 < partial["packets_received"] < partial["packets_expected"]
    assert "lost" in partial["incomplete"] and 0 < partial["erased_share"] < 1
    assert psnr_db(load_image(large), load_image(partial["file"])) > 18

    assert whole["packets_received"] == whole["packets_expected"] == len(json.loads(sent)["packets"])
    assert whole["cfo_hz_estimated"] == pytest.approx(26e-6 * 2.45e9, abs=300)
    assert psnr_db(load_image(small), load_image(whole["file"])) > 28
    assert report["packets_received"] == partial["packets_received"] + whole["packets_received"]
    assert report["radio"]["frequency_hz"] == 2.45e9 and report["radio"]["overflows"] == 0
    assert json.loads(sent)["radio"]["underflows"] == 0


# ---------------------------------------------------------------- interruptions


class Nothing:
    """A decoder that is never asked; `at_poll` is called as often as a real one would be polled."""

    def __init__(self, at_poll: Callable[[], None] = lambda: None) -> None:
        self.at_poll = at_poll

    def submit(self, *_: Any, **__: Any) -> None: ...

    def poll(self, timeout_s: float = 0.0) -> list[Any]:
        self.at_poll()
        return []

    def close(self) -> None: ...


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_reception_ends_with_what_was_heard(
    run: Run, air: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    calls = iter([lambda: None] * 5 + [lambda: os.kill(os.getpid(), number)])
    decoder = Nothing(lambda: next(calls, lambda: None)())
    monkeypatch.setattr("models.client.open_decoder", lambda *_: decoder)
    code, out, err = run("receive", "--from", *radio("bob"), "--out", tmp_path, "--json")
    assert code == 130 and "interrupted; what was finished is kept" in err.splitlines()[-1]
    assert json.loads(out)["radio"]["samples"] > 0
    with closing(open_device(radio("bob")[0], Opening(DEFAULT, station=load_station(STATION)))):
        pass  # it was let go


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_sender_leaves_the_radio_silent(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    fake = Radio()
    monkeypatch.setattr(soapy_module, "_soapy", lambda: Module(fake))
    loud: list[float] = []

    def interrupted(*_: Any) -> None:
        loud.append(fake.gains[0, "VGA"])
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr("sdr.devices.burst._write", interrupted)
    file = station(tmp_path, driver="fake", receive={"gains": {}})
    photo = picture(tmp_path / "photo.png", 64, 64)
    code, out, err = run("send", photo, "--to", "soapy:driver=fake", *file, "--transmit")
    assert code == 130 and out == "" and "interrupted" in err.splitlines()[-1]
    assert loud == [20] and fake.gains[0, "VGA"] == fake.gains[0, "AMP"] == 0
    assert "deactivate 0" in fake.log and fake.log[-1] == "closed"


def test_an_unplugged_receiver_says_so_and_keeps_what_came(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Radio(reads=deque([0] * 20 + [STREAM_ERROR]))
    monkeypatch.setattr(soapy_module, "_soapy", lambda: Module(fake))
    monkeypatch.setattr("models.client.open_decoder", lambda *_: Nothing())
    file = station(tmp_path, driver="fake", receive={"gains": {}})
    code, out, err = run("receive", "--from", "soapy:driver=fake", *file, "--out", tmp_path, "--json")
    assert code == 2 and "radio driver=fake,profile=hackrf has vanished" in err.splitlines()[-1]
    assert json.loads(out)["radio"]["samples"] == 20 * fake.mtu


# ---------------------------------------------------------------- what is refused, and found


def refused(result: tuple[int, str, str], *words: str) -> None:
    """A user error: exit code 2, nothing on stdout, and a last line on stderr that has the words in it."""
    code, out, err = result
    last = [line for line in err.splitlines() if line.strip()][-1]
    assert code == 2 and out == "" and last.startswith("lrisc: ") and "Traceback" not in err
    assert all(word in last for word in words), last


def test_radios_are_listed_as_targets(run: Run, air: None) -> None:
    code, out, _ = run("radios", "--json")
    report = json.loads(out)
    assert code == 0 and report["remedy"] is None
    assert any(entry["target"].startswith("soapy:driver=lrisc,serial=hackrf") for entry in report["radios"])
    assert "soapy:driver=lrisc" in run("radios")[1]


def test_without_radios_what_mends_it_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soapy_module, "list_radios", list)
    monkeypatch.setattr(soapy_module, "list_drivers", list)
    code, out, _ = run("radios")
    assert code == 0 and all(word in out for word in ("no radio found", "soapysdr-module-hackrf", "make setup"))
    assert json.loads(run("radios", "--json")[1])["remedy"]


def test_nothing_is_sent_without_leave(run: Run, air: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soapy_module, "_open", lambda *_: pytest.fail("the radio was opened"))
    photo = picture(tmp_path / "photo.png", 64, 64)
    to = ("--to", "soapy:driver=lrisc,serial=alice")
    refused(run("send", photo, *to), "--station FILE")
    refused(run("send", photo, *to, "--transmit"), "--station FILE")
    refused(run("send", photo, *to, "--station", STATION), "add --transmit")
    refused(run("send", photo, *to, "--transmit", *station(tmp_path, bands=[])), "allows no band")
    refused(run("send", photo, *to, "--transmit", *station(tmp_path, transmit=None)), "no 'transmit' section")
    narrow = [{"low_hz": 2.4e9, "high_hz": 2.45e9, "max_gain_db": 61, "duty_cycle": 1}]
    refused(run("send", photo, *to, "--transmit", *station(tmp_path, bands=narrow)), "allowed is 2400…2450 MHz")
    refused(run("send", photo, *to, "--transmit", *station(tmp_path, colour="red")), "unknown key colour", "bands")
    refused(run("send", photo, *to, "--transmit", "--station", tmp_path / "none.yaml"), "none.yaml")
    refused(run("send", photo, "--to", "loopback:"), "lrisc loopback")
    refused(run("send", photo, "--to", tmp_path / "a.sigmf-meta", "--station", STATION), "--station is for radios")


def test_what_the_radio_has_not_is_refused(run: Run, air: None, tmp_path: Path) -> None:
    receive = ("receive", "--out", tmp_path, "--from")
    bob = "soapy:driver=lrisc,serial=bob"
    refused(run(*receive, bob, *station(tmp_path, frequency_hz=7e9)), "cannot receive at 7000 MHz, only at 1…6000 MHz")
    refused(run(*receive, bob, *station(tmp_path, rate_hz=30e6)), "cannot sample at 30 Msps; the nearest is 20")
    refused(run(*receive, bob, *station(tmp_path, receive={"gains": {"LNA": 12}})), "LNA cannot be 12 dB", "nearest")
    none = ("soapy:driver=none", *station(tmp_path, driver="none", arguments={}))
    refused(run(*receive, *none), "there is no radio", "lrisc radios")
    refused(run(*receive, f"{bob},profile=none", "--station", STATION), "none")


def test_a_radio_that_another_program_uses_is_refused(run: Run, air: None, tmp_path: Path) -> None:
    program = f"import SoapySDR as s; d = s.Device('{radio('bob')[0].removeprefix('soapy:')}'); print('open'); input()"
    paths = {"SOAPY_SDR_PLUGIN_PATH": str(soapy_module._OWN_DRIVERS)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | paths
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"open\n"
        refused(run("receive", "--from", *radio("bob"), "--out", tmp_path), "is another program using it?", "in use")
        other.communicate(b"\n")


def test_fewer_pictures_than_asked_for_is_a_failure_of_its_own(
    run: Run, air: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.client.open_decoder", lambda *_: Nothing())
    asked = ("--out", tmp_path, "--seconds", 0.2, "--images", 1)
    code, out, err = run("receive", "--from", *radio("bob"), *asked)
    assert code == 1 and "0 of 1 pictures came" in err.splitlines()[-1] and "no image found" in out
    assert "more than -5 dBm at the receiver's input damages it" in err.splitlines()[0]
