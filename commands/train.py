"""`lrisc train`: one stage of training."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from commands.common import Json, terminal

EPILOG = "Example: lrisc train configs/train_lrisc_jscc.yaml --data photos/ --validation held_out/"


def train(
    config: Annotated[Path, typer.Argument(help="Training stage as YAML.")],
    data: Annotated[list[Path], typer.Option(help="Folder or tar file of training pictures; may be repeated.")],
    validation: Annotated[list[Path], typer.Option(help="Folder or tar file of held-out pictures; may be repeated.")],
    out: Annotated[Path | None, typer.Option(help="Run folder [default: runs/NAME OF THE CONFIG].")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the config's.")] = None,
    as_json: Json = False,
) -> None:
    """Train one stage, or go on with an interrupted run; ends in a folder that --model takes.

    On several GPUs: accelerate launch -m lrisc train …
    """
    from models.train import train as run

    folder = out if out is not None else Path("runs") / config.stem.removeprefix("train_")
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    follower = os.environ.get("RANK", "0") != "0"  # of several processes, the first alone speaks
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=terminal, disable=follower) as bar:
        task = bar.add_task("training", total=None)

        def show(step: int, steps: int, losses: dict[str, float]) -> None:
            text = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
            bar.update(task, completed=step, total=steps, description=text)

        model = run(config, data, validation, folder, show, seed=seed)
    if follower:
        return
    if as_json:
        print(json.dumps({"model": str(model), "log": str(folder / "log.jsonl")}))
    else:
        print(f"trained: {model} (log in {folder / 'log.jsonl'})")
