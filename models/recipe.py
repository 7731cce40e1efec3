"""What a training stage is: a YAML file, read and checked."""

import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from models.classic import ClassicNetwork
from models.denoiser import Denoiser
from models.errors import ModelError
from models.network import JsccNetwork
from models.transform import PATCH

STAGES: dict[str, Callable[..., JsccNetwork | Denoiser | ClassicNetwork]] = {
    "jscc": JsccNetwork,
    "denoiser": Denoiser,
    "classic": ClassicNetwork,
}


@dataclass(frozen=True)
class TrainConfig:
    """One training stage; a YAML file with these keys.

    Attributes:
        name: of the codec that comes out.
        stage: "jscc" (the network alone), "denoiser" (a denoiser for the network of `network`) or "classic" (the
            DeepJSCC of 2019).
        model: arguments of `JsccNetwork`, `Denoiser` or `ClassicNetwork`.
        network: codec to begin with: a shipped one, a folder, or RUN/model of a run beside this one. Its denoiser,
            where there is one, is trained on in a "denoiser" stage and goes along in a "jscc" one. All stages but the
            denoiser begin from scratch without.
        lpips_weight: of the perceptual loss beside the MSE.
        snr_db: trains for this SNR alone; the classic network's stands in `model`.
        batch, crop, steps: crops per step over all processes, their side in pixels, optimiser steps.
        learning_rate: peak of the cosine schedule after 200 steps of warm-up.
        network_rate: what share of it the JSCC network learns with beside its denoiser; 0 leaves it as it is.
        ema: decay of the averaged weights, which are what is validated and exported.
        default_steps: denoising steps that the codec takes unless told otherwise.
        validate_every, checkpoint_every: in steps.
        patience: training ends when so many validations in a row have not lowered the held-out loss. What is exported
            are the averaged weights with the lowest one.
        validation_pictures: how many of the validation pictures to use, the first in order of name.
    """

    name: str
    stage: str
    model: dict[str, Any] = field(default_factory=dict)
    network: str | None = None
    batch: int = 16
    crop: int = 128
    steps: int = 10_000
    learning_rate: float = 7e-4
    network_rate: float = 0.0
    lpips_weight: float = 0.0
    ema: float = 0.999
    seed: int = 0
    default_steps: int = 0
    validate_every: int = 500
    validation_pictures: int = 32
    checkpoint_every: int = 250
    patience: int = 3
    snr_db: float | None = None


def load_stages(path: Path) -> dict[str, TrainConfig]:
    """The stages of a recipe, a YAML file whose `stages` lists stage files beside it, in order; or the one of a stage.

    A stage goes by its file's name without `train_`, which is also the name of its run's folder.

    Raises:
        ModelError: as `load_config`; a recipe without stages, with other keys, or with a stage twice.
    """
    if not is_recipe(path):
        return {stage_name(path): load_config(path)}
    values = _read(path)
    listed = values["stages"]
    if set(values) != {"stages"} or not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise ModelError(f"{path}: a recipe has one key, stages, with a list of stage files like train_lrisc_jscc.yaml")
    stages = {stage_name(path.parent / name): load_config(path.parent / name) for name in listed}
    if len(stages) != len(listed) or not stages:
        raise ModelError(f"{path}: stages must list at least one stage file, and each of them once")
    return stages


def is_recipe(path: Path) -> bool:
    """Whether a file lists stages.

    Raises:
        ModelError: it cannot be read as YAML.
    """
    values = _read(path)
    return isinstance(values, dict) and "stages" in values


def stage_name(path: Path) -> str:
    """Name of a stage file's run."""
    return path.stem.removeprefix("train_")


def same_run(stored: dict[str, Any], config: TrainConfig) -> bool:
    """Whether a checkpoint's config is this one; keys that came later had their defaults, folders may be relative."""
    before, now = asdict(TrainConfig("", "")) | stored, asdict(config)
    for values in (before, now):
        if values["network"] is not None:
            values["network"] = str(Path(values["network"]).resolve())
    return bool(before == json.loads(json.dumps(now)))


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})") from error


def load_config(path: Path) -> TrainConfig:
    """Reads a stage from YAML.

    Raises:
        ModelError: unreadable file, unknown or missing keys, a stage that does not exist, a number that is none.
    """
    values = _read(path)
    known = {f.name for f in fields(TrainConfig)}
    if not isinstance(values, dict):
        raise ModelError(f"{path}: expected a mapping with the keys {', '.join(sorted(known))}")
    unknown = sorted(map(str, set(values) - known))
    if unknown:
        raise ModelError(f"{path}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    if not isinstance(values.get("name"), str):
        raise ModelError(f"{path}: name must say what the trained codec is to be called")
    if not isinstance(values.get("stage"), str) or values["stage"] not in STAGES:
        raise ModelError(f"{path}: stage must be one of {', '.join(STAGES)}, not {values.get('stage')!r}")
    if values["stage"] == "denoiser" and not values.get("network"):
        raise ModelError(f"{path}: a denoiser needs network: FOLDER of a codec with a trained JSCC network")
    if values["stage"] != "denoiser" and "network_rate" in values:
        raise ModelError(f"{path}: network_rate is for the denoiser stage; others have learning_rate alone")
    for key in ("batch", "crop", "steps", "validate_every", "validation_pictures", "checkpoint_every", "patience"):
        if key in values and (not isinstance(values[key], int) or values[key] < 1):
            raise ModelError(f"{path}: {key} must be a positive whole number, not {values[key]!r}")
    for key, kind in (
        *((key, float) for key in ("learning_rate", "network_rate", "ema", "lpips_weight")),
        *(("seed", int), ("default_steps", int)),
    ):
        if key in values and (not isinstance(values[key], kind) or values[key] < 0):
            example = "5.0e-4 (with the point: YAML reads 5e-4 as text)" if kind is float else "1"
            raise ModelError(f"{path}: {key} must be a number like {example}, not {values[key]!r}")
    if not isinstance(values.get("snr_db"), float | int | None) or (
        values["stage"] == "classic" and "snr_db" in values
    ):
        raise ModelError(f"{path}: snr_db must be a number of dB like 10.0; a classic network has it in model")
    accepted = inspect.signature(STAGES[values["stage"]]).parameters
    if not isinstance(values.get("model", {}), dict):
        raise ModelError(f"{path}: model must be a mapping with some of the keys {', '.join(accepted)}")
    unknown = sorted(map(str, set(values.get("model", {})) - set(accepted)))
    if unknown:
        raise ModelError(f"{path}: unknown model keys {', '.join(unknown)}; known are {', '.join(accepted)}")
    config = TrainConfig(**values)
    if config.crop % (2 * PATCH):
        raise ModelError(f"{path}: crop must be a multiple of {2 * PATCH}")
    return config
