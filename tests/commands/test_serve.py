"""`lrisc serve` and `lrisc export` as a user meets them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lrisc
from tests.models.service import make_model


def test_a_service_says_where_it_is_and_what_it_did(tmp_path: Path) -> None:
    model, keys = make_model(tmp_path / "grey"), tmp_path / "keys"
    command = [sys.executable, "-m", "lrisc", "serve", "--model", model, "--address", "tcp://0.0.0.0:*", "--json"]
    with subprocess.Popen(
        [*command, "--keys", str(keys)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as service:
        assert service.stdout is not None and service.stderr is not None
        line = service.stderr.readline()
        assert line.startswith("grey at zmq:tcp://0.0.0.0:") and "*" not in line
        os.kill(service.pid, signal.SIGTERM)
        report = json.loads(service.stdout.read())
        assert service.wait(timeout=60) == 0
    assert report["model"] == "grey" and report["done"] == 0 and report["refused"] == {}
    assert (keys / "client.key_secret").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--address", "tcp://0.0.0.0:5755"], "give --keys FOLDER"),
        (["serve", "--model", "nothing"], "no model 'nothing'"),
        (["serve", "--address", "http://127.0.0.1:80"], "http://127.0.0.1:80"),
        (["export", "--out", "."], "holds something else than an export"),
        (["receive", "--from", "x.cf32", "--decoder", "zmq:tcp://192.0.2.1:5755"], "x.cf32"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("not an export")
    monkeypatch.setattr(sys, "argv", ["lrisc", *arguments])
    with pytest.raises(SystemExit) as stopped:
        lrisc.main()
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if line.strip()]
    assert stopped.value.code == 2 and printed.out == ""
    assert message in lines[-1] and len(lines) == 1
