"""Copies the weights of a run to where they are shipped from, and keeps what was written by hand in their model card.

    python scripts/publish.py runs/lrisc_together models/weights/lrisc
    python scripts/publish.py runs/deepjscc_2019_* models/weights/deepjscc-2019      # networks of several cells in one
    python scripts/publish.py runs/lrisc_copies_? models/weights/lrisc               # the mean of several trainings

Trainings that began with the same weights and differ by their seed end so close together that the mean of their weights
is better than any of them ("Model soups", arXiv 2203.05482): machines that share nothing can train side by side.

Writes the weights, training.json, curves.png and the generated part of README.md; the rest of that file stays.
"""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script sees its own folder only

import torch

from models.errors import ModelError
from models.history import TRAINING, document, history
from models.pipeline import JsccCodec
from models.weights import CARD, read_card, write_card


def publish(runs: list[Path], target: Path) -> None:
    """Copies the model of a run to `target`; of several those of the classic network together, of others the mean.

    Raises:
        ModelError: a run holds no whole weights; several runs, of networks that have no mean.
    """
    models = [run / "model" for run in runs]
    cards = [read_card(model) for model in models]
    kinds = {(model / "classic").is_dir() for model in models}
    if len(kinds) > 1:
        raise ModelError("networks of the classic kind and others do not go into one folder")
    classic = kinds == {True}
    if len(runs) > 1 and not classic:
        codecs = [JsccCodec.from_pretrained(model) for model in models]
        mean_of(codecs).save(target, cards[0].name, cards[0].default_steps)
    else:
        _copy(models, target)
    if len(runs) == 1:
        shutil.copyfile(models[0] / CARD, target / CARD)  # last: with its hashes the folder is whole
    elif classic:
        write_card(target, target.name, cards[0].default_steps)
    stages = [stage for run in runs for stage in history(run)]
    document(target, list({stage["stage"]: stage for stage in stages}.values()), target.name)


def _copy(models: list[Path], target: Path) -> None:
    for model in models:
        for path in sorted(model.rglob("*")):
            if path.is_file() and path.suffix in {".safetensors", ".json"} and path.name not in {CARD, TRAINING}:
                (target / path.relative_to(model)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target / path.relative_to(model))


def mean_of(codecs: list[JsccCodec]) -> JsccCodec:
    """The first codec, with the mean of the weights of all.

    Raises:
        ModelError: networks of different shape.
    """
    first = codecs[0]
    for networks in ([codec.network for codec in codecs], [codec.denoiser for codec in codecs]):
        states = [network.state_dict() if network is not None else {} for network in networks]
        shapes = [{name: value.shape for name, value in state.items()} for state in states]
        if any(other != shapes[0] for other in shapes):
            raise ModelError("only networks of one shape have a mean")
        if networks[0] is not None:
            mean = {name: torch.stack([state[name].float() for state in states]).mean(dim=0) for name in states[0]}
            networks[0].load_state_dict(mean)
    return first


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    try:
        publish([Path(argument) for argument in sys.argv[1:-1]], Path(sys.argv[-1]))
    except ModelError as error:
        raise SystemExit(f"publish: {error}") from error
