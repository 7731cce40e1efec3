"""Copies the weights of a run to where they are shipped from, and keeps what was written by hand in their model card.

    python scripts/publish.py runs/lrisc_denoiser models/weights/lrisc

Writes the weights, training.json, curves.png and the generated part of README.md; the rest of that file stays.
"""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script sees its own folder only

from models.history import document, history
from models.weights import CARD, read_card


def publish(run: Path, target: Path) -> None:
    """Copies `run`/model to `target`.

    Raises:
        ModelError: the run holds no whole weights.
    """
    model = run / "model"
    read_card(model)
    for path in sorted(model.rglob("*")):
        if path.is_file() and path.name not in {CARD, "README.md"}:
            (target / path.relative_to(model)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / path.relative_to(model))
    shutil.copyfile(model / CARD, target / CARD)  # last: with its hashes the folder is whole
    document(target, history(run))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    publish(Path(sys.argv[1]), Path(sys.argv[2]))
