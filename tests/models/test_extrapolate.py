"""The script that moves a denoiser further."""

import subprocess
import sys
from pathlib import Path

import torch

from models.pipeline import JsccCodec
from scripts.extrapolate import extrapolated
from tests.models.small import small_codec

ROOT = Path(__file__).parents[2]


def test_a_denoiser_is_moved_along_the_line_of_its_last_training(tmp_path: Path) -> None:
    for name, seed in (("before", 0), ("after", 1)):
        small_codec(seed=seed).save(tmp_path / name, name, 2)
    before, after = (JsccCodec.from_pretrained(tmp_path / name) for name in ("before", "after"))
    assert before.denoiser is not None and after.denoiser is not None
    for name, value in extrapolated(before.denoiser, after.denoiser, 1.5).items():
        old, new = before.denoiser.state_dict()[name], after.denoiser.state_dict()[name]
        assert torch.allclose(value, old + 1.5 * (new - old), atol=1e-6)
    command = [sys.executable, "scripts/extrapolate.py", str(tmp_path / "before"), str(tmp_path / "after"), "--by", "1"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    again = JsccCodec.from_pretrained(tmp_path / "after")
    assert again.digest == after.digest and again.card.default_steps == 2 and again.name == "after"


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    small_codec(seed=0).save(tmp_path / "one", "one", 1)
    command = [sys.executable, "scripts/extrapolate.py", str(tmp_path / "missing"), str(tmp_path / "one"), "--by", "1"]
    refused = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stderr.startswith("extrapolate: ") and "Traceback" not in refused.stderr
