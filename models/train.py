"""`lrisc train`: one loop for every stage, resumable to the bit, on CPU or GPU, one process or several (accelerate)."""

import contextlib
import copy
import inspect
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from models.data import CropBatches, read_encoded
from models.denoiser import Denoiser
from models.errors import ModelError
from models.network import JsccNetwork
from models.objectives import DenoiserObjective, JsccObjective
from models.pipeline import JsccCodec
from models.sampler import make_scheduler
from models.transform import PATCH
from models.validation import load_validation, validate
from models.weights import Card

STAGES: dict[str, Callable[..., JsccNetwork | Denoiser]] = {"jscc": JsccNetwork, "denoiser": Denoiser}


@dataclass(frozen=True)
class TrainConfig:
    """One training stage; a YAML file with these keys.

    Attributes:
        name: of the codec that comes out.
        stage: "jscc" (the network alone) or "denoiser" (a denoiser from scratch, and the network of `network` with it).
        model: arguments of `JsccNetwork` or `Denoiser`.
        network: codec folder with the JSCC network to begin with; the jscc stage begins from scratch without.
        lpips_weight: of the perceptual loss beside the MSE.
        batch, crop, steps: crops per step over all processes, their side in pixels, optimiser steps.
        learning_rate: peak of the cosine schedule after 200 steps of warm-up.
        ema: decay of the averaged weights, which are what is validated and exported.
        default_steps: denoising steps that the codec takes unless told otherwise.
        validate_every, checkpoint_every: in steps.
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
    lpips_weight: float = 0.0
    ema: float = 0.999
    seed: int = 0
    default_steps: int = 0
    validate_every: int = 500
    validation_pictures: int = 32
    checkpoint_every: int = 250


def load_config(path: Path) -> TrainConfig:
    """Reads a stage from YAML.

    Raises:
        ModelError: unreadable file, unknown or missing keys, a stage that does not exist, a number that is none.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})") from error
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
    for key in ("batch", "crop", "steps", "validate_every", "validation_pictures", "checkpoint_every"):
        if key in values and (not isinstance(values[key], int) or values[key] < 1):
            raise ModelError(f"{path}: {key} must be a positive whole number, not {values[key]!r}")
    for key, kind in (
        *(("learning_rate", float), ("ema", float), ("lpips_weight", float)),
        *(("seed", int), ("default_steps", int)),
    ):
        if key in values and (not isinstance(values[key], kind) or values[key] < 0):
            example = "5.0e-4 (with the point: YAML reads 5e-4 as text)" if kind is float else "1"
            raise ModelError(f"{path}: {key} must be a number like {example}, not {values[key]!r}")
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


def _pca_blocks(batches: CropBatches, count: int = 24) -> np.ndarray:
    crops = torch.cat([batches[index] for index in range(count)]).float() / 255
    return functional.pixel_unshuffle(crops, PATCH).permute(0, 2, 3, 1).reshape(-1, 3 * PATCH * PATCH).numpy()


def _one_line_errors(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Undoes what DataLoader does to an error from its worker: the message comes with a traceback before it."""
    try:
        yield from batches
    except ModelError as error:
        raise ModelError(str(error).strip().splitlines()[-1].partition("ModelError: ")[2]) from error


def _has_fast_bf16() -> bool:
    """Whether bf16 is native here: on CPUs it is 1.6…2.5 × faster with AVX-512-BF16 or AMX, slower where emulated.

    `torch.ops.mkldnn._is_mkldnn_bf16_supported` counts emulation on plain AVX-512 in, and CUDA devices before Ampere
    emulate it too.
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not in every build of torch
    return any(getattr(torch.cpu, flag, bool)() for flag in flags)


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in module.state_dict().items()}


def _build(config: TrainConfig, batches: CropBatches) -> JsccObjective | DenoiserObjective:
    torch.manual_seed(config.seed)  # initial weights only; everything after takes explicit generators
    start = JsccCodec.from_pretrained(config.network).network.requires_grad_(True) if config.network else None
    if config.stage == "jscc":
        network = JsccNetwork(**config.model)
        if start is None:
            network.initialise(_pca_blocks(batches))
        elif _shapes(start) != _shapes(network):
            raise ModelError(f"the network in {config.network} has another shape than model asks for")
        return JsccObjective(start or network, config.lpips_weight)
    assert start is not None, "load_config sees to it"
    denoiser = Denoiser(**config.model)
    if denoiser.config.features != start.config.widths[0]:
        raise ModelError(
            f"the denoiser's features ({denoiser.config.features}) must be the first of the widths "
            f"{start.config.widths} of the network in {config.network}"
        )
    return DenoiserObjective(start, denoiser, make_scheduler(), config.lpips_weight)


class Trainer:
    """State of one run: weights, averaged weights, optimiser, step; everything random follows from (seed, step)."""

    def __init__(self, config: TrainConfig, data: list[Path], validation: list[Path], out: Path) -> None:
        self.config, self.out = config, out
        self.accelerator = Accelerator(mixed_precision="bf16" if _has_fast_bf16() else "no")
        self.batches = CropBatches(read_encoded(data), config.batch, config.crop, config.steps, config.seed)
        self.validation = load_validation(validation)[: config.validation_pictures]
        objective = _build(config, self.batches)
        objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # in place; missing in the stub
        self.objective = objective
        parameters = [p for p in objective.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=1e-4)
        self.averaged: dict[str, Tensor] = {
            name: value.detach().clone().float() for name, value in objective.trained.state_dict().items()
        }
        self.step, self.seconds = 0, 0.0
        if (out / "checkpoint.json").exists():
            self._resume()
        if self.accelerator.is_main_process:
            self._rewind_log()
        self.wrapped, self.optimizer = self.accelerator.prepare(objective, self.optimizer)
        self.averaged = {name: value.to(self.accelerator.device) for name, value in self.averaged.items()}

    def run(self, progress: Callable[[int, int, dict[str, float]], None], stop_at: int | None = None) -> None:
        """Trains to `config.steps` (or `stop_at`), then exports the codec folder `out/model`.

        Args:
            progress: called after every step with (step, steps, losses).
        """
        config, accelerator = self.config, self.accelerator
        last = min(config.steps, stop_at or config.steps)
        loader = DataLoader(
            self.batches, batch_size=None, sampler=range(self.step, last), num_workers=1, prefetch_factor=4
        )
        begun = time.monotonic() - self.seconds
        for crops in _one_line_errors(loader):
            losses = self._train_step(crops)
            self.step += 1
            self.seconds = time.monotonic() - begun
            if accelerator.is_main_process:
                if self.step % 20 == 0:
                    self._log({"step": self.step, "seconds": round(self.seconds, 1), **losses})
                progress(self.step, config.steps, losses)
                if self.step % config.validate_every == 0 or self.step == config.steps:
                    self._log({"step": self.step, "validation": self._validate()})
                if self.step % config.checkpoint_every == 0 or self.step == last:
                    self._save()
        if accelerator.is_main_process and self.step == config.steps:
            self.export(self.out / "model")

    def _train_step(self, crops: Tensor) -> dict[str, float]:
        config, accelerator = self.config, self.accelerator
        warm_up = min(1.0, (self.step + 1) / 200)
        rate = config.learning_rate * warm_up * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * self.step / config.steps)))
        for group in self.optimizer.param_groups:
            group["lr"] = float(rate)
        rank, world = accelerator.process_index, accelerator.num_processes
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step * world + rank)
        share = crops[rank::world].to(accelerator.device, memory_format=torch.channels_last)
        self.wrapped.train()
        with accelerator.autocast():
            losses = self.wrapped(share, generator)
        accelerator.backward(losses["loss"])
        accelerator.clip_grad_norm_(self.wrapped.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.objective.trained.state_dict().items():
                self.averaged[name].lerp_(value.float(), 1 - decay)
        return {name: value.item() for name, value in losses.items()}

    def _averaged_copy(self) -> tuple[JsccNetwork, Denoiser | None]:
        model = copy.deepcopy(self.objective.trained)
        model.load_state_dict(self.averaged)
        model.eval()
        if isinstance(model, nn.ModuleDict):
            return cast(JsccNetwork, model["network"]), cast(Denoiser, model["denoiser"])
        return cast(JsccNetwork, model), None

    def _validate(self) -> dict[str, float]:
        network, denoiser = self._averaged_copy()
        with self.accelerator.autocast():
            results = validate(network, None, self.validation)
            if denoiser is not None:
                refined = validate(network, denoiser, self.validation, max(1, self.config.default_steps))
                results = {f"direct_{name}": value for name, value in results.items()} | refined
        return results

    def _log(self, record: dict[str, Any]) -> None:
        with (self.out / "log.jsonl").open("a") as handle:
            handle.write(json.dumps(record) + "\n")

    def export(self, folder: Path) -> None:
        """Writes a codec folder with the averaged weights (fp16 safetensors) for `JsccCodec.from_pretrained`."""
        codec = JsccCodec(Card("", 0, {}), *self._averaged_copy())
        codec.save(folder, self.config.name, self.config.default_steps)

    def _save(self) -> None:
        tensors = {f"average.{name}": value for name, value in self.averaged.items()}
        tensors |= {f"model.{name}": value for name, value in self.objective.trained.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        # The JSON names the tensor file that belongs to it, so a crash between the two renames leaves a whole pair.
        name = f"checkpoint-{self.step}.safetensors"
        save_file(tensors, self.out / f"{name}.tmp")
        os.replace(self.out / f"{name}.tmp", self.out / name)
        state = {"step": self.step, "seconds": self.seconds, "tensors": name, "config": asdict(self.config)}
        (self.out / "checkpoint.json.tmp").write_text(json.dumps(state))
        os.replace(self.out / "checkpoint.json.tmp", self.out / "checkpoint.json")
        for old in self.out.glob("checkpoint-*.safetensors*"):
            if old.name != name:
                old.unlink()

    def _resume(self) -> None:
        try:
            state = json.loads((self.out / "checkpoint.json").read_text())
            tensors = load_file(self.out / state["tensors"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(
                f"{self.out}: its checkpoint is damaged ({reason}); remove the folder to begin anew"
            ) from error
        if asdict(TrainConfig("", "")) | state["config"] != json.loads(json.dumps(asdict(self.config))):
            raise ModelError(f"{self.out}: holds a run of another configuration; choose another --out or remove it")
        self.step, self.seconds = state["step"], state["seconds"]
        model: dict[str, Tensor] = {}
        optimizer: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            kind, _, name = key.partition(".")
            if kind == "average":
                self.averaged[name] = tensor
            elif kind == "model":
                model[name] = tensor
            else:
                index, _, entry = name.partition(".")
                optimizer.setdefault(int(index), {})[entry] = tensor
        self.objective.trained.load_state_dict(model)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": optimizer, "param_groups": groups})

    def _rewind_log(self) -> None:
        """Drops what an interrupted run logged after its last checkpoint, half a line perhaps: it is made again."""
        log = self.out / "log.jsonl"
        if not log.exists():
            return
        kept = []
        for line in log.read_text().splitlines(keepends=True):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                if json.loads(line)["step"] <= self.step:
                    kept.append(line)
        temporary = log.with_name("log.jsonl.tmp")
        temporary.write_text("".join(kept))
        os.replace(temporary, log)


def train(
    config_path: Path,
    data: list[Path],
    validation: list[Path],
    out: Path,
    progress: Callable[[int, int, dict[str, float]], None],
    stop_at: int | None = None,
    seed: int | None = None,
) -> Path:
    """Runs or resumes the stage described by `config_path`; returns the codec folder that it ends in.

    `seed` takes the place of the config's; `stop_at` ends early, after a checkpoint, as an interruption would.

    Raises:
        ModelError: bad config, no pictures, a run folder of another configuration, output not writable.
    """
    config = load_config(config_path)
    if seed is not None:
        config = replace(config, seed=seed)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"{out}: cannot be created ({error.strerror})") from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise ModelError(f"{out}: cannot be written to")
    Trainer(config, data, validation, out).run(progress, stop_at)
    return out / "model"
