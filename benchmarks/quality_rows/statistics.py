"""Means over pictures and cells, and how far chance in the choice of pictures can move them."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float64

RESAMPLES = 2000
CONFIDENCE = 0.95

Values = Float64[np.ndarray, "cells pictures"]
Statistic = Callable[[Values, Values], Float[np.ndarray, "cells"]]


def reduction(ours: Values, theirs: Values) -> Float[np.ndarray, "cells"]:
    """Relative reduction of the mean over the pictures, of each cell: 0.3 is 30 % lower than theirs."""
    result: np.ndarray = 1 - ours.mean(axis=1) / theirs.mean(axis=1)
    return result


def difference(ours: Values, theirs: Values) -> Float[np.ndarray, "cells"]:
    """Mean of ours − theirs over the pictures, of each cell."""
    result: np.ndarray = (ours - theirs).mean(axis=1)
    return result


def paired_interval(statistic: Statistic, ours: Values, theirs: Values) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over cells of a statistic; pictures are drawn again, alike for both sides.

    Percentile bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13). What one picture
    has in all cells stays together, since cells of one picture are not independent.
    """
    rng = np.random.default_rng(0)
    count = ours.shape[1]
    draws = [rng.integers(count, size=count) for _ in range(RESAMPLES)]
    values = [statistic(ours[:, draw], theirs[:, draw]).mean() for draw in draws]
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
