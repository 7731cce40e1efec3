"""Times that can be compared: the cases take turns, so that what slows the machine down slows all of them."""

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Times:
    """Seconds of one case, a value per round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The usual one."""
        return float(np.median(self.seconds))

    def summary(self) -> dict[str, Any]:
        """Median and quartiles, ms."""
        low, middle, high = np.percentile(self.seconds, (25, 50, 75)) * 1e3
        return {"median_ms": middle, "quartiles_ms": [low, high], "rounds": len(self.seconds)}


def take_turns(cases: Mapping[Name, Callable[[], object]], rounds: int, told: Callable[[], None]) -> dict[Name, Times]:
    """Runs every case once unmeasured, then all of them in turn, `rounds` times; `told` after each."""
    seconds: dict[Name, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        for name, case in cases.items():
            begun = time.perf_counter()
            case()
            if turn:
                seconds[name].append(time.perf_counter() - begun)
            told()
    return {name: Times(tuple(values)) for name, values in seconds.items()}


def ratio(one: Times, other: Times) -> tuple[float, float, float]:
    """Median and quartiles of one ÷ other, of the same rounds."""
    low, middle, high = np.percentile(np.divide(one.seconds, other.seconds), (25, 50, 75))
    return float(middle), float(low), float(high)
