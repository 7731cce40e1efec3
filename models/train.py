"""`lrisc train`: one loop for every stage, resumable to the bit, on CPU or GPU, one process or several (accelerate)."""

import contextlib
import copy
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from models.classic import ClassicCodec, ClassicNetwork, ClassicObjective
from models.data import CropBatches, read_encoded
from models.denoiser import Denoiser
from models.errors import ModelError
from models.network import JsccNetwork
from models.objectives import DenoiserObjective, JsccObjective
from models.pipeline import JsccCodec
from models.recipe import STAGES, TrainConfig, load_config
from models.registry import load_codec
from models.sampler import make_scheduler
from models.transform import PATCH
from models.validation import classic_transfer, load_validation, transfer_of, validate
from models.weights import Card


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


def _build(config: TrainConfig, batches: CropBatches) -> JsccObjective | DenoiserObjective | ClassicObjective:
    torch.manual_seed(config.seed)  # initial weights only; everything after takes explicit generators
    codec = load_codec(config.network) if config.network else None
    start = codec.network.requires_grad_(True) if isinstance(codec, JsccCodec | ClassicCodec) else None
    model = STAGES[config.stage](**config.model)
    if isinstance(model, Denoiser):
        if not isinstance(start, JsccNetwork) or model.config.features != start.config.widths[0]:
            raise ModelError(
                f"{config.network} must hold a JSCC network whose first width is the denoiser's features "
                f"({model.config.features})"
            )
        return DenoiserObjective(start, model, make_scheduler(), config.lpips_weight)
    if start is not None:
        if _shapes(start) != _shapes(model):
            raise ModelError(f"the network in {config.network} has another shape than model asks for")
        model.load_state_dict(start.state_dict())
    elif isinstance(model, JsccNetwork):
        model.initialise(_pca_blocks(batches))
    return ClassicObjective(model) if isinstance(model, ClassicNetwork) else JsccObjective(model, config.lpips_weight)


def _pair(trained: nn.Module) -> tuple[JsccNetwork, Denoiser]:
    """The networks of the denoiser stage."""
    parts = cast(nn.ModuleDict, trained)
    return cast(JsccNetwork, parts["network"]), cast(Denoiser, parts["denoiser"])


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

    def _averaged_copy(self) -> nn.Module:
        model = copy.deepcopy(self.objective.trained)
        model.load_state_dict(self.averaged)
        return model.eval()

    def _validate(self) -> dict[str, float]:
        model, device = self._averaged_copy(), self.accelerator.device
        with self.accelerator.autocast():
            if isinstance(model, ClassicNetwork):
                cells = [(model.config.snr_db, model.cbr)]
                return validate(classic_transfer(model), self.validation, device, cells)
            if isinstance(model, JsccNetwork):
                return validate(transfer_of(model, None), self.validation, device)
            network, denoiser = _pair(model)
            direct = validate(transfer_of(network, None), self.validation, device)
            steps = max(1, self.config.default_steps)
            refined = validate(transfer_of(network, denoiser, steps), self.validation, device)
        return {f"direct_{name}": value for name, value in direct.items()} | refined

    def _log(self, record: dict[str, Any]) -> None:
        with (self.out / "log.jsonl").open("a") as handle:
            handle.write(json.dumps(record) + "\n")

    def export(self, folder: Path) -> None:
        """Writes a codec folder with the averaged weights (fp16 safetensors) for `models.registry.load_codec`."""
        model, card = self._averaged_copy(), Card("", 0, {})
        if isinstance(model, ClassicNetwork):
            ClassicCodec(card, model).save(folder, self.config.name)
            return
        network, denoiser = (model, None) if isinstance(model, JsccNetwork) else _pair(model)
        JsccCodec(card, network, denoiser).save(folder, self.config.name, self.config.default_steps)

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
