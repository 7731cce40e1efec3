"""`lrisc sweep` as a user meets it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import lrisc
from calibration.ledger import Ledger, Records
from calibration.measure import measure

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `lrisc ARGUMENTS` in this process, and a pool in it too; gives exit code, stdout and stderr."""
    monkeypatch.setattr("calibration.pool.in_pool", lambda work, workers: map(measure, work))

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lrisc", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            lrisc.main()
        printed = capsys.readouterr()
        return int(stopped.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def plan(tiny_folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    images = [str(tiny_folder / "0.png"), str(tmp_path / "late.png")]
    (tmp_path / "late.png").write_bytes((tiny_folder / "1.png").read_bytes())
    path.write_text(
        f"name: tiny\nimages: {json.dumps(images)}\nsnr_db: 12\ncbr: 1/12\nsteps: [0, 1]\n"
        f"models: {tiny_folder / 'tiny'}\n"
    )
    return path


def test_a_dry_run_counts_estimates_and_measures_nothing(call: Run, plan: Path, tmp_path: Path) -> None:
    code, out, _ = call("sweep", plan, "--out", tmp_path / "run", "--dry-run", "--json", "--workers", 2)
    found = json.loads(out)
    assert code == 0 and not (tmp_path / "run").exists()
    assert (found["points"], found["done"], found["sent_pictures"]) == (4, 0, 2)
    assert found["symbols"] == 2 * (64 * 96 * 3 // 12)
    assert found["seconds"] > 0 and found["hours"] == pytest.approx(found["seconds"] / 2 / 3600)
    assert [point["steps"] for point in found["first"]] == [0, 1, 0, 1]
    code, out, _ = call("sweep", plan, "--out", tmp_path / "run", "--dry-run")
    assert code == 0 and "4 points, 0 of them done" in out and "Nothing was measured" in out


def test_a_campaign_from_beginning_to_report(call: Run, plan: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, out, _ = call("sweep", plan, "--out", run)
    lines = out.splitlines()
    assert code == 0 and len(lines) == 5
    assert lines[0].startswith("[1/4] 0.png tiny awgn 12 dB CBR 1/12, 0 steps, repeat 0: ") and "LPIPS" in lines[0]
    assert "4 points (0 were there before), 0 pictures lost, 0 failed" in lines[-1]
    code, out, _ = call("sweep", plan, "--out", run, "--json")
    assert code == 0 and json.loads(out) == {"run": str(run), "points": 4, "done_before": 4, "lost": 0, "failed": 0}
    assert (run / "plan.yaml").read_text() == plan.read_text()
    document = json.loads((run / "run.json").read_text())
    assert {"plan", "pictures_sha256", "models", "channels", "waveform"} <= document["design"].keys()
    assert [len(document["sessions"]), document["sessions"][0]["versions"]["python"]] == [2, sys.version.split()[0]]
    code, out, _ = call("sweep", plan, "--out", run, "--dry-run", "--json")
    assert json.loads(out)["done"] == 4 and json.loads(out)["seconds"] == 0
    code, out, _ = call("report", run)
    assert code == 0 and (run / "report.html").is_file()


def test_a_picture_that_breaks_meanwhile_fails_alone_with_exit_code_1(call: Run, plan: Path, tmp_path: Path) -> None:
    (tmp_path / "late.png").write_bytes(b"no picture any more")
    code, out, _ = call("sweep", plan, "--out", tmp_path / "run")
    assert code == 1 and "2 failed" in out
    with Records(tmp_path / "run") as records:
        assert [row["status"] for row in records.rows()] == ["ok", "ok", "failed", "failed"]


def test_user_errors_are_one_line_and_exit_code_2(call: Run, plan: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(plan.read_text() + "colour: blue\n")
    with Ledger(tmp_path / "busy"):
        cases = [
            ((tmp_path / "bad.yaml", "--out", tmp_path / "a"), "unknown key colour"),
            ((tmp_path / "none.yaml", "--out", tmp_path / "a"), "none.yaml"),
            ((plan, "--out", plan), "cannot write to the folder"),
            ((plan, "--out", tmp_path / "busy"), "in use by process"),
            ((plan, "--out", tmp_path / "b", "--from-recordings", tmp_path), "no folder of a campaign"),
            ((plan, "--out", tmp_path / "b", "--cluster", "tcp://x:1", "--workers", 2), "--workers"),
        ]
        for arguments, words in cases:
            code, out, err = call("sweep", *arguments)
            assert code == 2 and out == "" and words in err
            assert len([line for line in err.splitlines() if line.strip()]) == 1
