"""Quality of every method over a folder of pictures, each through the whole radio chain.

    python benchmarks/quality.py --pictures kodak/ --snr-db 0 --snr-db 10 --snr-db 20

Writes quality.json (every picture, the means, and how they were made), quality.md (the table) and, for each operating
point, a sheet of the received pictures. Pictures are done in parallel processes; what failed is listed, not dropped.
"""

import itertools
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from calibration.compare import METHODS, compare, quality_json
from models.codec import parse_cbr
from models.errors import ModelError
from models.image import load_image
from models.pipeline import JsccCodec
from models.weights import verify
from sdr.channel import parse_channel
from sdr.errors import SdrError
from sdr.waveform import DEFAULT

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
TITLES = {"lrisc": "LRISC", "direct": "direct (no diffusion)", "deepjscc": "DeepJSCC", "digital": "digital, ideal code"}


@dataclass(frozen=True)
class Point:
    """One picture at one operating point."""

    picture: Path
    snr_db: float
    cbr: str
    steps: int | None
    channel: str
    seed: int


_codecs: dict[str, JsccCodec] = {}


def _load(models: tuple[str, str], threads: int) -> None:
    torch.set_num_threads(threads)
    for role, model in zip(("lrisc", "deepjscc"), models, strict=True):
        _codecs[role] = JsccCodec.from_pretrained(model)


def measure(point: Point, thumbnails: Path) -> dict[str, Any]:
    """Row of results of one point; saves a small copy of the received picture under `thumbnails`."""
    image = load_image(point.picture)
    channel = replace(parse_channel(point.channel), snr_db=point.snr_db)
    ratio = parse_cbr(point.cbr)
    result = compare(
        _codecs["lrisc"], _codecs["deepjscc"], image, DEFAULT, channel, cbr=ratio, steps=point.steps, seed=point.seed
    )
    received = result.pictures["lrisc"]
    if received is not None:
        small = Image.fromarray(received)
        small.thumbnail((256, 256))
        small.save(thumbnails / f"{_label(point)}_{point.picture.stem}.png")
    return {
        **{key: str(value) if isinstance(value, Path) else value for key, value in asdict(point).items()},
        "picture": point.picture.name,
        "cbr_measured": result.passage.sent.cbr,
        "cbr_total": result.passage.sent.cbr_total,
        "snr_db_estimated": result.passage.received.snr_db,
        "quality": {method: quality_json(measured) for method, measured in result.quality.items()},
    }


def _label(point: Point) -> str:
    steps = "" if point.steps is None else f"_{point.steps}steps"
    return f"{point.snr_db:g}dB_{point.cbr.replace('/', '-')}{steps}"


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean of each measure per operating point and method, over the pictures that have it."""
    cells: dict[tuple[float, str, int | None], list[dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["snr_db"], row["cbr"], row["steps"]), []).append(row)
    result = []
    for (snr_db, cbr, steps), members in cells.items():
        for method in METHODS:
            qualities = [row["quality"][method] for row in members if row["quality"][method]]
            entry: dict[str, Any] = {"snr_db": snr_db, "cbr": cbr, "steps": steps, "method": method}
            entry["pictures"] = len(qualities)
            for key in ("psnr_db", "ms_ssim", "lpips"):
                values = [q[key] for q in qualities if q[key] is not None]
                entry[key] = mean(values) if values else None
            result.append(entry)
    return result


def table(cells: list[dict[str, Any]]) -> str:
    """Markdown table of `means`."""
    lines = ["| SNR | CBR | method | PSNR dB | MS-SSIM | LPIPS-Alex |", "|-|-|-|-|-|-|"]
    for cell in cells:
        numbers = [
            "–" if cell[key] is None else f"{cell[key]:.{digits}f}"
            for key, digits in (("psnr_db", 2), ("ms_ssim", 4), ("lpips", 4))
        ]
        given = cell["method"] == "lrisc" and cell["steps"] is not None
        title = TITLES[cell["method"]] + (f", {cell['steps']} steps" if given else "")
        row = [f"{cell['snr_db']:g} dB", cell["cbr"], title, *numbers]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def sheet(files: list[Path], columns: int = 6) -> Image.Image:
    """Small pictures in a grid."""
    rows = -(-len(files) // columns)
    canvas = Image.new("RGB", (columns * 260, rows * 260), "white")
    for index, file in enumerate(files):
        row, column = divmod(index, columns)
        with Image.open(file) as picture:
            canvas.paste(picture, (column * 260 + 2, row * 260 + 2))
    return canvas


def main(
    pictures: Annotated[Path, typer.Option(help="Folder of pictures.")],
    snr_db: Annotated[list[float], typer.Option(help="May be repeated.")] = [10.0],  # noqa: B006 - typer copies it
    cbr: Annotated[list[str], typer.Option(help="May be repeated.")] = ["1/12"],  # noqa: B006
    steps: Annotated[list[int], typer.Option(help="Denoising steps instead of the default; may be repeated.")] = [],  # noqa: B006
    channel: Annotated[
        str, typer.Option(help="Software channel: a name, or a YAML file like configs/channel_lab.yaml.")
    ] = "awgn",
    model: Annotated[str, typer.Option(help="LRISC weights.")] = "lrisc",
    baseline: Annotated[str, typer.Option(help="DeepJSCC weights.")] = "deepjscc",
    seed: Annotated[int, typer.Option(help="Of channel and diffusion.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes.")] = os.cpu_count() or 1,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("benchmarks/results"),
) -> None:
    """Measure LRISC, its direct decoder, DeepJSCC and the digital baseline over a folder of pictures."""
    files = sorted(path for path in pictures.iterdir() if path.suffix.lower() in SUFFIXES) if pictures.is_dir() else []
    if not files:
        raise SystemExit(f"{pictures}: no pictures found ({', '.join(sorted(SUFFIXES))})")
    try:
        conditions = parse_channel(channel)
    except SdrError as error:
        raise SystemExit(str(error)) from error
    counts: list[int | None] = [*steps] or [None]
    points = [
        Point(file, snr, ratio, count, channel, seed)
        for snr, ratio, count, file in itertools.product(snr_db, cbr, counts, files)
    ]
    thumbnails = out / "thumbnails"
    thumbnails.mkdir(parents=True, exist_ok=True)
    rows, failed, begun = [], [], time.monotonic()
    # Before the run: what is committed meanwhile has no part in it.
    describe = ["git", "describe", "--always", "--abbrev=40", "--dirty"]
    commit = subprocess.run(describe, capture_output=True, text=True).stdout.strip()
    threads = max(1, (os.cpu_count() or 1) // workers)
    with (
        ProcessPoolExecutor(workers, initializer=_load, initargs=((model, baseline), threads)) as pool,
        Progress(console=Console(stderr=True)) as bar,
    ):
        task = bar.add_task("pictures", total=len(points))
        futures = {pool.submit(measure, point, thumbnails): point for point in points}
        for future in as_completed(futures):
            bar.advance(task)
            try:
                rows.append(future.result())
            except (ModelError, RuntimeError) as error:
                failed.append({"picture": futures[future].picture.name, "reason": str(error)})
    rows.sort(key=lambda row: (row["snr_db"], row["cbr"], row["steps"] or 0, row["picture"]))
    cells = means(rows)
    report = {
        "command": " ".join(["python", "benchmarks/quality.py", *(_shown(a, pictures) for a in sys.argv[1:])]),
        "commit": commit,
        "weights_sha256": {"lrisc": verify(model).digest, "deepjscc": verify(baseline).digest},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "workers": workers,
        "channel": asdict(conditions),
        "means": cells,
        "failed": failed,
        "pictures": rows,
    }
    (out / "quality.json").write_text(json.dumps(report, indent=1) + "\n")
    (out / "quality.md").write_text(f"`{report['command']}`, {len(files)} pictures\n\n{table(cells)}")
    for label in sorted({_label(point) for point in points}):
        sheet(sorted(thumbnails.glob(f"{label}_*.png"))).save(out / f"quality_{label}.jpg", quality=85)
    print(table(cells))
    for failure in failed:
        print(f"failed: {failure['picture']}: {failure['reason']}")


def _shown(argument: str, pictures: Path) -> str:
    """The argument as a stranger would write it: the picture folder by its own name."""
    return pictures.name + "/" if argument == str(pictures) else argument


if __name__ == "__main__":
    typer.run(main)
