"""What a campaign will cost: points, symbols, and time, from what was measured before or is measured now."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from calibration.errors import CampaignError
from calibration.ledger import Records
from calibration.measure import FAILED, measure, open_codec
from calibration.plan import DIGITAL, Design
from calibration.points import Passage, passages
from models.metrics import quality

_WARM = np.zeros((64, 64, 3), np.uint8)


@dataclass(frozen=True)
class Estimate:
    """What lies ahead.

    `symbols` counts complex channel symbols, side information included, of what is really sent. `seconds` is of one
    worker for all that is not done, None where nothing could be timed; `basis` says where it comes from.
    """

    points: int
    done: int
    sent_pictures: int
    symbols: int
    seconds: float | None
    basis: str


def estimate(design: Design, folder: Path, stage: Callable[[str], None] = lambda name: None) -> Estimate:
    """Counts, and times what has not been timed: each model once, on the first picture.

    Args:
        folder: RUN folder; if a campaign was begun there, its times are taken.
        stage: is told what is being timed.
    """
    known, done, basis = _earlier(folder)
    pixels = {picture.name: _pixels(picture.path) for picture in design.pictures}
    typical = sum(pixels.values()) / len(pixels)
    points = sent = symbols = 0
    seconds: float | None = 0.0
    for passage in passages(design):
        points += len(passage.points)
        if passage.weights != DIGITAL:
            sent += 1
            symbols += int(passage.cbr * 3 * pixels[passage.picture.name])
        for point in passage.points:
            if point.index in done or seconds is None:
                continue
            key = (point.model, point.steps)
            if key not in known:
                stage(f"time {point.model}, {point.steps} steps")
                basis = "a timed probe of each model on the first picture"
                known |= _probe(passage, pixels[passage.picture.name] / typical)
            time = known[key]
            seconds = None if time is None else seconds + time * pixels[passage.picture.name] / typical
    return Estimate(points, len(done), sent, symbols, seconds, basis)


def _earlier(folder: Path) -> tuple[dict[tuple[str, int], float | None], set[int], str]:
    try:
        with Records(folder) as records:
            return dict(records.seconds()), {row["point"] for row in records.rows()}, "the rows that are there"
    except CampaignError:
        return {}, set(), "nothing"


def _probe(passage: Passage, size: float) -> dict[tuple[str, int], float | None]:
    """Seconds of a point of each of a passage's models, for a picture of typical size."""
    if passage.weights != DIGITAL:
        open_codec(passage.weights, passage.digest)
    quality(_WARM, _WARM)  # loads the backbone of LPIPS
    rows = measure(passage).rows
    return {
        (row["model"], row["steps"]): None if row["status"] == FAILED else row["seconds"] / max(size, 1e-9)
        for row in rows
    }


def _pixels(path: str) -> int:
    try:
        with Image.open(path) as picture:
            return picture.width * picture.height
    except (OSError, ValueError, Image.DecompressionBombError):
        return 0
