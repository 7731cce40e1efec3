"""What a campaign's rows say: means over pictures with their uncertainty, and models compared pair by pair."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

_RESAMPLES = 2000
_LEAST_PICTURES = 3
_CONFIDENCE = 0.95

Cell = tuple[str, str | None, float, float]
"""Channel, region, CBR asked and SNR of a point."""


@dataclass(frozen=True)
class Series:
    """What one model did at one number of steps of the plan; None is its own, which may depend on the cell."""

    model: str
    steps: int | None


@dataclass(frozen=True)
class Interval:
    """A mean and the interval that covers it with 95 % confidence; NaN where there are too few pictures to tell."""

    mean: float
    low: float
    high: float


class Rows:
    """The rows of a campaign by series and cell, repeats of one picture averaged; failed rows are left out."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        sums: dict[tuple[Series, Cell, str], dict[str, list[float]]] = {}
        self.lost: dict[tuple[Series, Cell], int] = {}
        self.total = self.failed = 0
        self.reasons: dict[str, int] = {}
        for row in rows:
            self.total += 1
            if row["status"] == "failed":
                self.failed += 1
                self.reasons[row["reason"]] = self.reasons.get(row["reason"], 0) + 1
                continue
            series = Series(row["model"], row["steps_asked"])
            cell = (row["channel"], row["roi"], row["cbr_asked"], row["snr_db"])
            self.lost[series, cell] = self.lost.get((series, cell), 0) + (row["status"] == "lost")
            values = sums.setdefault((series, cell, row["image"]), {})
            for name, value in row.items():
                if isinstance(value, float | int) and np.isfinite(value):
                    values.setdefault(name, []).append(value)
        self._means: dict[tuple[Series, Cell], dict[str, dict[str, float]]] = {}
        for (series, cell, image), values in sums.items():
            means = {name: float(np.mean(several)) for name, several in values.items()}
            self._means.setdefault((series, cell), {})[image] = means
        self.series = list(dict.fromkeys(series for series, _ in self._means))
        self.cells = list(dict.fromkeys(cell for _, cell in self._means))

    def values(self, series: Series, cell: Cell, name: str) -> dict[str, float]:
        """A column by picture, of those that have it."""
        found = self._means.get((series, cell), {})
        return {image: values[name] for image, values in found.items() if name in values}

    def label(self, series: Series) -> str:
        """What figures call a series: its steps only where one model has several."""
        alone = sum(other.model == series.model for other in self.series) == 1
        steps = "its own steps" if series.steps is None else f"{series.steps} step{'s' * (series.steps != 1)}"
        return series.model if alone else f"{series.model}, {steps}"

    def axis(self, index: int) -> list[Any]:
        """The values of one of a cell's coordinates, in the order of the plan."""
        return list(dict.fromkeys(cell[index] for cell in self.cells))


def interval(values: Iterable[float]) -> Interval:
    """Mean over pictures, and its bootstrap percentile interval (Efron and Tibshirani 1993, chapter 13)."""
    numbers = np.array(list(values))
    if not numbers.size:
        return Interval(np.nan, np.nan, np.nan)
    return _interval(float(numbers.mean()), numbers[_resampled(numbers.size)].mean(axis=1), numbers.size)


@dataclass(frozen=True)
class Reduction:
    """How far one series lies below a reference in LPIPS.

    Attributes:
        mean: of the cells' relative reductions of mean LPIPS, in percent.
        worst: the cell in which it reduces least, in percent, and `best`.
        psnr_db: mean difference of PSNR, dB.
        cells, pictures: that both have.
    """

    series: Series
    reference: Series
    mean: Interval
    worst: float
    best: float
    psnr_db: float
    cells: int
    pictures: int


def reduction(rows: Rows, series: Series, reference: Series) -> Reduction | None:
    """`series` against `reference` over the same channels; None where they have no cell in common.

    Pictures are resampled for all cells together, because what is hard in one cell is hard in the others.
    """
    pairs = {}
    for cell in rows.cells:
        ours, theirs = rows.values(series, cell, "lpips"), rows.values(reference, cell, "lpips")
        if common := sorted(ours.keys() & theirs.keys()):
            pairs[cell] = {image: (ours[image], theirs[image]) for image in common}
    if not pairs:
        return None
    images = sorted(set.intersection(*(set(pair) for pair in pairs.values())))
    if not images:
        return None
    table = np.array([[pair[image] for image in images] for pair in pairs.values()])  # cells, pictures, two

    def percent(chosen: Float64[np.ndarray, "cells n two"]) -> Float64[np.ndarray, "cells"]:
        means = chosen.mean(axis=1)
        result: np.ndarray = 100 * (1 - means[:, 0] / means[:, 1])
        return result

    resampled = np.array([percent(table[:, index]).mean() for index in _resampled(len(images))])
    by_cell = percent(table)
    differences = [
        np.mean([ours[image] - theirs[image] for image in images if image in ours and image in theirs])
        for cell in pairs
        if (ours := rows.values(series, cell, "psnr_db")) and (theirs := rows.values(reference, cell, "psnr_db"))
    ]
    return Reduction(
        series,
        reference,
        _interval(float(by_cell.mean()), resampled, len(images)),
        float(by_cell.min()),
        float(by_cell.max()),
        float(np.mean(differences)),
        len(pairs),
        len(images),
    )


def _resampled(size: int) -> np.ndarray:
    """Indices of pictures drawn with replacement, the same for every series."""
    return np.random.default_rng(0).integers(0, size, (_RESAMPLES, size))


def _interval(mean: float, resampled: Float64[np.ndarray, "n"], pictures: int) -> Interval:
    if pictures < _LEAST_PICTURES:
        return Interval(mean, np.nan, np.nan)
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(mean, float(low), float(high))
