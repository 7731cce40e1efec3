"""The pictures of a campaign's report: what was sent and what each model made of it, whole and in detail."""

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from calibration.ledger import Records
from calibration.measure import bounding_box
from calibration.plots import ratio_text
from calibration.points import SHOWN_PICTURES
from calibration.statistics import Rows, Series
from models.errors import ModelError
from models.roi_mask import load_roi

_LONGEST = 480  # pixels of a whole picture on the page
_DETAIL = 224  # pixels a side of a detail, at the picture's own size


@dataclass(frozen=True, eq=False)
class Shown:
    """One picture of a model, as two JPEGs. `row` is None for the original."""

    label: str
    whole: bytes
    detail: bytes
    row: dict[str, Any] | None


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One photograph with all that was made of it; `place` says where the detail is from."""

    name: str
    place: str
    shown: list[Shown]


def gallery(records: Records, rows: Rows) -> tuple[str, list[Exhibit]]:
    """What to show, and the conditions it was received under: those in the middle of the plan."""
    channels, regions, ratios, snrs = (rows.axis(index) for index in range(4))
    if not rows.cells:
        return "", []
    roi = next((roi for roi in regions if roi is not None), None)
    cell = (channels[0], roi, sorted(ratios)[len(ratios) // 2], sorted(snrs)[(len(snrs) - 1) // 2])
    wanted: dict[str, list[dict[str, Any]]] = {}
    for row in records.rows():
        if row["repeat"] == 0 and (row["channel"], row["roi"], row["cbr_asked"], row["snr_db"]) == cell:
            wanted.setdefault(row["image"], []).append(row)
    exhibits = []
    for number, name in enumerate(records.design["plan"]["images"][:SHOWN_PICTURES]):
        original = records.original(number)
        if original is None or name not in wanted:
            continue
        picture = _open(original)
        box, place = _detail(picture, roi)
        shown = [Shown("original", _jpeg(picture, _LONGEST), _jpeg(picture[box]), None)]
        for row in wanted[name]:
            if (received := records.picture(row["point"])) is not None:
                pixels = _open(received)
                label = rows.label(Series(row["model"], row["steps_asked"]))
                shown.append(Shown(label, _jpeg(pixels, _LONGEST), _jpeg(pixels[box]), row))
        exhibits.append(Exhibit(name, place, shown))
    return f"{cell[0]}, {cell[3]:g} dB, CBR {ratio_text(cell[2])}", exhibits


def _detail(picture: UInt8[np.ndarray, "h w 3"], roi: str | None) -> tuple[tuple[slice, slice], str]:
    """Where to look closely: into the region of interest, or else the middle."""
    height, width = picture.shape[:2]
    centre, place = (height // 2, width // 2), "the middle"
    if roi is not None:
        with contextlib.suppress(ModelError):  # a mask that is no longer there
            region = load_roi(roi, picture)
            if (region >= 0.5).any():
                rows, columns = bounding_box(region)
                centre, place = ((rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2), "the region"
    spans = []
    for middle, side in zip(centre, (height, width), strict=True):
        start = min(max(middle - _DETAIL // 2, 0), max(side - _DETAIL, 0))
        spans.append(slice(start, start + _DETAIL))
    return (spans[0], spans[1]), place


def _open(png: bytes) -> UInt8[np.ndarray, "h w 3"]:
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"))


def _jpeg(pixels: UInt8[np.ndarray, "h w 3"], longest: int | None = None) -> bytes:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if longest is not None:
        picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=90, subsampling=0)
    return file.getvalue()
