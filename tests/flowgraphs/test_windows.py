"""The flowgraphs with windows, on a display of software: what comes through is seen there."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from models.image import load_image
from tests.conftest import missing
from tests.flowgraphs.helpers import environment


def share_of(file: Path, colour: tuple[int, int, int]) -> float:
    """Of the window's area, in about that colour."""
    pixels = load_image(file).astype(int)
    return float(np.mean(np.all(np.abs(pixels - colour) < 40, axis=2)))


def test_windows_show_pictures_constellation_channel_and_snr(tmp_path: Path) -> None:
    """The decoder's stand-in paints grey pictures; lines of curves and points of headers are where the style says."""
    if shutil.which("xvfb-run") is None:
        missing("xvfb-run is missing: make setup")
    words = [
        "xvfb-run",
        "-a",
        "-s",
        "-screen 0 1600x1100x24",
        sys.executable,
        str(Path(__file__).parent / "windows.py"),
    ]
    done = subprocess.run(
        [*words, str(tmp_path)], capture_output=True, text=True, timeout=200, env=environment(), check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    grey, curve, header = (128, 128, 128), (79, 195, 247), (255, 183, 77)
    for name in ("loopback", "receive"):
        file = tmp_path / f"flowgraph_{name}.jpg"
        assert share_of(file, grey) > 0.05 and share_of(file, curve) > 3e-4 and share_of(file, header) > 3e-4, name
    assert share_of(tmp_path / "flowgraph_transmit.jpg", curve) > 3e-4
    assert load_image(tmp_path / "flowgraph_transmit.jpg").shape == (960, 1500, 3)
