"""What a row of the table is: what it wants sent, what it makes of the results, and what it needs for that."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from benchmarks.quality_rows.statistics import Statistic, paired_interval
from benchmarks.quality_rows.store import Store
from benchmarks.quality_rows.trial import Trial
from models.codec import parse_cbr

LRISC, DIRECT, DEEPJSCC, LPIPS, DIGITAL = "lrisc", "direct", "deepjscc", "deepjscc-lpips", "digital"
CLASSIC = "deepjscc-2019"
CLASSIC_CELLS = tuple((snr, cbr) for snr in (0.0, 10.0, 20.0) for cbr in ("1/24", "1/12"))
ALONE_SNRS = (0.0, 10.0, 20.0)
METHODS = (LRISC, DIRECT, DEEPJSCC, LPIPS, CLASSIC, DIGITAL)
ROLES = (
    *(LRISC, DEEPJSCC, LPIPS),
    *(f"{CLASSIC}-{snr:g}db-{cbr[2:]}" for snr, cbr in CLASSIC_CELLS),
    *(f"{LRISC}-{snr:g}db" for snr in ALONE_SNRS),
)
"""Everything that has weights."""

Cell = tuple[float, str]  # SNR in dB, CBR


@dataclass(frozen=True)
class Grid:
    """Over what is measured: the cells of the table and the pictures, in order."""

    snrs: tuple[float, ...]
    cbrs: tuple[str, ...]
    pictures: tuple[str, ...]
    masked: tuple[str, ...] = ()

    @property
    def cells(self) -> list[Cell]:
        """All of them, by SNR and then CBR."""
        return [(snr, cbr) for snr in self.snrs for cbr in self.cbrs]

    @property
    def classic_cells(self) -> list[Cell]:
        """Those that the networks of 2019 were trained for."""
        return [cell for cell in self.cells if cell in CLASSIC_CELLS]


@dataclass(frozen=True)
class Finding:
    """One line of the table. `passed` is None where it could not be measured; `points` hold the numbers."""

    measured: str
    passed: bool | None
    points: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A property: `plan` says what to send over a grid, `judge` what came of it; `needs` are roles of `ROLES`."""

    title: str
    asked: str
    needs: tuple[str, ...]
    plan: Callable[[Grid], list[Trial]]
    judge: Callable[[Grid, Store], Finding]


def sent(method: str, picture: str, cell: Cell, channel: str = "symbol") -> Trial:
    """A method's trial at a cell of the table."""
    snr_db, cbr = cell
    if method == DIRECT:
        return Trial(LRISC, picture, snr_db, cbr, steps=0, channel=channel)
    role = f"{CLASSIC}-{snr_db:g}db-{cbr[2:]}" if method == CLASSIC else method
    return Trial(role, picture, snr_db, cbr, channel=channel)


def values(store: Store, columns: list[list[Trial]], measure: str) -> Float64[np.ndarray, "cells pictures"]:
    """A measure of trials by cell and picture, NaN where there is none."""
    found = [[store.get(trial) for trial in column] for column in columns]
    return np.array([[np.nan if m is None else m.get(measure, np.nan) for m in column] for column in found], float)


@dataclass(frozen=True)
class Comparison:
    """Two sides of a comparison, trial by trial: by cell, then by picture."""

    labels: list[str]
    ours: Float64[np.ndarray, "cells pictures"]
    theirs: Float64[np.ndarray, "cells pictures"]
    statistic: Statistic

    @property
    def complete(self) -> bool:
        """Whether something arrived in every trial of both."""
        return bool(self.ours.size and np.isfinite(self.ours).all() and np.isfinite(self.theirs).all())

    @property
    def cells(self) -> Float64[np.ndarray, "cells"]:
        """The statistic of each cell."""
        return np.asarray(self.statistic(self.ours, self.theirs), float)

    @property
    def mean(self) -> float:
        """Over the cells."""
        return float(self.cells.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the mean, over the choice of pictures."""
        return paired_interval(self.statistic, self.ours, self.theirs)

    def points(self, unit: str) -> list[dict[str, Any]]:
        """Each cell and its own interval, and the mean with its."""
        result: list[dict[str, Any]] = []
        for index, (label, value) in enumerate(zip(self.labels, self.cells, strict=True)):
            part = slice(index, index + 1)
            interval = paired_interval(self.statistic, self.ours[part], self.theirs[part])
            result.append({"at": label, "value": float(value), "interval": interval, "unit": unit})
        return [*result, {"at": "mean", "value": self.mean, "interval": self.interval, "unit": unit}]


def compared(
    store: Store, cells: list[Cell], ours: list[list[Trial]], theirs: list[list[Trial]], measure: str, how: Statistic
) -> Comparison:
    """A comparison of two sets of trials at the same cells."""
    labels = [f"{snr:g} dB, CBR {cbr}" for snr, cbr in cells]
    return Comparison(labels, values(store, ours, measure), values(store, theirs, measure), how)


def columns(method: str, cells: list[Cell], pictures: tuple[str, ...], channel: str = "symbol") -> list[list[Trial]]:
    """A method's trials by cell and picture."""
    return [[sent(method, picture, cell, channel) for picture in pictures] for cell in cells]


def changed(columns: list[list[Trial]], **changes: Any) -> list[list[Trial]]:
    """The same trials under other circumstances."""
    return [[replace(trial, **changes) for trial in column] for column in columns]


def flat(*sides: list[list[Trial]]) -> list[Trial]:
    """All trials of several sides."""
    return [trial for side in sides for column in side for trial in column]


def incomplete(store: Store, trials: list[Trial]) -> Finding:
    """What stands in the table where trials are missing or nothing arrived."""
    errors = {error for trial in trials if (error := store.error(trial))}
    absent = sum(store.get(trial) is None and store.error(trial) is None for trial in trials)
    if not trials:
        return Finding("not measured: none of its cells is in the grid", None)
    if errors:
        failed = sum(store.error(trial) is not None for trial in trials)
        return Finding(f"{failed} of {len(trials)} did not arrive: {min(errors)}", False)
    return Finding(f"not measured: {absent} of {len(trials)} trials are missing", None)


def low_rate(cell: Cell) -> bool:
    """CBR 1/24 and less."""
    return parse_cbr(cell[1]) <= 1 / 24


def percent(value: float) -> str:
    """A share with its sign: −12.3 %."""
    return f"{100 * value:+.1f} %".replace("-", "−")


def decibels(value: float) -> str:
    """A difference with its sign: +1.23 dB."""
    return f"{value:+.2f} dB".replace("-", "−")


def interval_text(interval: tuple[float, float], how: Callable[[float], str]) -> str:
    """[low, high], 95 %."""
    return f"[{how(interval[0])}, {how(interval[1])}]"
