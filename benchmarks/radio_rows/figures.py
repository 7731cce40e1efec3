"""One look for all plots: labelled axes, theory drawn dashed in black, colours that colour-blind readers tell apart."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

# Okabe and Ito, "Color universal design", 2008; each with a marker of its own.
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE)
MARKERS = ("o", "s", "^", "D", "v")
_STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "figure.dpi": 110,
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.fontsize": 9,
    "legend.framealpha": 0.9,
    "lines.markersize": 5,
}


@contextmanager
def figure(path: Path, columns: int = 1) -> Iterator[Sequence[Axes]]:
    """Axes side by side, saved as `path` on leaving."""
    with plt.rc_context(_STYLE):
        drawing, axes = plt.subplots(1, columns, figsize=(6.4 if columns == 1 else 5.4 * columns, 4.2), squeeze=False)
        try:
            yield axes[0]
            drawing.tight_layout()
            temporary = path.with_name(f".{path.name}.part")
            drawing.savefig(temporary, format="png")
            temporary.replace(path)
        finally:
            plt.close(drawing)


def theory(axes: Axes, x: Sequence[float], y: Sequence[float], label: str, style: str = "--") -> None:
    """A bound or a theoretical curve."""
    axes.plot(x, y, style, color="black", linewidth=1.3, label=label, zorder=1)


def limit(axes: Axes, x: Sequence[float], y: Sequence[float], label: str = "asked") -> None:
    """What was asked for."""
    axes.plot(x, y, ":", color=RED, linewidth=1.6, label=label, zorder=1)


def measured(
    axes: Axes,
    x: Sequence[float],
    y: Sequence[float],
    label: str,
    series: int = 0,
    intervals: Sequence[tuple[float, float] | None] | None = None,
) -> None:
    """Measured values, with 95 % intervals as bars."""
    colour, marker = COLOURS[series], MARKERS[series]
    axes.plot(x, y, marker=marker, color=colour, linewidth=1.3, label=label, zorder=3)
    for place, interval in zip(x, intervals or [], strict=False):
        if interval is not None:
            axes.plot([place, place], interval, color=colour, linewidth=1.2, zorder=2)


def rates(
    axes: Axes,
    x: Sequence[float],
    y: Sequence[float],
    label: str,
    series: int = 0,
    intervals: Sequence[tuple[float, float] | None] | None = None,
) -> None:
    """Probabilities on a logarithmic axis; where nothing was counted, a hollow mark shows the interval's upper end."""
    seen = [index for index, rate in enumerate(y) if rate > 0]
    bars = [intervals[index] for index in seen] if intervals else None
    measured(axes, [x[index] for index in seen], [y[index] for index in seen], label, series, bars)
    for place, rate, interval in zip(x, y, intervals or [], strict=False):
        if rate == 0 and interval is not None:
            axes.plot(place, interval[1], "v", color=COLOURS[series], markerfacecolor="white", zorder=3)


def legend_below(axes: Axes) -> None:
    """A legend under the plot, for plots that have no empty corner."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=2)
