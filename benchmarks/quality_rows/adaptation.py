"""One model for every SNR: what it makes of a better channel, beside specialists, and told something wrong."""

from benchmarks.quality_rows.row import (
    ALONE_SNRS,
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
)
from benchmarks.quality_rows.statistics import difference, reduction
from benchmarks.quality_rows.store import Store
from benchmarks.quality_rows.trial import Trial

RISE: list[Cell] = [(0.0, "1/6"), (20.0, "1/6")]
ALONE: list[Cell] = [(snr, cbr) for snr in ALONE_SNRS for cbr in ("1/24", "1/12")]
WRONG: list[Cell] = [(snr, "1/12") for snr in (0.0, 5.0, 10.0, 15.0, 20.0)]
FIXED_HINT_DB = 10.0
"""What a sender without knowledge takes: the middle of the range, and the default of `lrisc send`."""


def _rise_plan(grid: Grid) -> list[Trial]:
    return flat(columns(LRISC, RISE, grid.pictures))


def _rise(grid: Grid, store: Store) -> Finding:
    low, high = columns(LRISC, RISE, grid.pictures)
    comparison = compared(store, RISE[1:], [high], [low], "psnr_db", difference)
    if not comparison.complete:
        return incomplete(store, _rise_plan(grid))
    measured = f"{decibels(comparison.mean)} {interval_text(comparison.interval, decibels)}"
    return Finding(measured, comparison.mean >= 4.5, comparison.points("dB of PSNR, 20 dB − 0 dB"))


def _alone_sides(grid: Grid) -> tuple[list[list[Trial]], list[list[Trial]]]:
    one = columns(LRISC, ALONE, grid.pictures)
    alone = [changed([column], model=f"{LRISC}-{snr:g}db")[0] for (snr, _), column in zip(ALONE, one, strict=True)]
    return one, alone


def _alone(grid: Grid, store: Store) -> Finding:
    one, alone = _alone_sides(grid)
    psnr = compared(store, ALONE, one, alone, "psnr_db", difference)
    lpips = compared(store, ALONE, one, alone, "lpips", reduction)
    if not psnr.complete:
        return incomplete(store, flat(one, alone))
    worst_psnr, worst_lpips = int(psnr.cells.argmin()), int(lpips.cells.argmin())
    measured = f"PSNR {decibels(psnr.mean)}, worst {decibels(psnr.cells[worst_psnr])} at {psnr.labels[worst_psnr]}; "
    measured += f"LPIPS {percent(-lpips.mean)}, worst {percent(-lpips.cells[worst_lpips])} at "
    measured += lpips.labels[worst_lpips]
    passed = psnr.cells.min() >= -0.3 and lpips.cells.min() >= -0.04
    points = psnr.points("dB of PSNR, one model − single-SNR model")
    return Finding(measured, bool(passed), points + lpips.points("relative reduction of LPIPS by the one model"))


def _told_sides(grid: Grid) -> tuple[list[list[Trial]], list[list[Trial]]]:
    right = columns(LRISC, WRONG, grid.pictures)
    wrong = [
        changed([column], told_db=snr + error)[0]
        for error in (-3.0, 3.0)
        for (snr, _), column in zip(WRONG, right, strict=True)
    ]
    return wrong, [*right, *right]


def _told(grid: Grid, store: Store) -> Finding:
    wrong, right = _told_sides(grid)
    comparison = compared(store, WRONG + WRONG, wrong, right, "psnr_db", difference)
    if not comparison.complete:
        return incomplete(store, flat(wrong, right))
    labels = [f"{snr:g} dB told {snr + error:g} dB" for error in (-3, 3) for snr, _ in WRONG]
    worst = int(comparison.cells.argmin())
    points = comparison.points("dB of PSNR, told wrong − told right")
    for point, label in zip(points, labels, strict=False):
        point["at"] = label
    measured = f"{decibels(comparison.mean)} in the mean, worst {decibels(comparison.cells[worst])} at {labels[worst]}"
    return Finding(measured, bool(comparison.cells.min() >= -0.3), points)


def _hint_sides(grid: Grid) -> dict[str, list[list[Trial]]]:
    right = columns(LRISC, WRONG, grid.pictures)
    hints = {"fixed": [FIXED_HINT_DB] * len(WRONG)}
    hints |= {f"{error:+g} dB": [snr + error for snr, _ in WRONG] for error in (-10.0, 10.0)}
    sides = {"right": right}
    for name, told in hints.items():
        # A hint that happens to be right is the same trial.
        sides[name] = [
            column if hint == snr else changed([column], hint_db=hint)[0]
            for (snr, _), hint, column in zip(WRONG, told, right, strict=True)
        ]
    return sides


def _hint(grid: Grid, store: Store) -> Finding:
    sides = _hint_sides(grid)
    gain = compared(store, WRONG, sides["right"], sides["fixed"], "psnr_db", difference)
    costs = {
        name: compared(store, WRONG, sides["fixed"], sides[name], "psnr_db", difference)
        for name in ("-10 dB", "+10 dB")
    }
    if not gain.complete or not all(cost.complete for cost in costs.values()):
        return incomplete(store, flat(*sides.values()))
    parts = [f"a hint {name} wrong costs {cost.mean:.2f} dB" for name, cost in costs.items()]
    measured = f"the right hint gains {gain.mean:.2f} dB over a fixed one of {FIXED_HINT_DB:g} dB; " + ", ".join(parts)
    points = gain.points("dB of PSNR that the right hint gains over a fixed one")
    for name, cost in costs.items():
        points += cost.points(f"dB of PSNR that a hint {name} wrong costs against a fixed one")
    return Finding(measured.replace("-10", "−10"), all(c.mean <= gain.mean for c in costs.values()), points)


ROWS = {
    "rise": Row(
        "SNR adaptation: PSNR from 0 to 20 dB at CBR 1/6",
        "≥ +4.5 dB",
        (LRISC,),
        _rise_plan,
        _rise,
    ),
    "single-snr": Row(
        "one model against models trained on for one SNR alone, CBR 1/24 and 1/12",
        "within 0.3 dB of PSNR and 4 % of LPIPS in every cell",
        (LRISC, *(f"{LRISC}-{snr:g}db" for snr in ALONE_SNRS)),
        lambda grid: flat(*_alone_sides(grid)),
        _alone,
    ),
    "wrong-snr": Row(
        "the receiver is told an SNR that is 3 dB wrong, scalar and every noise variance, CBR 1/12",
        "costs at most 0.3 dB of PSNR at any SNR",
        (LRISC,),
        lambda grid: flat(*_told_sides(grid)),
        _told,
    ),
    "wrong-hint": Row(
        "the sender is told an SNR that is 10 dB wrong, CBR 1/12, mean over SNR 0…20 dB",
        "never costs more, against a fixed hint, than the right one gains",
        (LRISC,),
        lambda grid: flat(*_hint_sides(grid).values()),
        _hint,
    ),
}
