"""Points per hour of a campaign, and what its machinery costs over decoding alone.

    python benchmarks/campaign.py

The same points are measured in three ways in turns: by a bare loop over link and metrics, by the campaign
in this process, and by its pool of processes. Writes campaign.json and campaign.md.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script sees its own folder only

from calibration.campaign import carry_out
from calibration.measure import Outcome, measure, open_codec
from calibration.plan import Design, Plan, resolve
from calibration.points import Passage, passages
from calibration.pool import in_pool
from calibration.provenance import circumstances
from flowgraphs import link
from models.image import load_image
from models.metrics import quality
from sdr.receive import Receiver
from sdr.waveform import DEFAULT


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock on the wall, and of this process's processor time, which other programs leave alone."""

    wall: float
    processor: float


def timed(work: Callable[[], object]) -> Cost:
    """What `work` costs."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - processor)


def bare(design: Design) -> None:
    """The work of a campaign without any of its machinery: no rows, ledger, tables."""
    for passage in passages(design):
        image = load_image(passage.picture.path)
        codec = open_codec(passage.weights, passage.digest)
        rng = np.random.default_rng(passage.seed)
        session = int(rng.integers(1 << 16))
        sent = link.send(codec, image, DEFAULT, cbr=passage.cbr, snr_hint_db=passage.snr_db, session=session)
        samples = link.through_air(sent.transmission, DEFAULT, passage.conditions, rng)
        (received,) = link.listen([samples], Receiver(DEFAULT))
        for point in passage.points:
            quality(image, link.decode(codec, received, steps=point.steps, seed=passage.seed))


def campaign(design: Design, source: Callable[[Iterator[Passage]], Iterator[Outcome]]) -> None:
    """A whole campaign, from the empty folder to its tables."""
    with tempfile.TemporaryDirectory() as folder:
        carry_out(design, Path(folder), source, plan_text="", notes={})


def main(
    images: Annotated[str, typer.Option(help="File, pattern, or skimage.data.NAME.")] = "skimage.data.astronaut",
    model: Annotated[str, typer.Option(help="Weights.")] = "lrisc",
    repeats: Annotated[int, typer.Option(help="Channels of each of two SNRs: so many points, twice.")] = 20,
    rounds: Annotated[int, typer.Option(help="Turns; the median counts.")] = 3,
    workers: Annotated[int, typer.Option(help="Processes of the pool.")] = os.cpu_count() or 1,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("benchmarks/results"),
) -> None:
    """Measure points per hour and overhead."""
    torch.set_num_threads(1)  # as campaigns do
    plan = Plan(
        name="benchmark",
        images=(images,),
        snr_db=(5.0, 15.0),
        cbr=("1/12",),
        models=(model,),
        repeats=repeats,
    )
    design = resolve(plan)
    points = sum(len(passage.points) for passage in passages(design))
    campaign(resolve(replace(plan, repeats=1)), lambda work: map(measure, work))  # loads everything
    costs: dict[str, list[Cost]] = {"bare": [], "campaign": [], "pool": []}
    for _ in range(rounds):  # in turns, so that whatever else the machine does meets all alike
        costs["bare"].append(timed(lambda: bare(design)))
        costs["campaign"].append(timed(lambda: campaign(design, lambda work: map(measure, work))))
        costs["pool"].append(timed(lambda: campaign(design, partial(in_pool, workers=workers))))
    pairs = list(zip(costs["campaign"], costs["bare"], strict=True))
    report: dict[str, Any] = {
        **circumstances(),
        "points": points,
        "workers": workers,
        "seconds": {name: [vars(cost) for cost in several] for name, several in costs.items()},
        "points_per_hour": {
            name: 3600 * points / statistics.median(cost.wall for cost in several) for name, several in costs.items()
        },
        "overhead_percent": {
            "wall": statistics.median(100 * (ours.wall / theirs.wall - 1) for ours, theirs in pairs),
            "processor": statistics.median(100 * (ours.processor / theirs.processor - 1) for ours, theirs in pairs),
        },
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "campaign.json").write_text(json.dumps(report, indent=1) + "\n")
    (out / "campaign.md").write_text(table(report))
    print(table(report))


def table(report: dict[str, Any]) -> str:
    """The results as Markdown."""
    names = {
        "bare": "bare loop of the link, one process",
        "campaign": "campaign, one process",
        "pool": f"campaign, {report['workers']} processes, their start included",
    }
    lines = [f"| {title} | {report['points_per_hour'][name]:.0f} points/h |" for name, title in names.items()]
    return (
        f"`{' '.join(report['command'])}`: {report['points']} points on {report['machine']['processor']}, "
        f"{report['machine']['cores']} cores, commit {report['commit']}\n\n| | |\n|-|-|\n"
        + "\n".join(lines)
        + f"\n| overhead of the machinery by the clock, median of {len(report['seconds']['bare'])} turns | "
        f"{report['overhead_percent']['wall']:.1f} % |\n| the same in processor time | "
        f"{report['overhead_percent']['processor']:.1f} % |\n"
    )


if __name__ == "__main__":
    typer.run(main)
