"""What a region of interest buys, and what lost symbols cost."""

import numpy as np

from benchmarks.quality_rows.row import (
    LRISC,
    Cell,
    Finding,
    Grid,
    Row,
    changed,
    columns,
    compared,
    decibels,
    flat,
    incomplete,
    interval_text,
    percent,
    values,
)
from benchmarks.quality_rows.statistics import difference, reduction
from benchmarks.quality_rows.store import Store
from benchmarks.quality_rows.trial import Trial

ROI: Cell = (10.0, "1/24")
LOSS: Cell = (10.0, "1/12")
LOSSES = {0.1: -1.5, 0.2: -3.0, 0.3: -4.5}  # dB of PSNR that may be lost
SEAM_ALLOWED = 1.1
"""Jumps of the error across the edges of positions, relative to those elsewhere: no edge shows where they are alike."""


def _roi_sides(grid: Grid) -> tuple[list[list[Trial]], list[list[Trial]]]:
    asked = [[Trial(LRISC, picture, *ROI, roi=True) for picture in grid.masked]]
    return asked, changed(asked, roi=False)


def _roi(grid: Grid, store: Store) -> Finding:
    asked, plain = _roi_sides(grid)
    inside = compared(store, [ROI], asked, plain, "psnr_inside_db", difference)
    crop = compared(store, [ROI], asked, plain, "lpips_inside", reduction)
    whole = compared(store, [ROI], asked, plain, "psnr_db", difference)
    if not inside.complete:
        return incomplete(store, flat(asked, plain))
    spent = values(store, asked, "cbr").mean() / values(store, plain, "cbr").mean() - 1
    measured = f"inside {decibels(inside.mean)} {interval_text(inside.interval, decibels)}, LPIPS of its crop "
    measured += f"{percent(-crop.mean)}, whole picture {decibels(whole.mean)}; CBR {percent(spent)}"
    passed = inside.mean >= 1.5 and crop.mean >= 0.15 and whole.mean >= -0.8
    points = inside.points("dB of PSNR inside") + crop.points("relative reduction of LPIPS inside")
    return Finding(measured, passed, points + whole.points("dB of PSNR of the whole picture"))


def _loss_sides(grid: Grid) -> tuple[list[list[Trial]], list[list[Trial]]]:
    whole = columns(LRISC, [LOSS], grid.pictures)
    return [changed(whole, loss=loss)[0] for loss in LOSSES], whole * len(LOSSES)


def _loss(grid: Grid, store: Store) -> Finding:
    lost, whole = _loss_sides(grid)
    comparison = compared(store, [LOSS] * len(LOSSES), lost, whole, "psnr_db", difference)
    if not comparison.complete:
        return incomplete(store, flat(lost, whole))
    seams = values(store, lost, "seam").mean(axis=1)
    without = values(store, whole[:1], "seam").mean()
    parts = [f"{100 * loss:.0f} %: {decibels(value)}" for loss, value in zip(LOSSES, comparison.cells, strict=True)]
    measured = f"{', '.join(parts)}; the error jumps at the edges of positions {np.max(seams):.2f} times as much as "
    measured += f"elsewhere at most ({without:.2f} without losses)"
    points = comparison.points("dB of PSNR, with losses − without")
    for point, loss, edge in zip(points, LOSSES, seams, strict=False):
        point |= {"at": f"{100 * loss:.0f} % of the symbols lost", "seam": float(edge)}
    passed = all(value >= allowed for value, allowed in zip(comparison.cells, LOSSES.values(), strict=True))
    return Finding(measured, bool(passed and np.max(seams) <= SEAM_ALLOWED), points)


ROWS = {
    "roi": Row(
        "region of interest, pictures with masks, CBR 1/24, 10 dB, equal CBR",
        "inside ≥ +1.5 dB of PSNR and LPIPS of its crop ≥ 15 % lower, whole picture ≥ −0.8 dB",
        (LRISC,),
        lambda grid: flat(*_roi_sides(grid)),
        _roi,
    ),
    "loss": Row(
        "loss of 10, 20 and 30 % of the symbols, CBR 1/12, 10 dB",
        "at most −1.5, −3 and −4.5 dB of PSNR, no seam",
        (LRISC,),
        lambda grid: flat(*_loss_sides(grid)),
        _loss,
    ),
}
