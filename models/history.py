"""How weights came to be, written beside them: training.json, curves.png, and the generated part of their model card.

What no program can know, whose pictures they were and what the weights are good for, is written by hand under the
generated part of README.md and stays when that is written anew.
"""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models import checkpoint
from models.weights import SHIPPED

if TYPE_CHECKING:
    from accelerate import Accelerator

ORIGIN = "origin.json"
TRAINING = "training.json"
BEGIN, END = "<!-- generated from training.json: begin -->", "<!-- generated: end -->"
POINTS = 120  # of a loss curve
BY_HAND = """
## Data and licences

The weights are GPL-3.0-or-later, like the code. *Whose the training pictures were, and under which terms, is to be
written here by who publishes these weights.*

## Intended use

Research on semantic communication: photographs over narrow or noisy radio channels. Both ends need the same weights.
Not for evidence, medicine, or reading what is written in a picture: fine texture is plausible rather than true.

## Failure cases

Outside the SNRs, rates and kinds of pictures of the training, the network extrapolates. *What was seen to go wrong is
to be written here by who publishes these weights.*
"""


def describe_origin(
    data: list[Path], pictures: int, validation: list[Path], held_out: int, accelerator: "Accelerator"
) -> dict[str, Any]:
    """What a run is made from and on; sources go by their own names, without the folders that they lie in."""
    import torch

    device = accelerator.device
    return {
        "pictures": {
            "training": pictures,
            "sources": [source.name for source in data],
            "held_out": held_out,
            "held_out_sources": [source.name for source in validation],
        },
        "machine": {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU",
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "processes": accelerator.num_processes,
            "precision": "float32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision,
        },
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("torch", "diffusers")},
    }


def history(run: Path) -> list[dict[str, Any]]:
    """The stages that led to a run's weights, itself last, from the run folders alone."""
    state = checkpoint.load_state(run)
    if state is None:
        return []
    config, records = dict(state["config"]), checkpoint.read_log(run)
    before: list[dict[str, Any]] = []
    if config.get("network"):
        network = Path(config["network"])
        if (network.parent / checkpoint.STATE).exists():
            before, config["network"] = history(network.parent), f"{network.parent.name}/{network.name}"
        else:
            folder = network if network.exists() else SHIPPED / network
            before, config["network"] = _read(folder / TRAINING) or [], network.name
    stage = {
        "stage": run.name,
        "config": config,
        "steps": state["step"],
        "crops": state["step"] * config["batch"],
        "exported_step": state.get("best_step", state["step"]),
        "hours": round(state["seconds"] / 3600, 2),
        "origin": _read(run / ORIGIN),
        "loss": _thinned([(record["step"], record["loss"]) for record in records if "loss" in record]),
        "data_wait": _mean([record["data_wait"] for record in records if "data_wait" in record]),
        "validation": [{"step": r["step"], **r["validation"]} for r in records if "validation" in r],
    }
    return [*before, stage]


def document(folder: Path, stages: list[dict[str, Any]], name: str) -> None:
    """Writes training.json and curves.png into the weights folder of a model, and the generated part of its card."""
    checkpoint.replace_text(folder / TRAINING, json.dumps(stages, indent=1) + "\n")
    _draw(folder / "curves.png", stages)
    readme = folder / "README.md"
    text = readme.read_text() if readme.exists() else f"{BEGIN}{END}\n{BY_HAND}"
    head, begin, rest = text.partition(BEGIN)
    if not begin:  # a card that somebody wrote whole
        return
    by_hand = rest.partition(END)[2]
    checkpoint.replace_text(readme, f"{head}{BEGIN}\n{markdown(stages, name)}{END}{by_hand}")


def markdown(stages: list[dict[str, Any]], name: str) -> str:
    """The generated part of a model card."""
    lines = [f"# {name}", ""]
    lines += ["| stage | start | steps × crops | crops | hours | machine | pictures |", "|-|-|-|-|-|-|-|"]
    for stage in stages:
        config, origin = stage["config"], stage["origin"] or {}
        machine, pictures = origin.get("machine"), origin.get("pictures")
        if machine:
            machine = f"{machine['device']}, {machine['cores']} cores, {machine['processes']} × {machine['threads']} "
            machine += f"threads, {origin['machine']['precision']}"
        if pictures:
            sources = ", ".join(pictures["sources"])
            pictures = f"{pictures['training']} ({sources}); {pictures['held_out']} held out"
        cells = [stage["stage"], config.get("network") or "scratch", f"{stage['steps']} × {config['batch']}"]
        cells += [f"{stage['crops']:,} of {config['crop']}²", f"{stage['hours']:g}"]
        lines.append("| " + " | ".join([*cells, machine or "not recorded", pictures or "not recorded"]) + " |")
    lines += ["", "The exported weights are averages over the steps (EMA), those with the lowest held-out loss."]
    for stage in stages:
        lines += ["", f"## Held-out pictures while {stage['stage']} was trained", ""]
        lines += _validation_table(stage)
    return "\n".join([*lines, "", "![Loss and held-out quality](curves.png)", ""])


def _validation_table(stage: dict[str, Any]) -> list[str]:
    rows = stage["validation"]
    if not rows:
        return ["Not validated."]
    cells = [key.removeprefix("psnr_") for key in rows[-1] if key.startswith("psnr_")]
    lines = ["PSNR in dB / LPIPS-Alex; symbol channel, side information not charged.", ""]
    lines += ["| step | " + " | ".join(cell.replace("_", ", ") for cell in cells) + " |", "|-|" + "-|" * len(cells)]
    for row in rows:
        values = [f"{row[f'psnr_{cell}']:.2f} / {_number(row.get(f'lpips_{cell}'))}" for cell in cells]
        mark = " (exported)" if row["step"] == stage["exported_step"] else ""
        lines.append(f"| {row['step']}{mark} | " + " | ".join(values) + " |")
    return lines


def _draw(path: Path, stages: list[dict[str, Any]]) -> None:
    """Loss, PSNR and LPIPS over the crops of every stage."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(max(1, len(stages)), 3, figsize=(11, 2.8 * max(1, len(stages))), squeeze=False)
    for row, stage in zip(axes, stages, strict=False):
        crops = stage["config"]["batch"]
        row[0].plot([crops * step for step, _ in stage["loss"]], [loss for _, loss in stage["loss"]])
        row[0].set_title(f"{stage['stage']}: loss", fontsize=9)
        for column, measure in ((row[1], "psnr_"), (row[2], "lpips_")):
            cells = [key for key in (stage["validation"] or [{}])[-1] if key.startswith(measure)]
            for key in cells:
                points = [(crops * point["step"], point[key]) for point in stage["validation"] if key in point]
                label = key.removeprefix(measure).replace("_", ", ")
                column.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
            column.set_title("PSNR, dB" if measure == "psnr_" else "LPIPS-Alex", fontsize=9)
            if cells:
                column.legend(fontsize=7)
        for column in row:
            column.set_xlabel("crops", fontsize=8)
            column.tick_params(labelsize=7)
            column.grid(alpha=0.3)
    figure.tight_layout()
    temporary = path.with_name(f"{path.name}.tmp")
    figure.savefig(temporary, format="png", dpi=90)
    plt.close(figure)
    os.replace(temporary, path)


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most `POINTS` points, each the mean of as many neighbours; fewer in the last."""
    size = max(1, -(-len(points) // POINTS))
    parts = [np.array(points[start : start + size]) for start in range(0, len(points), size)]
    return [(int(part[-1, 0]), round(float(part[:, 1].mean()), 5)) for part in parts]


def _mean(values: list[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None
