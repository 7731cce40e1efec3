"""The .grc files as grcc compiles them."""

import shutil
from pathlib import Path

import pytest

from tests.flowgraphs.helpers import ROOT, run

GRAPHS = ("transmit", "receive", "loopback", "transmit_gui", "receive_gui", "loopback_gui")


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the compiled programs; one call compiles all, for most of its time goes into GNU Radio's own blocks."""
    grcc = shutil.which("grcc")
    assert grcc, "grcc is missing: make setup"
    folder = tmp_path_factory.mktemp("grcc")
    done = run(grcc, "-o", folder, *(ROOT / "flowgraphs" / f"{name}.grc" for name in GRAPHS))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
