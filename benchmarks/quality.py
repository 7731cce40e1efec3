"""The quality of LRISC beside every baseline: every property that is asked of the model, measured in one command.

    python benchmarks/quality.py --pictures kodak/ --masked roi-val/ --runs runs/     # everything
    python benchmarks/quality.py --pictures kodak/ --quick                            # a look
    python benchmarks/quality.py --pictures kodak/ --only deepjscc --limit 4          # one row on four pictures

Results are kept picture by picture in OUT/trials.jsonl: interrupt it whenever you want, the same command goes on, and
what was measured with the same weights and pictures is never measured again. Rows whose models are not there are
reported as not measured. Writes quality.json, quality.md, curves over rate and SNR, steps against time, and a grid of
pictures.
"""

import json
import multiprocessing
import os
import shlex
import sys
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, replace
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of this process and the workers, which share the cores out themselves
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script sees its own folder only

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.quality_rows import adaptation, fidelity, perceptual, render, robustness, steps
from benchmarks.quality_rows.row import CLASSIC, DIGITAL, METHODS, ROLES, Finding, Grid, Row, columns, flat
from benchmarks.quality_rows.store import Store
from benchmarks.quality_rows.trial import Sources, Trial, mask_path, prepare, run
from benchmarks.radio import provenance
from models.checkpoint import replace_text
from models.data import SUFFIXES
from models.errors import ModelError
from models.weights import CARD, SHIPPED, verify

SNRS, CBRS = (0.0, 5.0, 10.0, 15.0, 20.0), ("1/48", "1/24", "1/12", "1/6")
RUNS = {"lrisc": "lrisc_together", "deepjscc": "deepjscc_more", "deepjscc-lpips": "deepjscc_lpips"} | {
    role: role.replace("-", "_") for role in ROLES if role.startswith((CLASSIC, "lrisc-"))
}
"""Name of each role's run in the recipe."""
ROWS = perceptual.ROWS | fidelity.ROWS | adaptation.ROWS | robustness.ROWS | steps.ROWS
Only = StrEnum("Only", {name: name for name in ("table", *ROWS)})  # type: ignore[misc]
terminal = Console(stderr=True)


def everything(grid: Grid) -> list[Trial]:
    """All methods at all cells, on ideal symbols and through the radio: the table, the curves and most of the rows."""
    symbol = [columns(m, grid.classic_cells if m == CLASSIC else grid.cells, grid.pictures) for m in METHODS]
    learned = [method for method in METHODS if method != DIGITAL]
    radio = [columns(m, grid.classic_cells if m == CLASSIC else grid.cells, grid.pictures, "radio") for m in learned]
    return flat(*symbol, *radio)


def models(runs: Path | None, weights: list[str]) -> dict[str, str]:
    """Where the weights of each role are: as given, else from the runs of the recipe, else shipped; or nowhere.

    Raises:
        ModelError: a role that does not exist, weights that do not.
    """
    found: dict[str, str] = {}
    for role in ROLES:
        run_model = runs / RUNS[role] / "model" if runs is not None else None
        if run_model is not None and (run_model / CARD).is_file():
            found[role] = str(run_model)
            continue
        for name in (role, CLASSIC) if role.startswith(CLASSIC) else (role,):  # the cells of 2019 may lie in one folder
            if (SHIPPED / name / CARD).is_file():
                found[role] = name
                break
    for text in weights:
        role, _, model = text.partition("=")
        if role not in ROLES or not model:
            raise ModelError(f"--weights {text}: write ROLE=MODEL with one of the roles {', '.join(ROLES)}")
        verify(model)
        found[role] = model
    return found


def pictures_in(folder: Path, limit: int | None, masked: bool = False) -> tuple[str, ...]:
    """Names of the pictures in a folder, in order; with `masked`, of those that have a mask beside them.

    Raises:
        ModelError: there are none.
    """
    names = sorted(path.name for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
    names = [name for name in names if not name.endswith("-mask.png")]
    if masked:
        names = [name for name in names if mask_path(folder / name).is_file()]
    if not names:
        raise ModelError(f"{folder}: no pictures found" + (" with NAME-mask.png beside them" if masked else ""))
    return tuple(names[:limit])


def measure(trials: list[Trial], store: Store, workers: int, commit: str) -> None:
    """Measures what is missing, in processes; every result is on the disk before the next is asked for."""
    missing = sorted(store.missing(trials), key=lambda trial: (trial.model, repr(trial.passage), trial.steps or 0))
    jobs = [list(group) for _, group in groupby(missing, key=lambda trial: trial.passage)]
    layout = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    spawn = multiprocessing.get_context("spawn")  # a fork would copy torch's threads half-way
    threads = max(1, (os.cpu_count() or 1) // workers)
    with (
        ProcessPoolExecutor(workers, mp_context=spawn, initializer=prepare, initargs=(threads,)) as pool,
        Progress(*layout, TimeElapsedColumn(), TimeRemainingColumn(), console=terminal) as bar,
    ):
        task = bar.add_task("pictures received", total=len(missing))
        waiting: dict[Future[list[dict[str, Any]]], list[Trial]] = {}
        try:
            for job in [*jobs, None]:
                if job is not None:
                    waiting[pool.submit(run, job, store.sources)] = job
                while len(waiting) >= (4 * workers if job is not None else 1):
                    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                        done = waiting.pop(future)
                        for trial, values in zip(done, future.result(), strict=True):
                            store.add(trial, values, commit)
                        bar.advance(task, len(done))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def judge(name: str, grid: Grid, store: Store) -> Finding:
    """What a row finds; not measured where a model of it is missing."""
    lacking = [role for role in ROWS[name].needs if role not in store.sources.models]
    if lacking:
        return Finding(f"not measured: no weights of {', '.join(lacking)}", None)
    finding = ROWS[name].judge(grid, store)
    return replace(
        finding, passed=None if finding.passed is None else bool(finding.passed)
    )  # NumPy's bool is not JSON's


def markdown(rows: dict[str, Row], findings: dict[str, Finding], report: dict[str, Any], files: list[str]) -> str:
    """quality.md."""
    grid, entries = report["grid"], report["means"]
    text = f"`{report['command']}`, {len(grid['pictures'])} pictures, commit {report['commit'][:12]}\n\n"
    text += render.properties(rows, findings)
    text += "\nDifferences of methods carry 95 % paired bootstrap intervals over the pictures. CBR holds all side "
    text += "information with its error correction. Texture: Fréchet distance of AlexNet features within a picture.\n"
    for channel, title in zip(render.CHANNELS, ("Ideal symbol channel", "Whole radio chain"), strict=True):
        text += f"\n## {title}\n\n{render.table(entries, channel)}"
    return text + "\n" + "".join(f"![{Path(name).stem}]({name})\n" for name in files)


def main(
    pictures: Annotated[Path, typer.Option(help="Folder of pictures, such as Kodak's 24.")],
    masked: Annotated[Path | None, typer.Option(help="Folder of pictures with NAME-mask.png, for the row roi.")] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Runs of configs/recipe.yaml: their models go before the shipped ones.")
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Option(help="ROLE=MODEL, goes before both; may be repeated.", metavar="ROLE=MODEL")
    ] = None,
    only: Annotated[list[Only] | None, typer.Option(help="Measure this row only; may be repeated.")] = None,
    snr_db: Annotated[list[float] | None, typer.Option(help="SNR of the table; may be repeated.")] = None,
    cbr: Annotated[list[str] | None, typer.Option(help="CBR of the table, 1/12; may be repeated.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many pictures only.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two pictures, SNR 0 and 10 dB, CBR 1/24: a look, no figures to quote.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("benchmarks/results/quality"),
    as_json: Annotated[bool, typer.Option("--json", help="Print quality.json on stdout instead of the table.")] = False,
) -> None:
    """Measure LRISC beside DeepJSCC in three forms and the ideal digital link, over a folder of pictures.

    table: all methods at all cells, on ideal symbols and through the radio; the other rows are the properties that are
    asked of the model. The whole of it over Kodak takes hours: see docs/quality.md.
    """
    limit = limit or (2 if quick else None)
    try:
        sources = Sources(models(runs, weights or []), pictures, masked)
        grid = Grid(
            tuple(snr_db or ((0.0, 10.0) if quick else SNRS)),
            tuple(cbr or (("1/24",) if quick else CBRS)),
            pictures_in(pictures, limit),
            pictures_in(masked, limit, masked=True) if masked is not None else (),
        )
        out.mkdir(parents=True, exist_ok=True)
        store = Store(out / "trials.jsonl", sources)
    except (ModelError, OSError) as error:
        print(f"quality: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    chosen = [name for name in ("table", *ROWS) if not only or name in {str(one) for one in only}]
    origin = provenance([])
    trials = [trial for name in chosen for trial in (everything if name == "table" else ROWS[name].plan)(grid)]
    begun = time.monotonic()
    measure(trials, store, workers, origin["commit"])
    findings = {name: judge(name, grid, store) for name in ROWS}
    entries = render.means(store, grid)
    arguments = [_shown(argument, (pictures, masked, runs, out)) for argument in sys.argv[1:]]
    report = {
        **origin,
        "command": shlex.join(["python", "benchmarks/quality.py", *arguments]),
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "weights_sha256": {role: card.digest for role, card in store.cards.items()},
        "grid": asdict(grid),
        "rows": {name: asdict(finding) for name, finding in findings.items()},
        "means": entries,
    }
    files = [*render.curves(entries, grid, out), *render.draw_steps(findings["steps"], out)]
    files += render.picture_grid(grid, sources, out) if "table" in chosen else []
    replace_text(out / "quality.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    replace_text(out / "quality.md", markdown(ROWS, findings, report, files))
    if as_json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        print(render.properties(ROWS, findings))


def _shown(argument: str, paths: Iterable[Path | None]) -> str:
    """An argument as a stranger would write it: folders by their own names."""
    named = next((path for path in paths if path is not None and argument == str(path)), None)
    return argument if named is None else f"{named.name}/"


if __name__ == "__main__":
    typer.run(main)
