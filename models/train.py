"""`lrisc train`: one loop for every stage, resumable to the bit, on CPU or GPU, one process or several (accelerate)."""

import copy
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import get_ema_multi_avg_fn

from models import checkpoint
from models.classic import ClassicCodec, ClassicNetwork, ClassicObjective
from models.codec import Codec
from models.data import CropBatches, prefetch, read_encoded
from models.denoiser import Denoiser
from models.errors import ModelError
from models.history import ORIGIN, describe_origin, document, history
from models.network import JsccNetwork
from models.objectives import DenoiserObjective, JsccObjective
from models.pipeline import JsccCodec
from models.precision import has_fast_bf16
from models.recipe import STAGES, TrainConfig, same_run
from models.registry import load_codec
from models.sampler import make_scheduler
from models.transform import CONTEXT, PATCH
from models.validation import CBRS, CELLS, classic_transfer, load_validation, transfer_of, validate
from models.weights import CARD, Card

LOG_EVERY = 20  # steps


def _pca_blocks(batches: CropBatches, count: int = 24) -> np.ndarray:
    crops = torch.cat([batches[index] for index in range(count)]).float() / 255
    return functional.pixel_unshuffle(crops, PATCH).permute(0, 2, 3, 1).reshape(-1, 3 * PATCH * PATCH).numpy()


def _build(
    config: TrainConfig, codec: Codec | None, batches: CropBatches
) -> JsccObjective | DenoiserObjective | ClassicObjective:
    torch.manual_seed(config.seed)  # initial weights only; everything after takes explicit generators
    start = codec.network.requires_grad_(True) if isinstance(codec, JsccCodec | ClassicCodec) else None
    model = STAGES[config.stage](**config.model)
    if isinstance(model, Denoiser):
        if not isinstance(start, JsccNetwork) or model.config.features != start.config.widths[0] + CONTEXT:
            raise ModelError(
                f"{config.network} must hold a JSCC network whose first width is {CONTEXT} less than the denoiser's "
                f"features ({model.config.features})"
            )
        if isinstance(codec, JsccCodec) and codec.denoiser is not None:
            _start_from(model, codec.denoiser, config)
        with_network = config.network_rate > 0
        return DenoiserObjective(start, model, make_scheduler(), config.lpips_weight, config.snr_db, with_network)
    if start is not None:
        _start_from(model, start, config)
    elif isinstance(model, JsccNetwork):
        model.initialise(_pca_blocks(batches))
    if isinstance(model, ClassicNetwork):
        return ClassicObjective(model)
    return JsccObjective(model, config.lpips_weight, config.snr_db)


def _groups(objective: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """What is trained, and with which share of the learning rate."""
    if not isinstance(objective, DenoiserObjective):
        return [{"params": [p for p in objective.parameters() if p.requires_grad], "share": 1.0}]
    network, denoiser = _pair(objective.trained)
    groups = [{"params": list(denoiser.parameters()), "share": 1.0}]
    if config.network_rate:
        learning = [p for p in network.parameters() if p.requires_grad]
        groups.append({"params": learning, "share": config.network_rate})
    return groups


def _start_from(model: nn.Module, start: nn.Module, config: TrainConfig) -> None:
    if {name: value.shape for name, value in start.state_dict().items()} != {
        name: value.shape for name, value in model.state_dict().items()
    }:
        raise ModelError(f"the network in {config.network} has another shape than model asks for")
    model.load_state_dict(start.state_dict())


def _pair(trained: nn.Module) -> tuple[JsccNetwork, Denoiser]:
    """The networks of the denoiser stage."""
    parts = cast(nn.ModuleDict, trained)
    return cast(JsccNetwork, parts["network"]), cast(Denoiser, parts["denoiser"])


class Trainer:
    """State of one run: weights, averaged weights, optimiser, step; everything random follows from (seed, step)."""

    def __init__(self, config: TrainConfig, data: list[Path], validation: list[Path], out: Path) -> None:
        self.config, self.out = config, out
        self.accelerator = accelerator = Accelerator(mixed_precision="bf16" if has_fast_bf16() else "no")
        pictures, rank, world = read_encoded(data), accelerator.process_index, accelerator.num_processes
        shape = (config.batch, config.crop, config.steps, config.seed)
        self.batches = CropBatches(pictures, *shape, rank, world)
        self.validation = load_validation(validation)[: config.validation_pictures]
        codec = load_codec(config.network) if config.network else None
        self.denoiser = codec.denoiser if isinstance(codec, JsccCodec) else None
        """That a network comes with, and goes with as it is."""
        objective = _build(config, codec, CropBatches(pictures, *shape))
        objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # in place; missing in the stub
        self.objective = objective
        on_gpu = accelerator.device.type == "cuda"
        torch.backends.cudnn.benchmark = on_gpu  # crops are all of one size
        self.optimizer = torch.optim.AdamW(
            _groups(objective, config), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=1e-4, fused=on_gpu
        )
        self.averaged: dict[str, Tensor] = {
            name: value.detach().clone().float() for name, value in objective.trained.state_dict().items()
        }
        self.best: dict[str, Tensor] = {}  # the averaged weights with the lowest held-out loss; none before it is known
        self.best_loss, self.best_step = math.inf, 0
        self.step, self.seconds = 0, 0.0
        self._resume()
        if accelerator.is_main_process:
            checkpoint.rewind_log(out, self.step)
            origin = describe_origin(data, len(pictures), validation, len(self.validation), accelerator)
            checkpoint.replace_text(out / ORIGIN, json.dumps(origin, indent=1) + "\n")
        self.wrapped, self.optimizer = accelerator.prepare(objective, self.optimizer)
        self.averaged = {name: value.to(accelerator.device) for name, value in self.averaged.items()}

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the held-out loss has not fallen for too long."""
        return _finished(self.config, self.step, self.best_step if self.best else self.step)

    def run(self, progress: Callable[[int, int, dict[str, float]], None], stop_at: int | None = None) -> None:
        """Trains to `config.steps` (or `stop_at`) or until it is `finished`, then exports the codec folder `out/model`.

        Args:
            progress: called after every step with (step, steps, losses), on a GPU with those of the last twentieth one.
        """
        config, accelerator = self.config, self.accelerator
        last = self.step if self.finished else min(config.steps, stop_at or config.steps)
        begun = time.monotonic() - self.seconds
        waits, works = [0.0], [0.0]  # seconds since the last line of the log
        on_gpu, losses = accelerator.device.type == "cuda", dict[str, float]()
        for crops in prefetch(self.batches, self.step, last, waits, pin=on_gpu):
            tensors = self._train_step(crops, works)
            self.step += 1
            if not on_gpu or self.step % LOG_EVERY == 0 or self.step == last:  # to read them is to wait for a GPU
                means = accelerator.reduce(torch.stack(list(tensors.values())), "mean").tolist()
                losses = dict(zip(tensors, means, strict=True))
            self.seconds = time.monotonic() - begun
            if accelerator.is_main_process:
                if self.step % LOG_EVERY == 0:
                    share = sum(waits) / (sum(waits) + sum(works))
                    row = {"step": self.step, "seconds": round(self.seconds, 1), **losses, "data_wait": round(share, 4)}
                    checkpoint.log(self.out, row)
                    waits.clear()
                    works.clear()
                progress(self.step, config.steps, losses)
            stopped = False
            if self.step % config.validate_every == 0 or self.step == config.steps:
                if accelerator.is_main_process:
                    self._hold_out()
                    if self.finished:
                        accelerator.set_trigger()
                stopped = accelerator.check_trigger()  # the first process decides for all
            if accelerator.is_main_process and (
                stopped or self.step % config.checkpoint_every == 0 or self.step == last
            ):
                self._save()
            if stopped:
                break
        if accelerator.is_main_process and self.finished:
            self.export(self.out / "model")
        accelerator.wait_for_everyone()  # the next stage of a recipe begins with these weights

    def _train_step(self, crops: Tensor, works: list[float]) -> dict[str, Tensor]:
        begun = time.monotonic()
        config, accelerator = self.config, self.accelerator
        warm_up = min(1.0, (self.step + 1) / 200)
        rate = config.learning_rate * warm_up * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * self.step / config.steps)))
        for group in self.optimizer.param_groups:
            group["lr"] = float(rate) * group["share"]
        rank, world = accelerator.process_index, accelerator.num_processes
        generator = torch.Generator(accelerator.device).manual_seed(config.seed * 1_000_003 + self.step * world + rank)
        share = crops.to(accelerator.device, non_blocking=True, memory_format=torch.channels_last)
        self.wrapped.train()
        with accelerator.autocast():
            losses = self.wrapped(share, generator)
        accelerator.backward(losses["loss"])
        accelerator.clip_grad_norm_(self.wrapped.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        current = [value.float() for value in self.objective.trained.state_dict().values()]
        get_ema_multi_avg_fn(decay)(list(self.averaged.values()), current, 0)
        works.append(time.monotonic() - begun)
        return {name: value.detach() for name, value in losses.items()}

    def _copy_with(self, weights: dict[str, Tensor]) -> nn.Module:
        model = copy.deepcopy(self.objective.trained)
        model.load_state_dict(weights)
        return model.eval()

    def _hold_out(self) -> None:
        """Validates the averaged weights, and keeps them if they are the best so far."""
        values = self._validate()
        checkpoint.log(self.out, {"step": self.step, "validation": values})
        if values["loss"] < self.best_loss or not self.best:
            self.best_loss, self.best_step = values["loss"], self.step
            self.best = {name: value.clone() for name, value in self.averaged.items()}

    def _validate(self) -> dict[str, float]:
        model, config = self._copy_with(self.averaged), self.config
        cells = CELLS if config.snr_db is None else [(config.snr_db, cbr) for cbr in CBRS]
        arguments = (self.objective.held_out, self.validation, self.accelerator.device)
        with self.accelerator.autocast():
            if isinstance(model, ClassicNetwork):
                return validate(classic_transfer(model), *arguments, [(model.config.snr_db, model.cbr)])
            if isinstance(model, JsccNetwork):
                return validate(transfer_of(model, None), *arguments, cells)
            network, denoiser = _pair(model)
            direct = validate(transfer_of(network, None), *arguments, cells)
            refined = validate(transfer_of(network, denoiser, max(1, config.default_steps)), *arguments, cells)
        return {f"direct_{name}": value for name, value in direct.items()} | refined

    def export(self, folder: Path) -> None:
        """Writes a codec folder with the best averaged weights (fp16 safetensors) and what there is to know of them."""
        model, card = self._copy_with(self.best or self.averaged), Card("", 0, {})
        if isinstance(model, ClassicNetwork):
            ClassicCodec(card, model).save(folder, self.config.name)
        else:
            network, denoiser = (model, self.denoiser) if isinstance(model, JsccNetwork) else _pair(model)
            JsccCodec(card, network, denoiser).save(folder, self.config.name, self.config.default_steps)
        document(folder, history(self.out), self.config.name)

    def _save(self) -> None:
        tensors = {f"average.{name}": value for name, value in self.averaged.items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= {f"model.{name}": value for name, value in self.objective.trained.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
        state = {"step": self.step, "seconds": self.seconds, "config": asdict(self.config)}
        if self.best:
            state |= {"best_step": self.best_step, "best_loss": self.best_loss}
        checkpoint.save(self.out, state, tensors)

    def _resume(self) -> None:
        state = checkpoint.load_state(self.out)
        if state is None:
            return
        if not same_run(state["config"], self.config):
            raise ModelError(f"{self.out}: holds a run of another configuration; choose another --out or remove it")
        tensors = checkpoint.load_tensors(self.out, state)
        self.step, self.seconds = state["step"], state["seconds"]
        self.best_step, self.best_loss = state.get("best_step", 0), state.get("best_loss", math.inf)
        model: dict[str, Tensor] = {}
        optimizer: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            kind, _, name = key.partition(".")
            if kind == "average":
                self.averaged[name] = tensor
            elif kind == "best":
                self.best[name] = tensor
            elif kind == "model":
                model[name] = tensor
            else:
                index, _, entry = name.partition(".")
                optimizer.setdefault(int(index), {})[entry] = tensor
        self.objective.trained.load_state_dict(model)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": optimizer, "param_groups": groups})


def _finished(config: TrainConfig, step: int, best_step: int) -> bool:
    return step >= config.steps or step - best_step >= config.patience * config.validate_every


def is_finished(config: TrainConfig, out: Path) -> bool:
    """Whether `out` holds a run of `config` that came to its end and the weights that it ended in.

    Raises:
        ModelError: a damaged checkpoint.
    """
    state = checkpoint.load_state(out)
    if state is None or not (out / "model" / CARD).exists() or not same_run(state["config"], config):
        return False
    return _finished(config, state["step"], state.get("best_step", state["step"]))


def train(
    config: TrainConfig,
    data: list[Path],
    validation: list[Path],
    out: Path,
    progress: Callable[[int, int, dict[str, float]], None],
    stop_at: int | None = None,
) -> Path:
    """Runs or resumes a stage in the folder `out`; returns the codec folder that it ends in.

    A finished stage is left as it is. `stop_at` ends early, after a checkpoint, as an interruption would.

    Raises:
        ModelError: no pictures, a run folder of another configuration, output not writable.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"{out}: cannot be created ({error.strerror})") from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise ModelError(f"{out}: cannot be written to")
    if config.network is not None:
        beside = out.parent / config.network  # another run's model
        config = replace(config, network=str(beside if beside.is_dir() else config.network))
    if not is_finished(config, out):
        Trainer(config, data, validation, out).run(progress, stop_at)
    return out / "model"
