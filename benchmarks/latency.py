"""Glass to glass, stage by stage: where the time goes between a photograph and its picture at the other end.

    python benchmarks/latency.py             # everything; wants a machine that does nothing else
    python benchmarks/latency.py --quick     # a look, no figures to quote

Times are wall-clock medians with quartiles of rounds in which all cases take turns; ratios are taken within rounds.
The networks run on as many threads as there are cores (OMP_NUM_THREADS says otherwise, and is reported); the radio
runs on one. Writes latency.json, latency.md and latency.png.
"""

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script sees its own folder only

import numpy as np
import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.latency_rows import decoding, throughput
from benchmarks.latency_rows.decoding import Key, Stages
from benchmarks.latency_rows.timing import Times, ratio, take_turns
from benchmarks.radio import provenance, write
from benchmarks.radio_rows.figures import COLOURS, figure
from models.errors import ModelError
from models.export import cache_folder, export
from models.pipeline import JsccCodec
from models.precision import has_fast_bf16
from models.runtime import load
from models.weights import verify

SIZES, STEPS, BATCHES, WORKERS = ((256, 256), (512, 768)), (1, 4, 8), (1, 8), (1, 2)
EAGER, DEEPJSCC = "torch eager", "DeepJSCC"
terminal = Console(stderr=True)


def open_runtimes(model: str, device: str) -> dict[str, JsccCodec]:
    """The codec in every runtime that this machine has: torch as it comes, and what `models.runtime` makes of it."""
    names = ["torch", *(["bf16"] if has_fast_bf16(device) else []), *(["compile"] if device == "cuda" else []), "onnx"]
    codecs: dict[str, JsccCodec] = {EAGER: JsccCodec.from_pretrained(model, device)}
    for name in names:
        try:
            codec = load(model, device, name)
        except ModelError as error:
            terminal.print(f"{name} on {device} is left out: {error}", style="yellow", highlight=False)
            continue
        assert isinstance(codec, JsccCodec)
        codecs[name] = codec
    return codecs


def measure_device(
    model: str, device: str, sizes: tuple[tuple[int, int], ...], quick: bool, told: Callable[[], None]
) -> dict[str, Any]:
    """Stages, decoders and the service on a device."""
    codecs, deepjscc = open_runtimes(model, device), open_runtimes("deepjscc", device)
    steps, batches = (1, 4) if quick else STEPS, (1, 2) if quick else BATCHES
    rows, findings, stages = [], [], {}
    fastest = "bf16" if "bf16" in codecs else "onnx" if "onnx" in codecs else "torch"  # as "auto" chooses
    for size in sizes:
        stages[size] = decoding.before_decoding(codecs[EAGER], size, 2 if quick else 15, told)
        for batch in batches:
            cases = decoding.decode_cases(codecs, stages[size].found, (0, *steps), batch)
            theirs = decoding.before_decoding(deepjscc[EAGER], size, 0, told).found
            cases |= {
                (f"{DEEPJSCC}, {name}", count, many): case
                for (name, count, many), case in decoding.decode_cases(deepjscc, theirs, (0,), batch).items()
            }
            times = take_turns(cases, 2 if quick else 9 if batch == 1 else 3, told)
            rows += [entry(size, key, found) for key, found in times.items()]
            if batch == 1:
                findings += judge(device, size, times, fastest)
    service = []
    for workers in WORKERS:
        for batch in batches:
            found, load_of = stages[sizes[0]].found, {"count": 8 if quick else 32, "rounds": 1 if quick else 5}
            service.append(throughput.measure(found, model, device, workers=workers, batch=batch, **load_of))
            told()
    passage = [describe(size, found) for size, found in stages.items()]
    return {"runtime": fastest, "stages": passage, "decoders": rows, "service": service, "findings": findings}


def entry(size: tuple[int, int], key: Key, times: Times) -> dict[str, Any]:
    """A decoder's times for JSON; per batch, not per picture."""
    name, steps, batch = key
    return {"height": size[0], "width": size[1], "runtime": name, "steps": steps, "batch": batch, **times.summary()}


def describe(size: tuple[int, int], stages: Stages) -> dict[str, Any]:
    """What comes before the decoder, for JSON."""
    summary = {name: times.summary() for name, times in stages.times.items()}
    return {"height": size[0], "width": size[1], "air_ms": 1e3 * stages.air_s, "samples": stages.samples, **summary}


def judge(device: str, size: tuple[int, int], times: dict[Key, Times], fastest: str) -> list[dict[str, Any]]:
    """What is asked of the decoder, beside what it took; both ratios are within rounds."""
    ours = times[fastest, 4, 1]
    if device != "cpu":
        if size != SIZES[1]:
            return []
        took = 1e3 * ours.median
        return [finding("768×512, 4 steps on the GPU (asked of an H200)", "< 20 ms", f"{took:.1f} ms", took < 20)]
    if size != SIZES[0]:
        return []
    results = []
    # The stricter of two ways to read it: both decoders in the runtime that the service takes.
    for name in dict.fromkeys((EAGER, fastest)):
        middle, low, high = ratio(times[name, 4, 1], times[f"{DEEPJSCC}, {name}", 0, 1])
        title = f"256×256, 4 steps ÷ DeepJSCC's decoder, both in {name}"
        results.append(finding(title, "< 10", f"{middle:.2f} ({low:.2f}…{high:.2f})", middle < 10))
    peers = [name for name in (EAGER, "onnx") if (name, 4, 1) in times]
    better = min(peers, key=lambda name: times[name, 4, 1].median)
    middle, low, high = ratio(ours, times[better, 4, 1])
    title = f"256×256, 4 steps: the service's runtime ({fastest}) ÷ the better of {' and '.join(peers)} ({better})"
    results.append(finding(title, "≤ 1", f"{middle:.2f} ({low:.2f}…{high:.2f})", middle <= 1))
    return results


def finding(title: str, asked: str, measured: str, passed: bool) -> dict[str, Any]:
    """A row of the table of what was asked."""
    return {"title": title, "asked": asked, "measured": measured, "passed": passed}


# ---------------------------------------------------------------- to read


def markdown(result: dict[str, Any]) -> str:
    """Tables of everything."""
    lines = ["# Latency", ""]
    if result["quick"]:
        lines += ["**A quick look: few rounds, on whatever the machine was doing. No figures to quote.**", ""]
    machine = result["machine"]
    lines += [f"{machine['cores']} cores ({machine['processor']}), {machine['threads']} threads for the networks.", ""]
    for device, found in result["devices"].items():
        if found is None:
            lines += [f"## {device}", "", "Not measured: this machine has none.", ""]
            continue
        lines += [f"## {device}", "", "| asked of it | bound | measured | passed |", "|-|-|-|-|"]
        for row in found["findings"]:
            lines.append(
                f"| {row['title']} | {row['asked']} | {row['measured']} | {'yes' if row['passed'] else '**no**'} |"
            )
        lines += ["", f"Glass to glass, medians in ms; decoder: {found['runtime']}, one picture at a time:", ""]
        lines += ["| picture | encode | transmit | air | receive | steps | decode | sum |", "|-|-|-|-|-|-|-|-|"]
        for stages in found["stages"]:
            before = [stages[name]["median_ms"] for name in ("encode", "transmit", "receive")]
            for row in found["decoders"]:
                same = (row["height"], row["width"]) == (stages["height"], stages["width"])
                if not same or row["runtime"] != found["runtime"] or row["batch"] != 1:
                    continue
                cells = [before[0], before[1], stages["air_ms"], before[2], row["median_ms"]]
                texts = [f"{cell:.1f}" for cell in cells]
                texts.insert(4, str(row["steps"]))
                texts.append(f"{sum(cells):.1f}")
                lines.append(f"| {stages['width']}×{stages['height']} | {' | '.join(texts)} |")
        lines += ["", "Decoders, ms per picture (quartiles):", ""]
        lines += ["| picture | runtime | steps | at once | ms |", "|-|-|-|-|-|"]
        for row in found["decoders"]:
            low, high = (value / row["batch"] for value in row["quartiles_ms"])
            lines.append(
                f"| {row['width']}×{row['height']} | {row['runtime']} | {row['steps']} | {row['batch']} "
                f"| {row['median_ms'] / row['batch']:.1f} ({low:.1f}…{high:.1f}) |"
            )
        lines += ["", "The service, 256×256 with 4 steps:", ""]
        lines += ["| workers | at once | pictures/s (range) | one alone, ms |", "|-|-|-|-|"]
        for row in found["service"]:
            low, high = row["pictures_per_s_range"]
            rate = f"{row['pictures_per_s']:.2f} ({low:.2f}…{high:.2f})"
            lines.append(f"| {row['workers']} | {row['batch']} | {rate} | {row['one_ms']:.1f} |")
        lines.append("")
    lines += ["![latency](latency.png)", "", f"Made by `{result['command']}`, commit {result['commit'][:12]}."]
    return "\n".join(lines) + "\n"


def draw(path: Path, found: dict[str, Any]) -> None:
    """Decoders over steps, a panel per size."""
    sizes = list(dict.fromkeys((row["height"], row["width"]) for row in found["decoders"]))
    with figure(path, columns=len(sizes)) as panels:
        for axes, size in zip(panels, sizes, strict=True):
            rows = [row for row in found["decoders"] if (row["height"], row["width"]) == size and row["batch"] == 1]
            names = [name for name in dict.fromkeys(row["runtime"] for row in rows) if DEEPJSCC not in name]
            for name, colour in zip(names, COLOURS, strict=False):
                ours = [row for row in rows if row["runtime"] == name]
                middle = np.array([row["median_ms"] for row in ours])
                spread = np.abs(np.array([row["quartiles_ms"] for row in ours]).T - middle)
                axes.errorbar([row["steps"] for row in ours], middle, spread, fmt="o-", color=colour, label=name)
            ten = 10 * next(row["median_ms"] for row in rows if row["runtime"] == f"{DEEPJSCC}, {found['runtime']}")
            axes.axhline(ten, color="black", linestyle="--", label=f"10 × DeepJSCC, {found['runtime']}")
            axes.set(
                title=f"{size[1]}×{size[0]}",
                xlabel="denoising steps",
                ylabel="decoding one picture, ms",
                ylim=(0, None),
            )
            axes.legend()


def processor() -> str:
    """Name of the CPU, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def main(
    out: Annotated[Path, typer.Option(help="Folder for latency.json, latency.md and latency.png.")] = Path(
        "benchmarks/results/latency"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Few rounds and the small picture: no figures to quote.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print latency.json on stdout instead of the table.")] = False,
) -> None:
    """Measure every stage between a photograph and its picture, in every runtime, and the decoder service under load.

    Everything takes 20 minutes on two idle cores, mostly for large pictures eight at a time; --quick some minutes.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"cannot make folder {out}: {error.strerror}") from error
    threads = torch.get_num_threads()  # torch was loaded before the radio's benchmark, which sets this to 1 for itself
    os.environ.pop("OMP_NUM_THREADS")
    if threads != len(os.sched_getaffinity(0)):  # otherwise workers share the cores out
        os.environ["OMP_NUM_THREADS"] = str(threads)
    model, sizes = "lrisc", SIZES[:1] if quick else SIZES
    devices: dict[str, Any] = {}
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with tempfile.TemporaryDirectory() as cache, Progress(*columns, console=terminal) as progress:
        os.environ["XDG_CACHE_HOME"] = cache  # exported anew, by the torch at hand
        task = progress.add_task("export", total=None)
        for name in (model, "deepjscc"):
            export(JsccCodec.from_pretrained(name), cache_folder(verify(name)))
        for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
            progress.update(task, description=device)
            devices[device] = measure_device(model, device, sizes, quick, lambda: progress.advance(task))
    devices.setdefault("cuda")
    origin = provenance([])
    origin["command"] = shlex.join(["python", "benchmarks/latency.py", *(["--quick"] if quick else [])])
    origin["machine"] |= {"processor": processor(), "threads": threads}
    if torch.cuda.is_available():
        origin["machine"]["gpu"] = torch.cuda.get_device_name()
    result = {"quick": quick, **origin, "devices": devices}
    write(out / "latency.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    draw(out / "latency.png", devices["cpu"])
    write(out / "latency.md", markdown(result))
    if as_json:
        print((out / "latency.json").read_text(encoding="utf-8"), end="")
        return
    table = Table("asked of it", "bound", "measured", "passed")
    for row in (row for found in devices.values() if found is not None for row in found["findings"]):
        table.add_row(escape(row["title"]), row["asked"], row["measured"], "yes" if row["passed"] else "[red]no[/]")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
