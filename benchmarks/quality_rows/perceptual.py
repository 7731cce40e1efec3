"""LPIPS against every other method, and what of it is the diffusion's."""

import numpy as np

from benchmarks.quality_rows.row import (
    CLASSIC,
    CLASSIC_CELLS,
    DEEPJSCC,
    DIGITAL,
    DIRECT,
    LPIPS,
    LRISC,
    Cell,
    Comparison,
    Finding,
    Grid,
    Row,
    columns,
    compared,
    flat,
    incomplete,
    interval_text,
    low_rate,
    percent,
)
from benchmarks.quality_rows.statistics import reduction
from benchmarks.quality_rows.store import Store
from benchmarks.quality_rows.trial import Trial


def lowered(store: Store, grid: Grid, cells: list[Cell], against: str, measure: str = "lpips") -> Comparison:
    """Relative reduction of a distance by LRISC against another method."""
    ours, theirs = (columns(method, cells, grid.pictures) for method in (LRISC, against))
    return compared(store, cells, ours, theirs, measure, reduction)


def text(comparison: Comparison) -> str:
    """Mean, interval, worst and best cell."""
    cells = comparison.cells
    worst, best = int(np.argmin(cells)), int(np.argmax(cells))
    spread = f"worst {percent(-cells[worst])} at {comparison.labels[worst]}"
    spread += f", best {percent(-cells[best])} at {comparison.labels[best]}"
    low, high = comparison.interval
    return f"{percent(-comparison.mean)} {interval_text((-high, -low), percent)}; {spread}"


def _plan(methods: tuple[str, ...], grid: Grid, cells: list[Cell]) -> list[Trial]:
    return flat(*(columns(method, cells, grid.pictures) for method in methods))


def _classic(grid: Grid, store: Store) -> Finding:
    cells = grid.classic_cells
    comparison = lowered(store, grid, cells, CLASSIC)
    if not comparison.complete:
        return incomplete(store, _plan((LRISC, CLASSIC), grid, cells))
    return Finding(text(comparison), comparison.mean >= 0.433, comparison.points("relative reduction of LPIPS-Alex"))


def _deepjscc(grid: Grid, store: Store) -> Finding:
    comparison = lowered(store, grid, grid.cells, DEEPJSCC)
    if not comparison.complete:
        return incomplete(store, _plan((LRISC, DEEPJSCC), grid, grid.cells))
    passed = comparison.mean >= 0.30 and comparison.cells.min() >= 0
    return Finding(text(comparison), bool(passed), comparison.points("relative reduction of LPIPS-Alex"))


def _loss_alone(grid: Grid, store: Store) -> Finding:
    comparison = lowered(store, grid, grid.cells, LPIPS)
    if not comparison.complete:
        return incomplete(store, _plan((LRISC, LPIPS), grid, grid.cells))
    low = [value for cell, value in zip(grid.cells, comparison.cells, strict=True) if low_rate(cell)]
    passed = comparison.mean > 0 and all(value > 0 for value in low)
    return Finding(text(comparison), bool(passed), comparison.points("relative reduction of LPIPS-Alex"))


def _diffusion(grid: Grid, store: Store) -> Finding:
    measures = {"lpips": "LPIPS-Alex", "texture": "texture distance"}
    found = {name: lowered(store, grid, grid.cells, DIRECT, measure) for measure, name in measures.items()}
    if not all(comparison.complete for comparison in found.values()):
        return incomplete(store, _plan((LRISC, DIRECT), grid, grid.cells))
    points = [point for name, c in found.items() for point in c.points(f"relative reduction of {name}")]
    parts = [f"{name} {text(comparison)}" for name, comparison in found.items()]
    passed = all(comparison.mean > 0 for comparison in found.values())
    return Finding("; ".join(parts), passed, points)


def _digital(grid: Grid, store: Store) -> Finding:
    comparison = lowered(store, grid, grid.cells, DIGITAL)
    if not comparison.complete:
        return incomplete(store, _plan((LRISC, DIGITAL), grid, grid.cells))
    low = [value for (snr, _), value in zip(grid.cells, comparison.cells, strict=True) if snr <= 10]
    won = sum(value > 0 for value in low)
    measured = f"lower in {won} of {len(low)} cells with SNR ≤ 10 dB; {text(comparison)}"
    return Finding(measured, won == len(low), comparison.points("relative reduction of LPIPS-Alex"))


ROWS = {
    "classic": Row(
        "LPIPS-Alex against DeepJSCC of 2019, trained for each cell by itself",
        "mean relative reduction ≥ 43.3 % over SNR {0, 10, 20} × CBR {1/24, 1/12}",
        (LRISC, *(f"{CLASSIC}-{snr:g}db-{cbr[2:]}" for snr, cbr in CLASSIC_CELLS)),
        lambda grid: _plan((LRISC, CLASSIC), grid, grid.classic_cells),
        _classic,
    ),
    "deepjscc": Row(
        "LPIPS-Alex against our DeepJSCC (equal size, SNR-aware, MSE)",
        "mean relative reduction ≥ 30 %, no cell worse",
        (LRISC, DEEPJSCC),
        lambda grid: _plan((LRISC, DEEPJSCC), grid, grid.cells),
        _deepjscc,
    ),
    "deepjscc-lpips": Row(
        "LPIPS-Alex against DeepJSCC with the same perceptual loss and no diffusion",
        "lower in the mean and in every cell with CBR ≤ 1/24",
        (LRISC, LPIPS),
        lambda grid: _plan((LRISC, LPIPS), grid, grid.cells),
        _loss_alone,
    ),
    "diffusion": Row(
        "what diffusion adds to the direct picture, LPIPS-Alex and texture distance",
        "stated apart, with a perceptual measure that training never saw: both lower in the mean",
        (LRISC,),
        lambda grid: _plan((LRISC, DIRECT), grid, grid.cells),
        _diffusion,
    ),
    "digital": Row(
        "LPIPS-Alex against the best of JPEG, WebP and AVIF at ideal capacity",
        "lower in every cell with SNR ≤ 10 dB",
        (LRISC,),
        lambda grid: _plan((LRISC, DIGITAL), grid, grid.cells),
        _digital,
    ),
}
