"""`lrisc sweep`: a campaign of measurements from a plan."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from commands.common import Json, UsageError, prepare_folder, terminal, working

if TYPE_CHECKING:
    from calibration.campaign import Source
    from calibration.estimate import Estimate
    from calibration.plan import Design
    from calibration.points import Passage

EPILOG = "Example: lrisc sweep configs/campaign_example.yaml --out runs/example, then lrisc report runs/example"
_SHOWN_POINTS = 8


def sweep(
    plan: Annotated[Path, typer.Argument(help="Campaign as YAML, like configs/campaign_example.yaml.")],
    out: Annotated[Path, typer.Option(help="RUN folder; one that was begun is gone on with.")],
    dry_run: Annotated[bool, typer.Option(help="Check everything, count, estimate the time, and measure nothing.")] = (
        False
    ),
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, one core each.", show_default="as many as cores")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Scheduler of a Dask cluster, tcp://HOST:8786, instead.", show_default=False)
    ] = None,
    from_recordings: Annotated[
        Path | None,
        typer.Option(help="RUN folder of a campaign with keep_recordings: decode what it heard.", show_default=False),
    ] = None,
    transmit: Annotated[
        bool, typer.Option(help="Of a plan with stations: let its sender transmit, in the bands that its file allows.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure every combination of pictures, SNR, CBR, channels, regions, steps and models that a plan names.

    Each row is on disk before it is printed. Stopped in whatever way, the same command goes on, and the results are
    those of a run that was never stopped. Writes ledger.sqlite, results.csv, results.parquet, plan.yaml and run.json.
    A picture that does not arrive, or cannot be read, is a row that says so. Exit code 1 if any row failed.
    With stations in the plan, over two radios, one passage after another.
    """
    if cluster is not None and workers is not None:
        raise UsageError("--workers counts processes of this machine; a --cluster has its own: give one of the two")
    with working("check the plan") as stage:
        from calibration.plan import load_plan, resolve

        design = resolve(load_plan(plan))
        if dry_run:
            if from_recordings is not None:
                from calibration.points import passages
                from calibration.recordings import replayed

                for _ in replayed(passages(design), from_recordings):
                    pass  # raises where a recording is missing
            _dry_run(design, out, workers or os.cpu_count() or 1, stage, as_json)
            return
        from calibration.campaign import carry_out

        over_air = design.stations is not None and from_recordings is None
        if over_air and not transmit:
            raise UsageError("this plan has stations, and nothing is sent unless told to: add --transmit")
        if over_air and (cluster is not None or workers is not None):
            raise UsageError("two radios are one air, for one process: leave out --workers and --cluster")
        if transmit and not over_air:
            raise UsageError("--transmit is for plans with stations, which this is not")
    prepare_folder(out)
    shown = _Rows(as_json)
    with _source(design if over_air else None, cluster, workers or os.cpu_count() or 1) as (source, notes), shown.bar:
        summary = carry_out(
            design,
            out,
            source,
            plan_text=plan.read_text(encoding="utf-8"),
            notes=notes,
            recorded=from_recordings,
            show=shown,
        )
    if as_json:
        print(json.dumps({"run": str(out), **vars(summary)}))
    else:
        print(
            f"{summary.points} points ({summary.done_before} were there before), {summary.lost} pictures lost, "
            f"{summary.failed} failed; results in {out / 'results.csv'}; next: lrisc report {out}"
        )
    if summary.failed:
        raise typer.Exit(1)


@contextmanager
def _source(over_air: "Design | None", cluster: str | None, workers: int) -> "Iterator[tuple[Source, dict[str, Any]]]":
    """What does the work, and what the ledger notes of it."""
    if over_air is not None:
        from calibration.radios import RadioAir, over_radios

        assert over_air.stations is not None
        with RadioAir(over_air.stations) as air:
            yield partial(over_radios, air=air), {"workers": 1, "radios": air.describe()}
    elif cluster is not None:
        from calibration.cluster import on_cluster

        yield partial(on_cluster, address=cluster), {"workers": cluster}
    else:
        from calibration.pool import in_pool

        yield partial(in_pool, workers=workers), {"workers": workers}


class _Rows:
    """Prints rows as they come, above a bar."""

    def __init__(self, as_json: bool) -> None:
        self._quiet = as_json
        columns: tuple[ProgressColumn, ...] = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        columns += (TimeElapsedColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal)
        self._task = self.bar.add_task("points", total=None)

    def __call__(self, row: dict[str, Any], done: int, points: int) -> None:
        self.bar.update(self._task, completed=done, total=points)
        if not self._quiet:
            print(f"[{done}/{points}] {describe(row)}", flush=True)


def describe(row: dict[str, Any]) -> str:
    """One row as a line."""
    region = f", region {row['roi']}" if row["roi"] else ""
    where = (
        f"{row['image']} {row['model']} {row['channel']} {row['snr_db']:g} dB CBR 1/{1 / row['cbr_asked']:.4g}"
        f"{region}, {row['steps']} steps, repeat {row['repeat']}"
    )
    if row["status"] != "ok":
        return f"{where}: {row['status']}: {row['reason']}"
    perceptual = "" if row["lpips"] is None else f", LPIPS {row['lpips']:.3f}"
    return f"{where}: {row['psnr_db']:.2f} dB, MS-SSIM {row['ms_ssim']:.3f}{perceptual}"


def _dry_run(design: "Design", out: Path, workers: int, stage: Any, as_json: bool) -> None:
    from itertools import islice

    from calibration.estimate import estimate
    from calibration.points import passages

    expected = estimate(design, out, stage)
    hours = None if expected.seconds is None else expected.seconds / workers / 3600
    first = list(islice(_points(passages(design)), _SHOWN_POINTS))
    if as_json:
        print(json.dumps({**vars(expected), "workers": workers, "hours": hours, "first": first}))
        return
    table = Table(title=f"{design.plan.name}: the first of {expected.points:,} points")
    for heading in first[0]:
        table.add_column(heading, justify="left" if heading in ("image", "model", "channel", "roi") else "right")
    for point in first:
        table.add_row(*("–" if value is None else f"{value}" for value in point.values()))
    Console().print(table)
    print(_costs(expected, workers, hours))


def _costs(expected: "Estimate", workers: int, hours: float | None) -> str:
    time = "unknown: nothing could be timed" if hours is None else _duration(hours)
    return (
        f"{expected.points:,} points, {expected.done:,} of them done; {expected.sent_pictures:,} pictures sent, "
        f"{expected.symbols:,} channel symbols. Time with {workers} workers: {time} (from {expected.basis}). "
        "Nothing was measured."
    )


def _duration(hours: float) -> str:
    if hours < 1 / 60:
        return "less than a minute"
    return f"{60 * hours:.0f} min" if hours < 2 else f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.1f} days"


def _points(work: "Iterator[Passage]") -> Iterator[dict[str, Any]]:
    for passage in work:
        for point in passage.points:
            yield {
                "point": point.index,
                "image": passage.picture.name,
                "model": point.model,
                "snr_db": passage.snr_db,
                "cbr": f"1/{1 / passage.cbr:.4g}",
                "channel": passage.channel,
                "roi": passage.roi,
                "steps": point.steps,
                "repeat": passage.repeat,
                "seed": passage.seed,
            }
