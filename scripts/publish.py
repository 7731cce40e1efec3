"""Copies the weights of a run to where they are shipped from, and keeps what was written by hand in their model card.

    python scripts/publish.py runs/lrisc_together models/weights/lrisc
    python scripts/publish.py runs/deepjscc_2019_* models/weights/deepjscc-2019      # networks of several cells in one

Writes the weights, training.json, curves.png and the generated part of README.md; the rest of that file stays.
"""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script sees its own folder only

from models.errors import ModelError
from models.history import TRAINING, document, history
from models.weights import CARD, read_card, write_card


def publish(runs: list[Path], target: Path) -> None:
    """Copies the model of a run to `target`, or those of several runs of the classic network together.

    Raises:
        ModelError: a run holds no whole weights; several runs, not all of the classic network.
    """
    models = [run / "model" for run in runs]
    cards = [read_card(model) for model in models]
    if len(runs) > 1 and not all((model / "classic").is_dir() for model in models):
        raise ModelError("only networks of several cells of the classic kind go into one folder")
    for model in models:
        for path in sorted(model.rglob("*")):
            if path.is_file() and path.suffix in {".safetensors", ".json"} and path.name not in {CARD, TRAINING}:
                (target / path.relative_to(model)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target / path.relative_to(model))
    if len(runs) == 1:
        shutil.copyfile(models[0] / CARD, target / CARD)  # last: with its hashes the folder is whole
    else:
        write_card(target, target.name, cards[0].default_steps)
    stages = [stage for run in runs for stage in history(run)]
    document(target, list({stage["stage"]: stage for stage in stages}.values()), target.name)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    try:
        publish([Path(argument) for argument in sys.argv[1:-1]], Path(sys.argv[-1]))
    except ModelError as error:
        raise SystemExit(f"publish: {error}") from error
