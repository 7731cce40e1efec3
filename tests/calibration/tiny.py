"""A campaign that takes seconds: untrained networks, small pictures, the whole chain."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from calibration.campaign import Summary, carry_out
from calibration.measure import measure
from calibration.plan import Design, Plan, resolve
from models.image import save_image
from tests.models.small import picture, small_codec

HEIGHT, WIDTH = 64, 96


def make(folder: Path) -> None:
    """Pictures 0.png, 1.png and 2.png, and the models tiny, tiny-2 (another denoiser) and other (another encoder)."""
    for number in range(3):
        save_image(folder / f"{number}.png", picture(HEIGHT, WIDTH, number))
    small_codec(seed=0).save(folder / "tiny", "tiny", 1)
    shutil.copytree(folder / "tiny", folder / "tiny-2")
    codec = small_codec(seed=0)
    assert codec.denoiser is not None
    for parameter in codec.denoiser.parameters():
        parameter.data.mul_(1.5)
    codec.save(folder / "tiny-2", "tiny-2", 1)
    small_codec(adaptive=False, seed=1).save(folder / "other", "other", 0)


def tiny_plan(folder: Path, **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "name": "tiny",
        "images": (str(folder / "*.png"),),
        "snr_db": (0.0, 12.0),
        "cbr": ("1/12",),
        "models": (str(folder / "tiny"), str(folder / "other")),
        "steps": (0, 1),
    }
    return Plan(**{**values, **changes})


def run(design: Design, folder: Path, **options: Any) -> Summary:
    """The campaign in this process, one passage after another."""
    source: Callable[..., Any] = options.pop("source", lambda work: map(measure, work))
    return carry_out(design, folder, source, plan_text="", notes={}, **options)


def tiny_design(folder: Path, **changes: Any) -> Design:
    return resolve(tiny_plan(folder, **changes))
