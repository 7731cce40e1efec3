"""`lrisc train`: one stage of training, or all of a recipe."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from commands.common import Json, terminal

EPILOG = "Example: lrisc train configs/recipe.yaml --data photos/ --validation held_out/"


def train(
    config: Annotated[Path, typer.Argument(help="A stage, or a recipe of several, as YAML.")],
    data: Annotated[list[Path], typer.Option(help="Folder or tar file of training pictures; may be repeated.")],
    validation: Annotated[list[Path], typer.Option(help="Folder or tar file of held-out pictures; may be repeated.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder of a stage [default: runs/STAGE], or where a recipe makes them [default: runs]."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the config's.")] = None,
    as_json: Json = False,
) -> None:
    """Train one stage or a whole recipe, or go on with what was interrupted; each stage ends in a folder for --model.

    The same command goes on where the last checkpoint was, to the same weights as if nothing had happened, and leaves
    finished stages alone. A stage ends early when its held-out loss no longer falls.
    On several GPUs: accelerate launch -m lrisc train …
    """
    from models.recipe import is_recipe, load_stages
    from models.train import train as run

    stages = load_stages(config)
    folders = {name: (out or Path("runs")) / name for name in stages}
    if out is not None and not is_recipe(config):
        folders = dict.fromkeys(stages, out)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    follower = os.environ.get("RANK", "0") != "0"  # of several processes, the first alone speaks
    reports = []
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=terminal, disable=follower) as bar:
        for name, stage in stages.items():
            task = bar.add_task(name, total=None)

            def show(step: int, steps: int, losses: dict[str, float], name: str = name, task: TaskID = task) -> None:
                text = "  ".join(f"{part} {value:.3f}" for part, value in losses.items())
                bar.update(task, completed=step, total=steps, description=f"{name}  {text}")

            if seed is not None:
                stage = replace(stage, seed=seed)
            model = run(stage, data, validation, folders[name], show)
            bar.update(task, total=1, completed=1, description=f"{name}  done")
            reports.append({"model": str(model), "log": str(folders[name] / "log.jsonl")})
    if follower:
        return
    if as_json:
        print(json.dumps({"stages": reports} if is_recipe(config) else reports[0]))
        return
    for report in reports:
        print(f"trained: {report['model']} (log in {report['log']})")
