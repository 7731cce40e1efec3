"""Denoising steps: quality against time, and whether the model's own choice is the knee."""

from benchmarks.quality_rows.row import LRISC, Cell, Finding, Grid, Row, changed, columns, flat, incomplete, values
from benchmarks.quality_rows.store import Store
from benchmarks.quality_rows.trial import Trial

CELLS: list[Cell] = [(0.0, "1/24"), (10.0, "1/24"), (10.0, "1/12"), (20.0, "1/6")]
COUNTS = (0, 1, 2, 4, 8)
KNEE = 0.01
"""More steps are worth their time while they lower LPIPS by more than this share."""


def sides(grid: Grid) -> dict[int | None, list[list[Trial]]]:
    """Trials by number of steps; None is the model's own choice."""
    own = columns(LRISC, CELLS, grid.pictures)
    return {None: own} | {count: changed(own, steps=count) for count in COUNTS}


def knee(lpips: list[float]) -> int:
    """Of LPIPS by `COUNTS`, the index of the fewest steps whose LPIPS is within `KNEE` of the lowest."""
    return next(index for index, value in enumerate(lpips) if value <= min(lpips) * (1 + KNEE))


def _judge(grid: Grid, store: Store) -> Finding:
    found = sides(grid)
    quality = {count: values(store, trials, "lpips").mean(axis=1) for count, trials in found.items()}
    if not all((lpips == lpips).all() and lpips.size for lpips in quality.values()):
        return incomplete(store, flat(*found.values()))
    psnr = {count: values(store, trials, "psnr_db").mean(axis=1) for count, trials in found.items()}
    times = {count: values(store, trials, "decode_core_ms").mean(axis=1) for count, trials in found.items()}
    points, parts, passed = [], [], True
    for index, (snr, cbr) in enumerate(CELLS):
        at = f"{snr:g} dB, CBR {cbr}"
        for count in found:
            numbers = {"lpips": quality[count][index], "psnr_db": psnr[count][index], "ms": times[count][index]}
            points.append({"at": at, "steps": count, **{name: float(value) for name, value in numbers.items()}})
        best = COUNTS[knee([float(quality[count][index]) for count in COUNTS])]
        own = float(quality[None][index])
        within = own <= float(quality[best][index]) * (1 + KNEE)
        passed = passed and within
        parts.append(f"{at}: knee at {best} steps, LPIPS {quality[best][index]:.3f}, the default's {own:.3f}")
    return Finding("; ".join(parts), passed, points)


ROWS = {
    "steps": Row(
        "denoising steps 0, 1, 2, 4, 8: quality against milliseconds",
        "drawn; the default, chosen on other pictures, is within 1 % of the knee's LPIPS",
        (LRISC,),
        lambda grid: flat(*sides(grid).values()),
        _judge,
    ),
}
