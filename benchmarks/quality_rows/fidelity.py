"""PSNR: of the direct picture against DeepJSCC, what diffusion costs, and the radio against ideal symbols."""

from benchmarks.quality_rows.row import (
    DEEPJSCC,
    DIRECT,
    LRISC,
    Comparison,
    Finding,
    Grid,
    Row,
    columns,
    compared,
    decibels,
    flat,
    incomplete,
    interval_text,
)
from benchmarks.quality_rows.statistics import difference
from benchmarks.quality_rows.store import Store
from benchmarks.quality_rows.trial import Trial


def gained(grid: Grid, store: Store, ours: list[list[Trial]], theirs: list[list[Trial]]) -> Comparison:
    """PSNR of ours − theirs over the cells of the table."""
    return compared(store, grid.cells, ours, theirs, "psnr_db", difference)


def text(comparison: Comparison) -> str:
    """Mean, interval and worst cell."""
    worst = int(comparison.cells.argmin())
    interval = interval_text(comparison.interval, decibels)
    return (
        f"{decibels(comparison.mean)} {interval}; worst {decibels(comparison.cells[worst])} at "
        + (comparison.labels[worst])
    )


def _sides(grid: Grid, ours: str, theirs: str) -> tuple[list[list[Trial]], list[list[Trial]]]:
    return columns(ours, grid.cells, grid.pictures), columns(theirs, grid.cells, grid.pictures)


def _direct(grid: Grid, store: Store) -> Finding:
    sides = _sides(grid, DIRECT, DEEPJSCC)
    comparison = gained(grid, store, *sides)
    if not comparison.complete:
        return incomplete(store, flat(*sides))
    return Finding(text(comparison), comparison.mean >= 0, comparison.points("dB of PSNR"))


def _diffused(grid: Grid, store: Store) -> Finding:
    sides = _sides(grid, LRISC, DIRECT)
    comparison = gained(grid, store, *sides)
    if not comparison.complete:
        return incomplete(store, flat(*sides))
    return Finding(text(comparison), bool(comparison.cells.min() >= -1.5), comparison.points("dB of PSNR"))


def _radio_sides(grid: Grid) -> tuple[list[list[Trial]], list[list[Trial]]]:
    """The direct decoder: what the air costs, without the chance that diffusion adds."""
    return tuple(columns(DIRECT, grid.cells, grid.pictures, channel) for channel in ("radio", "symbol"))  # type: ignore[return-value]


def _radio(grid: Grid, store: Store) -> Finding:
    sides = _radio_sides(grid)
    comparison = gained(grid, store, *sides)
    if not comparison.complete:
        return incomplete(store, flat(*sides))
    return Finding(text(comparison), bool(comparison.cells.min() >= -0.5), comparison.points("dB of PSNR"))


ROWS = {
    "direct-psnr": Row(
        "PSNR of the direct picture against our DeepJSCC",
        "not below in the mean",
        (LRISC, DEEPJSCC),
        lambda grid: flat(*_sides(grid, DIRECT, DEEPJSCC)),
        _direct,
    ),
    "diffused-psnr": Row(
        "PSNR of the diffused picture against the direct one",
        "at most 1.5 dB lower in every cell",
        (LRISC,),
        lambda grid: flat(*_sides(grid, LRISC, DIRECT)),
        _diffused,
    ),
    "radio": Row(
        "the whole radio chain (noise, carrier and clock offset, timing) against ideal symbols, direct picture",
        "at most 0.5 dB of PSNR lower in every cell",
        (LRISC,),
        lambda grid: flat(*_radio_sides(grid)),
        _radio,
    ),
}
