"""What a step of a calibration is, and what several of them need."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from calibration.bench import Bench
from sdr.devices.tuning import GainRange
from sdr.errors import SdrError

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#7F7F7F"
_POINTS = 14
Each = Callable[[Iterable[Any]], Iterator[Any]]
"""Goes through the points of a measurement and shows how far it has come."""


class Peer(Enum):
    """Whether a step has a second radio send."""

    NONE, OPTIONAL, NEEDED = range(3)


@dataclass(frozen=True)
class Outcome:
    """What a step found."""

    fields: dict[str, Any]
    """Of `sdr.calibrated.CalibrationFile`."""
    summary: str
    """One line for people."""
    draw: Callable[[Figure], None]
    """Its plot."""


@dataclass(frozen=True)
class Step:
    """One thing to measure."""

    name: str
    what: str
    """What is done, one line for people."""
    peer: Peer
    run: Callable[[Bench, Each], Outcome]
    """Raises SdrError for what makes the measurement worthless."""


def receive_ladder(
    ranges: Mapping[str, GainRange], fixed: Mapping[str, float], totals_db: Sequence[float] | None = None
) -> list[dict[str, float]]:
    """Settings of all elements for total gains that rise; None: from the lowest to the highest in about 14 strides.

    The driver's first element is raised first. One with two settings is an amplifier, which nobody switches on unasked:
    it stays as `fixed` has it.
    """
    moved = {name: span for name, span in ranges.items() if not _is_switch(span)}
    still = {name: fixed[name] for name in ranges if name not in moved}
    least = sum(span.minimum_db for span in moved.values()) + sum(still.values())
    if totals_db is None:
        most = sum(span.maximum_db for span in moved.values()) + sum(still.values())
        stride = _stride(most - least, max((span.step_db for span in moved.values()), default=1.0))
        totals_db = [*np.arange(least, most, stride).tolist(), most]
    ladder: list[dict[str, float]] = []
    for total_db in totals_db:
        left_db, gains = total_db - least, dict(still)
        for name, span in moved.items():
            step_db = span.step_db or 1.0
            raised_db = min(span.maximum_db - span.minimum_db, step_db * (left_db // step_db))
            gains[name] = span.minimum_db + raised_db
            left_db -= raised_db
        if gains not in ladder:
            ladder.append(gains)
    return ladder


def transmit_ladder(bench: Bench) -> tuple[str, list[float]]:
    """The sender's element with the widest range, and about 14 settings from its lowest to the highest allowed.

    Raises SdrError if none is allowed.
    """
    ranges, base = bench.transmit_ranges(), bench.transmit_gains
    name = max(ranges, key=lambda one: ranges[one].maximum_db - ranges[one].minimum_db)
    span = ranges[name]
    count = int((span.maximum_db - span.minimum_db) / (span.step_db or 1.0)) + 1
    settings = [span.minimum_db + index * (span.step_db or 1.0) for index in range(count)]
    allowed = [gain_db for gain_db in settings if bench.allowed({**base, name: gain_db})]
    if not allowed:
        raise SdrError(f"station '{bench.peer.name}' allows no setting of {name} with its other transmitting gains")
    stride = max(1, round(len(allowed) / _POINTS))
    return name, [*allowed[:-1:stride], allowed[-1]]


def db(power: float) -> float:
    """In decibels; a power of 0 is −200."""
    return float(10 * np.log10(max(power, 1e-20)))


def _is_switch(span: GainRange) -> bool:
    return span.step_db >= span.maximum_db - span.minimum_db


def _stride(range_db: float, step_db: float) -> float:
    step_db = step_db or 1.0
    return max(1.0, round(range_db / _POINTS / step_db)) * step_db
