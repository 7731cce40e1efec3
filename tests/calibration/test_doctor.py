"""The doctor reports what is there; what is broken becomes a line, and nothing leaks to stdout."""

import importlib.metadata
from pathlib import Path

import pytest

from calibration import doctor
from calibration.doctor import Check


def probe(source: str) -> Check:
    return doctor._run(doctor._Probe("part", source, "mend part"))


def test_this_machine_can_run_the_project(capfd: pytest.CaptureFixture[str]) -> None:
    checks = {check.name: check for check in doctor.diagnose()}
    assert capfd.readouterr().out == ""
    for name in ("Python", "Python packages", "GNU Radio", "SoapySDR", "radios", "torch", "Pillow", "write access"):
        assert checks[name].ok, checks[name]
    assert checks["GNU Radio"].found.startswith("3.10")
    for check in checks.values():
        assert check.ok or check.remedy
        assert "\n" not in check.found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("import os; os.abort()", "crashed (signal 6)"),
        ("raise SystemExit(3)", "failed without a word"),
        ("print('half of it'); raise SystemExit(1)", "half of it"),
    ],
)
def test_a_broken_library_is_a_line(source: str, found: str) -> None:
    assert probe(source) == Check("part", False, found, "mend part")


def test_a_library_that_hangs_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_TIMEOUT_S", 0.2)
    assert "no answer" in probe("import time; time.sleep(60)").found


def test_chatter_on_stdout_does_not_hide_the_answer() -> None:
    assert probe("print('[INFO] a driver says hello'); print('two radios')") == Check("part", True, "two radios")


def test_gnuradio_built_against_another_numpy_is_told_as_that() -> None:
    check = doctor._gnuradio(Check("GNU Radio", False, "ImportError: initialization failed", "make setup"))
    assert importlib.metadata.version("numpy") in check.found
    assert check.remedy is not None and "pip install 'numpy" in check.remedy


def test_unmet_requirements_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = ["numpy>=99", "no-such-thing>=1", "torch>=2", 'ruff>=99; extra == "dev"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: declared)
    assert doctor.unmet_requirements() == ["numpy>=99", "no-such-thing>=1"]
    assert doctor.unmet_requirements(["dev"])[-1] == "ruff>=99"


def test_a_missing_backbone_is_told_with_the_command_that_fetches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    check = doctor._lpips()
    assert check.ok
    assert check.remedy is not None and "load_state_dict_from_url" in check.remedy


def test_a_folder_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc")
    assert not doctor._write_access().ok
