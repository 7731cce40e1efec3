"""The results to read and to look at: tables, curves over rate and SNR, steps against time, a grid of pictures."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.quality_rows.row import (
    CLASSIC,
    DEEPJSCC,
    DIGITAL,
    DIRECT,
    LPIPS,
    LRISC,
    METHODS,
    Finding,
    Grid,
    Row,
    columns,
    sent,
    values,
)
from benchmarks.quality_rows.steps import CELLS as STEP_CELLS
from benchmarks.quality_rows.store import Store
from benchmarks.quality_rows.trial import Sources, receive
from benchmarks.radio_rows import figures
from flowgraphs.errors import LinkError
from models.codec import parse_cbr
from models.errors import ModelError
from models.image import load_image

TITLES = {
    LRISC: "LRISC",
    DIRECT: "LRISC, direct (no diffusion)",
    DEEPJSCC: "DeepJSCC, ours (MSE)",
    LPIPS: "DeepJSCC, ours (MSE + LPIPS)",
    CLASSIC: "DeepJSCC of 2019, one per cell",
    DIGITAL: "digital, ideal code",
}
MEASURES = {"psnr_db": ("PSNR dB", 2), "ms_ssim": ("MS-SSIM", 4), "lpips": ("LPIPS-Alex", 4), "texture": ("texture", 1)}
CHANNELS = ("symbol", "radio")
_LOOKS = {
    LRISC: (figures.BLUE, "o", "-"),
    DIRECT: (figures.BLUE, "s", ":"),
    DEEPJSCC: (figures.ORANGE, "^", "-"),
    LPIPS: (figures.RED, "D", "-"),
    CLASSIC: (figures.GREEN, "v", "-"),
    DIGITAL: ("black", "", "--"),
}
GRID_CELLS = ((0.0, "1/12"), (10.0, "1/48"), (10.0, "1/24"), (10.0, "1/12"))
GRID_PICTURES = 3
TILE = 192  # pixels


def means(store: Store, grid: Grid) -> list[dict[str, Any]]:
    """Mean of every measure by channel, cell and method, over the pictures that arrived, where there are any."""
    result = []
    for channel in CHANNELS:
        for cell in grid.cells:
            for method in METHODS:
                column = columns(method, [cell], grid.pictures, channel)
                found = {measure: values(store, column, measure)[0] for measure in MEASURES}
                arrived = int(np.isfinite(found["psnr_db"]).sum())
                if arrived:
                    entry: dict[str, Any] = {"channel": channel, "snr_db": cell[0], "cbr": cell[1], "method": method}
                    numbers = {measure: float(np.nanmean(row)) for measure, row in found.items()}
                    spent = float(np.nanmean(values(store, column, "cbr")))
                    result.append({**entry, "pictures": arrived, **numbers, "cbr_measured": spent})
    return result


def properties(rows: dict[str, Row], findings: dict[str, Finding]) -> str:
    """Markdown table of what was asked and what was found."""
    lines = ["| property | asked | measured | passed |", "|-|-|-|-|"]
    words = {True: "yes", False: "**no**", None: "–"}
    for name, finding in findings.items():
        cells = (rows[name].title, rows[name].asked, finding.measured, words[finding.passed])
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def table(entries: list[dict[str, Any]], channel: str) -> str:
    """Markdown table of `means` over one channel."""
    lines = ["| SNR | CBR | method | " + " | ".join(title for title, _ in MEASURES.values()) + " | pictures |"]
    lines.append("|-|-|-|" + "-|" * (len(MEASURES) + 1))
    for entry in entries:
        if entry["channel"] == channel:
            numbers = [f"{entry[measure]:.{digits}f}" for measure, (_, digits) in MEASURES.items()]
            head = (f"{entry['snr_db']:g} dB", entry["cbr"], TITLES[entry["method"]])
            lines.append("| " + " | ".join([*head, *numbers, str(entry["pictures"])]) + " |")
    return "\n".join(lines) + "\n"


def curves(entries: list[dict[str, Any]], grid: Grid, out: Path) -> list[str]:
    """Draws LPIPS and PSNR over the rate at each SNR and over the SNR at each rate; the names of the files."""
    entries = [entry for entry in entries if entry["channel"] == "symbol"]
    names = []
    for measure in ("lpips", "psnr_db"):
        label = MEASURES[measure][0]
        for axis, by, points in (("rate", "snr_db", grid.snrs), ("snr", "cbr", grid.cbrs)):
            name = f"{axis}_{'lpips' if measure == 'lpips' else 'psnr'}.png"
            with figures.figure(out / name, columns=len(points)) as axes:
                for place, value in zip(axes, points, strict=True):
                    for method in METHODS:
                        chosen = [e for e in entries if e["method"] == method and e[by] == value]
                        x = [parse_cbr(e["cbr"]) if axis == "rate" else e["snr_db"] for e in chosen]
                        colour, marker, line = _LOOKS[method]
                        y = [e[measure] for e in chosen]
                        if chosen:
                            place.plot(x, y, line, color=colour, marker=marker, label=TITLES[method], linewidth=1.3)
                    place.set_title(f"SNR {value:g} dB" if by == "snr_db" else f"CBR {value}")
                    place.set(xlabel="CBR" if axis == "rate" else "SNR, dB", ylabel=label)
                    if axis == "rate":
                        place.set_xscale("log", base=2)
                        place.set_xticks([parse_cbr(cbr) for cbr in grid.cbrs], list(grid.cbrs))
                drawn = {str(line.get_label()): line for place in axes for line in place.lines}  # in any panel
                if drawn:
                    axes[0].legend(list(drawn.values()), list(drawn), fontsize=7)
            names.append(name)
    return names


def draw_steps(finding: Finding, out: Path) -> list[str]:
    """Draws LPIPS and PSNR against the time of decoding, by number of steps."""
    if not finding.points:
        return []
    with figures.figure(out / "steps.png", columns=2) as axes:
        for number, (snr, cbr) in enumerate(STEP_CELLS):
            at = f"{snr:g} dB, CBR {cbr}"
            points = [point for point in finding.points if point["at"] == at]
            ladder = [point for point in points if point["steps"] is not None]
            own = next(point for point in points if point["steps"] is None)
            for place, measure in zip(axes, ("lpips", "psnr_db"), strict=True):
                figures.measured(place, [p["ms"] for p in ladder], [p[measure] for p in ladder], at, number)
                place.plot(own["ms"], own[measure], "*", color="black", markersize=11, zorder=4)
                place.set(xlabel="decoding a picture, ms of one core", ylabel=MEASURES[measure][0])
        axes[0].set_title("steps 0, 1, 2, 4, 8; ★ the default")
        axes[0].legend()
    return ["steps.png"]


def picture_grid(grid: Grid, sources: Sources, out: Path) -> list[str]:
    """Middles of a few pictures as every method that has weights delivers them at `GRID_CELLS`, beside the original."""
    cells = [cell for cell in GRID_CELLS if cell in grid.cells]
    chosen = [(cell, picture) for cell in cells for picture in grid.pictures[:GRID_PICTURES]]
    if not chosen:
        return []
    heads = ["original", *(TITLES[method] for method in METHODS)]
    canvas = Image.new("RGB", (len(heads) * (TILE + 4), len(chosen) * (TILE + 18) + 16), "white")
    draw = ImageDraw.Draw(canvas)
    for column, head in enumerate(heads):
        draw.text((column * (TILE + 4) + 2, 2), head, fill="black")
    for row, (cell, picture) in enumerate(chosen):
        top = 16 + row * (TILE + 18)
        draw.text((2, top + TILE + 2), f"{cell[0]:g} dB, CBR {cell[1]}, {picture}", fill="black")
        canvas.paste(_middle(load_image(sources.folder / picture)), (0, top))
        for column, method in enumerate(METHODS, start=1):
            trial = sent(method, picture, cell)
            if trial.model not in sources.models and trial.model != DIGITAL:
                continue
            try:
                canvas.paste(_middle(receive(trial, sources)), (column * (TILE + 4), top))
            except (ModelError, LinkError):
                draw.text((column * (TILE + 4) + 2, top + 2), "did not arrive", fill="red")
    canvas.save(out / "pictures.jpg", quality=88)
    return ["pictures.jpg"]


def _middle(image: np.ndarray) -> Image.Image:
    picture = Image.fromarray(image)
    left, top = ((side - TILE) // 2 for side in picture.size)
    return picture.crop((left, top, left + TILE, top + TILE))
