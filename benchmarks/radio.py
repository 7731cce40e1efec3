"""The radio against its bounds: every property that is asked of the receiver, measured in one command.

    python benchmarks/radio.py                      # everything, about 15 minutes on two idle cores
    python benchmarks/radio.py --quick              # the same with few trials, about a minute
    python benchmarks/radio.py --only speed         # one row again; the others stay as they were

Writes radio.json (every number with its confidence interval, what was asked, the bound, and how it was made), radio.md
(the table) and a plot for each row with the theory drawn in. SNR is Es/N0 per data subcarrier throughout.
"""

import json
import multiprocessing
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from enum import StrEnum
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

# Before NumPy is loaded, here and in the processes to come: threads of linear algebra would only fight each other.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script sees its own folder only

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.radio_rows.trial import Finding, Run

ROOT = Path(__file__).resolve().parents[1]
# Name to module and function; imported when measured, for some bring torch or GNU Radio.
ROWS = {
    "awgn": ("awgn", "measure"),
    "fading": ("fading", "measure_loss"),
    "noise-var": ("fading", "measure_noise_var"),
    "detection": ("detection", "measure"),
    "false-images": ("false_images", "measure"),
    "converter": ("converter", "measure"),
    "speed": ("speed", "measure"),
    "memory": ("memory", "measure"),
    "packet-loss": ("packet_loss", "measure"),
}
Row = StrEnum("Row", {name: name for name in ROWS})  # type: ignore[misc]
terminal = Console(stderr=True)


def provenance(arguments: list[str]) -> dict[str, Any]:
    """How a result was made: command, commit, versions, machine."""
    describe = ["git", "describe", "--always", "--abbrev=40", "--dirty"]
    commit = subprocess.run(describe, capture_output=True, text=True, cwd=ROOT, check=False).stdout.strip()
    versions = {name: version(name) for name in ("numpy", "scipy", "torch", "matplotlib")}
    try:
        versions["gnuradio"] = str(import_module("gnuradio.gr").version())
    except ImportError:
        versions["gnuradio"] = "none"
    return {
        "command": shlex.join(["python", "benchmarks/radio.py", *arguments]),
        "commit": commit,
        "versions": {"python": platform.python_version(), **versions},
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine(), "system": platform.system()},
    }


def entry(finding: Finding) -> dict[str, Any]:
    """A finding as it stands in radio.json."""
    return {**asdict(finding), "passed": finding.passed}


def measure(name: str, run: Run) -> list[dict[str, Any]]:
    """Findings of one row; a row that breaks is a finding too."""
    module, function = ROWS[name]
    try:
        findings: list[Finding] = getattr(import_module(f"benchmarks.radio_rows.{module}"), function)(run)
    except Exception as error:
        terminal.print_exception()
        lines = str(error).strip().splitlines() or [""]
        reason = f"could not be measured: {type(error).__name__}: {lines[-1]}"
        return [
            {"title": name, "asked": "", "bound": "", "measured": reason, "trials": "", "points": [], "plot": ""}
            | {"note": "", "conditions": {}, "passed": False}
        ]
    return [entry(finding) for finding in findings]


def markdown(rows: dict[str, dict[str, Any]]) -> str:
    """The table of all rows that have been measured, with their notes, plots and origin."""
    lines = ["| property | asked | measured | bound or peer | passed |", "|-|-|-|-|-|"]
    findings = [finding for name in ROWS if name in rows for finding in rows[name]["findings"]]
    for finding in findings:
        passed = "yes" if finding["passed"] else "**no**"
        cells = [finding["title"], finding["asked"], finding["measured"], finding["bound"], passed]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", "## How each was measured", ""]
    for finding in findings:
        lines.append(f"- **{finding['title']}**: {finding['trials']}; {finding['note']}.")
    lines += ["", "## Origin", ""]
    for name in (name for name in ROWS if name in rows):
        row = rows[name]
        commit = row["commit"][:12] + (" with changes" if row["commit"].endswith("-dirty") else "")
        cores = row["machine"]["cores"]
        lines.append(f"- {name}: `{row['command']}`, commit {commit}, {cores} cores, {row['seconds']:.0f} s")
    lines += ["", "## Plots", ""]
    for finding in findings:
        if finding["plot"]:
            lines += [f"![{finding['title']}]({finding['plot']})", ""]
    return "\n".join(lines).rstrip() + "\n"


def write(path: Path, text: str) -> None:
    """Replace a file as a whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def previous(path: Path) -> dict[str, dict[str, Any]]:
    """Rows of an earlier run, so that one of them can be measured again."""
    try:
        rows: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path} holds no results of this benchmark: move it away or choose another --out") from error
    return rows


def show(findings: list[dict[str, Any]]) -> None:
    """Print the table for people."""
    table = Table("property", "asked", "measured", "bound or peer", "passed")
    for finding in findings:
        style = "green" if finding["passed"] else "red"
        texts = [escape(finding[key]) for key in ("title", "asked", "measured", "bound")]
        table.add_row(*texts, f"[{style}]{'yes' if finding['passed'] else 'no'}[/]")
    Console().print(table)


def main(
    out: Annotated[Path, typer.Option(help="Folder for radio.json, radio.md and the plots.")] = Path(
        "benchmarks/results/radio"
    ),
    only: Annotated[
        list[Row] | None, typer.Option(help="Measure this row only; may be repeated. Other rows in --out are kept.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few trials: a look in a minute, no figures to quote.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print radio.json on stdout instead of the table.")] = False,
) -> None:
    """Measure the radio against its bounds: every property asked of the receiver, with plots that show the theory.

    awgn: implementation loss, SNR estimate and residual CFO in white noise.
    fading: the same loss with multipath, clock offset and phase noise.
    noise-var: honesty of every symbol's variance under fading, a jammer and loss.
    detection: packets, headers and side information around and below 0 dB.
    false-images: 10⁹ samples of noise, with a DC offset, with a tone.
    converter: clipping, 8 bits, peaks of the waveform.
    speed: against GNU Radio's ofdm_rx; wants a machine that does nothing else.
    memory: ten minutes of stream.
    packet-loss: pictures through the shipped codec while 0…60 % of packets are lost.

    Everything takes about 15 minutes on two idle cores, --quick about one.
    """
    names = [name for name in ROWS if not only or name in {str(row) for row in only}]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"cannot make folder {out}: {error.strerror}") from error
    rows = previous(out / "radio.json")
    # Without --out: that names a place on this machine and changes no figure.
    arguments = [*(["--quick"] if quick else []), *(["--seed", str(seed)] if seed else [])]
    arguments += [word for name in names for word in ("--only", name)] if only else []
    origin = provenance(arguments)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the threads of GNU Radio and torch half-way
    with (
        ProcessPoolExecutor(os.cpu_count(), mp_context=spawn) as pool,
        Progress(*columns, console=terminal) as progress,
    ):
        tasks = {name: progress.add_task(name, total=1.0, start=False) for name in names}
        for name in names:
            progress.start_task(tasks[name])
            begun = time.monotonic()
            findings = measure(name, Run(seed, quick, out, _advance(progress, tasks[name]), pool))
            progress.update(tasks[name], completed=1.0)
            rows[name] = {"findings": findings, "seconds": round(time.monotonic() - begun, 1), "quick": quick, **origin}
            # After every row: what an interrupted run has measured is kept.
            write(out / "radio.json", json.dumps({"rows": rows}, indent=1, ensure_ascii=False) + "\n")
            write(out / "radio.md", markdown(rows))
    if as_json:
        print((out / "radio.json").read_text(encoding="utf-8"), end="")
    else:
        show([finding for name in names for finding in rows[name]["findings"]])


def _advance(progress: Progress, task: Any) -> Callable[[float], None]:
    return lambda share: progress.advance(task, share)


if __name__ == "__main__":
    typer.run(main)
