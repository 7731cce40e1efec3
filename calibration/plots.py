"""Figures of a campaign: what each model did against SNR and against what was spent, for a page and for a paper."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from calibration.statistics import Cell, Rows, Series, interval

# Okabe and Ito's colours, told apart by colour-blind readers; marker and line say the same without colour.
_LOOKS = (
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "--"),
    ("#009E73", "^", "-."),
    ("#CC79A7", "D", (0, (4, 1, 1, 1, 1, 1))),
    ("#E69F00", "v", (0, (6, 2))),
    ("#56B4E9", "P", ":"),
    ("#000000", "X", (0, (1, 1))),
    ("#7F7F7F", "*", (0, (3, 3))),
)
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.handlelength": 3.0,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "pdf.fonttype": 42,  # text stays text in a paper
    "svg.fonttype": "path",
    "svg.hashsalt": "lrisc",  # the same page for the same numbers
}
MEASURES = {
    "psnr_db": "PSNR, dB",
    "ms_ssim": "MS-SSIM",
    "lpips": "LPIPS (lower is better)",
    "psnr_roi_db": "PSNR inside the region, dB",
    "lpips_roi": "LPIPS of the region (lower is better)",
}
_WIDTH_IN = 4.0


@dataclass(frozen=True)
class Chart:
    """A figure with its file's name, and what it shows in words, for those who can't see it."""

    name: str
    figure: Figure
    description: str

    def render(self, kind: str) -> bytes:
        """As svg, png or pdf."""
        file = io.BytesIO()
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        with mpl.rc_context(_STYLE):
            self.figure.savefig(file, format=kind, dpi=200, metadata=metadata)
        return file.getvalue()


def ratio_text(ratio: float) -> str:
    """1/12 for 0.08333…, 0.07 for what is no such fraction."""
    return f"1/{round(1 / ratio)}" if abs(round(1 / ratio) * ratio - 1) < 1e-6 else f"{ratio:.4g}"


def against_snr(rows: Rows, channel: str, roi: str | None, ratio: float, measure: str) -> Chart | None:
    """One measure against the SNR that the receiver measured, one curve for each series; None without any."""

    def place(cell: Cell) -> bool:
        return cell[:3] == (channel, roi, ratio)

    def abscissa(series: Series, cell: Cell) -> float:
        measured = rows.values(series, cell, "snr_db_estimated")
        return float(np.mean(list(measured.values()))) if measured else cell[3]

    title = f"{MEASURES[measure].partition(' (')[0].partition(',')[0]} at CBR {ratio_text(ratio)}"
    name = f"{measure}_{_slug(channel, roi)}_cbr_{ratio_text(ratio).replace('/', '-')}"
    return _curves(rows, place, abscissa, measure, ("measured SNR, dB", title, name))


def against_cbr(rows: Rows, channel: str, roi: str | None, snr_db: float, measure: str) -> Chart | None:
    """One measure against the channel bandwidth ratio that was really spent."""

    def place(cell: Cell) -> bool:
        return (cell[0], cell[1], cell[3]) == (channel, roi, snr_db)

    def abscissa(series: Series, cell: Cell) -> float:
        spent = rows.values(series, cell, "cbr")
        return float(np.mean(list(spent.values()))) if spent else cell[2]

    title = f"{MEASURES[measure].partition(' (')[0].partition(',')[0]} at {snr_db:g} dB"
    name = f"{measure}_{_slug(channel, roi)}_snr_{snr_db:g}"
    chart = _curves(rows, place, abscissa, measure, ("channel bandwidth ratio", title, name))
    if chart is not None:
        axes = chart.figure.axes[0]
        axes.set_xscale("log", base=2)
        ratios = sorted(rows.axis(2))
        axes.set_xticks(ratios, [ratio_text(ratio) for ratio in ratios])
        axes.minorticks_off()
    return chart


def snr_estimates(rows: Rows) -> Chart | None:
    """The receiver's estimate less the true SNR, for every channel."""
    with _axes("true SNR, dB", "estimated − true SNR, dB", "Estimated against true SNR") as (figure, axes):
        for number, channel in enumerate(rows.axis(0)):
            points = []
            for snr_db in sorted(rows.axis(3)):
                values = [
                    value - snr_db
                    for series in rows.series
                    for cell in rows.cells
                    if cell[0] == channel and cell[3] == snr_db
                    for value in rows.values(series, cell, "snr_db_estimated").values()
                ]
                if values:
                    points.append((snr_db, *np.quantile(values, [0.5, 0.05, 0.95])))
            if points:
                snr_db, middle, low, high = np.array(points).T
                _draw(axes, number, snr_db, middle, low, high, channel)
        axes.axhline(0, color="#444444", linewidth=0.8)
        if not axes.containers and len(axes.lines) < 2:
            return None
        _legend(figure, axes, rows.axis(0))
    words = "Median of the receiver's SNR estimate less the true SNR, bars from 5 to 95 % of the pictures."
    return Chart("snr_estimate", figure, words)


def packet_loss(rows: Rows) -> Chart | None:
    """Share of packets that never came, by channel."""
    with _axes("true SNR, dB", "packets lost, %", "Packet loss") as (figure, axes):
        drawn = False
        for number, channel in enumerate(rows.axis(0)):
            points = []
            for snr_db in sorted(rows.axis(3)):
                counts = np.zeros(2)
                for series in rows.series:
                    for cell in rows.cells:
                        if cell[0] == channel and cell[3] == snr_db:
                            sent = rows.values(series, cell, "packets_sent")
                            came = rows.values(series, cell, "packets_received")
                            counts += sum(sent.values()), sum(came.values())
                if counts[0]:
                    points.append((snr_db, 100 * (1 - counts[1] / counts[0])))
            if points:
                snr_db, share = np.array(points).T
                _draw(axes, number, snr_db, share, share, share, channel)
                drawn = True
        if not drawn:
            return None
        top = max(1.0, axes.get_ylim()[1])
        axes.set_ylim(-0.04 * top, top)
        _legend(figure, axes, rows.axis(0))
    return Chart("packet_loss", figure, "Share of the packets sent that the receiver did not get, of all models.")


def _curves(
    rows: Rows,
    place: Callable[[Cell], bool],
    abscissa: Callable[[Series, Cell], float],
    measure: str,
    words: tuple[str, str, str],
) -> Chart | None:
    across, title, name = words
    drawn = []
    with _axes(across, MEASURES[measure], title) as (figure, axes):
        for number, series in enumerate(rows.series):
            points = []
            for cell in filter(place, rows.cells):
                if values := rows.values(series, cell, measure):
                    found = interval(values.values())
                    points.append((abscissa(series, cell), found.mean, found.low, found.high))
            if points:
                x, mean, low, high = np.array(sorted(points)).T
                _draw(axes, number, x, mean, low, high, rows.label(series))
                ends = f"{mean[0]:.3g} at {x[0]:.3g} to {mean[-1]:.3g} at {x[-1]:.3g}"
                drawn.append(f"{rows.label(series)} from {ends}")
        if not drawn:
            return None
        _legend(figure, axes, [rows.label(series) for series in rows.series])
    return Chart(name, figure, f"{title}, {MEASURES[measure]} against {across}: {'; '.join(drawn)}.")


@contextmanager
def _axes(across: str, up: str, title: str) -> Iterator[tuple[Figure, Axes]]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_IN, 2.9), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set(xlabel=across, ylabel=up)
        axes.set_title(title)
        yield figure, axes


def _draw(
    axes: Axes, number: int, x: np.ndarray, mean: np.ndarray, low: np.ndarray, high: np.ndarray, label: str
) -> None:
    colour, marker, line = _LOOKS[number % len(_LOOKS)]
    errors = np.nan_to_num(np.stack([mean - low, high - mean]).clip(min=0))
    axes.errorbar(
        x, mean, errors, color=colour, marker=marker, linestyle=line, label=label, capsize=2.5, elinewidth=1, zorder=3
    )


def _legend(figure: Figure, axes: Axes, labels_in_all: list[str]) -> None:
    """Below the axes, where it hides nothing; the figure has room for all labels, to be as high as its neighbours."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 2 if max(map(len, labels_in_all)) < 24 else 1
    lines = -(-len(labels_in_all) // columns)
    figure.set_size_inches(_WIDTH_IN, 2.7 + 0.19 * lines)
    labels += [" "] * (len(labels_in_all) - len(labels))
    handles += [Line2D([], [], linestyle="")] * (len(labels) - len(handles))
    figure.legend(handles, labels, loc="outside lower left", ncols=columns)


def _slug(channel: str, roi: str | None) -> str:
    text = channel if roi is None else f"{channel}_roi_{roi}"
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in text)
