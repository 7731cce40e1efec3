"""Kills a campaign at random moments, lets it go on, and looks whether every point was measured once.

    python benchmarks/killed.py configs/campaign_radios.yaml --out runs/radios -- --transmit

What stands after -- goes to `lrisc sweep`. Each process is killed (SIGKILL) after a random number of rows and a random
moment more; the last one runs to the end. Writes killed.json and killed.md.
"""

import json
import random
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script sees its own folder only

from calibration.ledger import Records
from calibration.plan import load_plan, resolve
from calibration.points import passages
from calibration.provenance import circumstances
from models.errors import ModelError
from sdr.errors import SdrError

_MOMENT_S = 3.0


def run(command: list[str], kill_after: int | None, moment_s: float) -> list[str]:
    """Rows that a sweep printed. Of one that is not killed, raises RuntimeError if it fails."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
        if len(lines) == kill_after:
            time.sleep(moment_s)
            process.send_signal(signal.SIGKILL)
            print("killed", flush=True)
    if process.wait() not in (0, 1) and kill_after is None:
        raise RuntimeError(f"the last sweep ended with {process.returncode}")
    return [line for line in lines if line.startswith("[")]


def main(
    plan: Annotated[Path, typer.Argument(help="Campaign as YAML.")],
    out: Annotated[Path, typer.Option(help="RUN folder; must not be there.")],
    more: Annotated[list[str] | None, typer.Argument(help="After --: options of lrisc sweep.")] = None,
    kills: Annotated[int, typer.Option(min=1, help="How often.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    results: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("benchmarks/results/killed"),
) -> None:
    """Kill a campaign and count its rows."""
    try:
        points = sum(len(passage.points) for passage in passages(resolve(load_plan(plan))))
    except (ModelError, SdrError) as error:
        raise SystemExit(f"killed: {error}") from error
    if out.exists():
        raise SystemExit(f"killed: {out} is there already: choose another --out")
    rng = random.Random(seed)
    command = [sys.executable, "-m", "lrisc", "sweep", str(plan), "--out", str(out), *(more or [])]
    shown = [run(command, rng.randint(1, points // (kills + 1)), rng.uniform(0, _MOMENT_S)) for _ in range(kills)]
    shown.append(run(command, None, 0.0))
    printed = [line.partition("] ")[2].partition(": ")[0] for lines in shown for line in lines]
    with Records(out) as records:
        rows = list(records.rows())
    states = [row["status"] for row in rows]
    off = [abs(row["snr_db_estimated"] - row["snr_db"]) for row in rows if row["snr_db_estimated"] is not None]
    arguments = ["RUN" if argument == str(out) else argument for argument in sys.argv[1:]]
    asked = shlex.join(["python", "benchmarks/killed.py", *arguments])
    report = {
        **circumstances(),
        "command": asked,
        "kills": kills,
        "points": points,
        "rows": len(states),
        "rows_of_each_process": [len(lines) for lines in shown],
        "printed_twice": len(printed) - len(set(printed)),
        "snr_off_db": {"mean": statistics.mean(off), "most": max(off)} if off else {},
        "states": {state: states.count(state) for state in sorted(set(states))},
    }
    results.mkdir(parents=True, exist_ok=True)
    (results / "killed.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    text = f"`{plan}`, killed {kills} times: {points} points, {len(states)} rows"
    text += f" ({', '.join(f'{count} {state}' for state, count in report['states'].items())}), "
    text += f"{report['printed_twice']} printed twice. Rows of each process: {report['rows_of_each_process']}.\n"
    if off:
        text += f"\nThe measured SNR is {statistics.mean(off):.2f} dB from the one asked for in the mean, "
        text += f"{max(off):.2f} dB at most.\n"
    text += f"\nMade by `{asked}`, commit {report['commit']}.\n"
    (results / "killed.md").write_text(text)
    print(text)


if __name__ == "__main__":
    typer.run(main)
