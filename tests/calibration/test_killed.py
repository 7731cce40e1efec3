"""Killed at any moment, a campaign goes on to the results of one that never was."""

import json
import subprocess
import sys
from pathlib import Path

from calibration.ledger import Records
from tests.calibration.tiny import run, tiny_design

ROOT = Path(__file__).parents[2]


def test_sigkill_at_random_moments_changes_no_row_and_repeats_none(tiny_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.calibration.killed", str(tiny_folder), str(tmp_path / "killed"), "8", "1"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    shown = [point for points in json.loads(ended.stdout) for point in points]
    assert len(set(shown)) == len(shown), "a point was done twice"
    summary = run(tiny_design(tiny_folder, images=(str(tiny_folder / "0.png"),), repeats=4), tmp_path / "whole")
    assert set(shown) <= set(range(summary.points))
    for name in ("results.csv", "results.parquet"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with Records(tmp_path / "killed") as records:
        assert [row["point"] for row in records.rows()] == list(range(summary.points))
        assert len(records.sessions) >= 2
