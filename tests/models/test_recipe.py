"""Recipes of several stages, early stop on held-out pictures, several processes, what is written beside weights."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from models.checkpoint import read_log
from models.classic import ClassicCodec
from models.denoiser import Denoiser
from models.errors import ModelError
from models.history import BEGIN, END, document, history
from models.lpips import lpips_unavailable
from models.objectives import DenoiserObjective, JsccObjective
from models.pipeline import JsccCodec
from models.recipe import is_recipe, load_config, load_stages, same_run
from models.registry import load_codec
from models.sampler import make_scheduler
from models.train import Trainer, is_finished, train
from models.validation import CBRS
from scripts.publish import publish
from tests.conftest import missing
from tests.models.small import FEATURES, WIDTHS, picture, small_network

ROOT = Path(__file__).parents[2]
MODEL = {"widths": list(WIDTHS), "components": 64, "encoder_depth": 1, "decoder_depth": 1, "condition": 16}
DENOISER = {"widths": list(WIDTHS), "features": FEATURES, "condition": 16}


@pytest.fixture(autouse=True)
def _no_lpips_while_validating(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.validation.lpips_unavailable", lambda: "left out")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for part, count, side in (("train", 8, 96), ("val", 1, 256)):
        (folder / part).mkdir()
        for index in range(count):
            Image.fromarray(picture(side, side, index)).save(folder / part / f"{index}.png")
    return folder


def write(path: Path, **changes: Any) -> Path:
    values: dict[str, Any] = {"name": "tiny", "stage": "jscc", "model": MODEL, "batch": 4, "crop": 32, "steps": 4}
    values |= {"validate_every": 1000, "validation_pictures": 1, "checkpoint_every": 1000, "ema": 0.9}
    path.write_text(yaml.safe_dump(values | changes))
    return path


def run(config: Path, pictures: Path, out: Path, stop_at: int | None = None) -> int:
    """Steps that were trained."""
    steps: list[int] = []
    sources = [pictures / "train"], [pictures / "val"]
    train(load_config(config), *sources, out, lambda step, *_: steps.append(step), stop_at)
    return len(steps)


# ---------------------------------------------------------------- recipes


def test_a_recipe_is_its_stages_in_order(tmp_path: Path) -> None:
    for name in ("train_b", "train_a"):
        write(tmp_path / f"{name}.yaml", name=name)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("stages: [train_b.yaml, train_a.yaml]\n")
    assert is_recipe(recipe) and not is_recipe(tmp_path / "train_a.yaml")
    assert [(name, stage.name) for name, stage in load_stages(recipe).items()] == [("b", "train_b"), ("a", "train_a")]
    assert list(load_stages(tmp_path / "train_a.yaml")) == ["a"]
    bad = ("stages: [train_a.yaml, train_a.yaml]", "stages: []", "stages: train_a.yaml", "stages: [1]")
    for text in (*bad, "stages: [train_a.yaml]\nseed: 1"):
        recipe.write_text(text)
        with pytest.raises(ModelError, match=r"recipe\.yaml"):
            load_stages(recipe)


def test_the_shipped_recipe_trains_every_method_on_as_many_crops() -> None:
    stages = load_stages(ROOT / "configs" / "recipe.yaml")
    assert len(stages) == len(list((ROOT / "configs").glob("train_*.yaml")))  # none is forgotten
    seen: dict[str, int] = {}
    for name, stage in stages.items():
        start = (stage.network or "/").split("/")[0]
        assert not start or start in seen, f"{name} starts from {start}, which comes later"
        assert stage.crop == 192 or stage.stage == "classic"  # whose receptive field is smaller than any crop
        seen[name] = seen.get(start, 0) + stage.steps * stage.batch
    lrisc = seen["lrisc_together"]
    assert seen["deepjscc_more"] == seen["deepjscc_lpips"] == lrisc
    classic = [stage for name, stage in stages.items() if "2019" in name]
    assert all(seen[name] >= lrisc for name in stages if "2019" in name)
    cells = {(stage.model["snr_db"], stage.model["channels"]) for stage in classic}
    assert cells == {(snr, channels) for snr in (0.0, 10.0, 20.0) for channels in (4, 8)}


def test_stages_start_from_runs_beside_them_and_finished_ones_are_left_alone(pictures: Path, tmp_path: Path) -> None:
    first = write(tmp_path / "first.yaml")
    assert run(first, pictures, tmp_path / "runs" / "first") == 4
    before = (tmp_path / "runs" / "first" / "model" / "codec.json").stat().st_mtime_ns
    assert run(first, pictures, tmp_path / "runs" / "first") == 0
    assert (tmp_path / "runs" / "first" / "model" / "codec.json").stat().st_mtime_ns == before

    second = write(tmp_path / "second.yaml", network="first/model", learning_rate=0.0, steps=2)
    out = tmp_path / "runs" / "second"
    assert run(second, pictures, out, stop_at=1) == 1
    assert not is_finished(load_config(second), out)
    assert run(second, pictures, out) == 1
    ours, start = (load_file(next((tmp_path / "runs" / n / "model/jscc").glob("*.sa*"))) for n in ("second", "first"))
    assert all(torch.equal(ours[name], start[name]) for name in start)
    assert [stage["stage"] for stage in history(out)] == ["first", "second"]


def test_a_run_is_known_by_where_it_starts_not_by_how_that_is_written(tmp_path: Path) -> None:
    config = load_config(write(tmp_path / "c.yaml", network=str(tmp_path / "x" / ".." / "model")))
    stored = {**vars(config), "network": str(tmp_path / "model")}
    assert same_run(stored, config)
    assert not same_run({**stored, "network": str(tmp_path / "other")}, config)


# ---------------------------------------------------------------- early stop


def test_training_ends_when_the_held_out_loss_no_longer_falls(pictures: Path, tmp_path: Path) -> None:
    changes = {"steps": 40, "validate_every": 2, "patience": 2, "learning_rate": 0.0}
    config, out = write(tmp_path / "config.yaml", **changes), tmp_path / "run"
    assert run(config, pictures, out) == 6  # the best at 2, and no better at 4 and 6
    assert is_finished(load_config(config), out)
    assert run(config, pictures, out) == 0
    assert (out / "model" / "codec.json").exists()


def test_what_is_exported_had_the_lowest_held_out_loss(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, averages = iter((3.0, 1.0, 2.0)), []

    def validate(trainer: Trainer) -> dict[str, float]:
        averages.append({name: value.clone() for name, value in trainer.averaged.items()})
        return {"loss": next(losses)}

    monkeypatch.setattr(Trainer, "_validate", validate)
    config, out = write(tmp_path / "config.yaml", steps=3, validate_every=1), tmp_path / "run"
    run(config, pictures, out, stop_at=2)
    run(config, pictures, out)  # the best is not forgotten by an interruption
    stored = load_file(next((out / "model" / "jscc").glob("*.safetensors")))
    assert all(torch.equal(stored[name], averages[1][name].half()) for name in stored)
    assert not torch.equal(averages[1]["gains.log_gain"], averages[2]["gains.log_gain"])


# ---------------------------------------------------------------- one SNR alone


def test_a_whole_model_is_trained_on_for_one_snr(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(write(tmp_path / "jscc.yaml", steps=1), pictures, tmp_path / "jscc")
    changes = {"stage": "denoiser", "model": DENOISER, "steps": 1, "default_steps": 1, "learning_rate": 0.0}
    run(write(tmp_path / "both.yaml", **changes, network="jscc/model"), pictures, tmp_path / "both")
    drawn: list[Any] = []
    from models import channel

    original = channel.draw

    def draw(shape: Any, generator: Any, snr_db: Any = None) -> Any:
        drawn.append(snr_db)
        return original(shape, generator, snr_db)

    monkeypatch.setattr(channel, "draw", draw)
    changes |= {"snr_db": 7.0, "validate_every": 1}
    run(write(tmp_path / "one.yaml", **changes, network="both/model"), pictures, tmp_path / "one")
    assert drawn and all(snr is not None and (snr == 7).all() for snr in drawn)
    row = json.loads((tmp_path / "one" / "log.jsonl").read_text().splitlines()[-1])["validation"]
    assert {f"psnr_7dB_1/{round(1 / cbr)}" for cbr in CBRS} < row.keys()
    ours, start = (JsccCodec.from_pretrained(tmp_path / name / "model") for name in ("one", "both"))
    assert ours.denoiser is not None and start.denoiser is not None
    assert torch.equal(ours.denoiser.stem.weight, start.denoiser.stem.weight)
    run(write(tmp_path / "network.yaml", steps=1, snr_db=7.0, network="both/model"), pictures, tmp_path / "network")
    moved = JsccCodec.from_pretrained(tmp_path / "network" / "model")
    assert moved.denoiser is not None and torch.equal(moved.denoiser.stem.weight, start.denoiser.stem.weight)
    assert not torch.equal(moved.network.encoder.head.weight, start.network.encoder.head.weight)


# ---------------------------------------------------------------- several processes


def test_two_processes_learn_like_one(pictures: Path, tmp_path: Path) -> None:
    """The batch is shared out: the same crops, other noise, the same curve but for that."""
    model = {"channels": 8, "snr_db": 20.0, "widths": [8, 12]}
    changes = {"stage": "classic", "model": model, "steps": 60, "validate_every": 20, "learning_rate": 1e-2}
    config = write(tmp_path / "config.yaml", **changes)
    run(config, pictures, tmp_path / "one")
    # What accelerate launch --multi_gpu runs, without GPUs: its --cpu would take MPI.
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "lrisc"]
    sources = ["--data", str(pictures / "train"), "--validation", str(pictures / "val")]
    arguments = ["train", str(config), *sources, "--out", str(tmp_path / "two"), "--json"]
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, *arguments], capture_output=True, text=True, cwd=ROOT, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == str(tmp_path / "two" / "model")
    assert json.loads((tmp_path / "two" / "origin.json").read_text())["machine"]["processes"] == 2

    one, two = (read_log(tmp_path / name) for name in ("one", "two"))
    losses = [[record["loss"] for record in records if "loss" in record] for records in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    held_out = [[r["validation"]["loss"] for r in records if "validation" in r] for records in (one, two)]
    fall = held_out[0][0] - held_out[0][-1]
    assert fall > 0.05 * held_out[0][0] and held_out[0] == pytest.approx(held_out[1], abs=0.2 * fall)
    waits = [record["data_wait"] for record in one if "data_wait" in record]
    assert len(waits) == 3 and all(0 <= wait < 1 for wait in waits)


@pytest.mark.parametrize("stage", ["lrisc", "deepjscc", "denoiser"])
def test_every_trained_parameter_takes_part_in_every_step(stage: str) -> None:
    """Data-parallel training waits for the gradients of all."""
    network = small_network(adaptive=stage != "deepjscc").requires_grad_(True)
    objective: JsccObjective | DenoiserObjective = JsccObjective(network)
    if stage == "denoiser":
        if reason := lpips_unavailable("squeeze"):
            missing(reason)
        objective = DenoiserObjective(network, Denoiser(**DENOISER), make_scheduler(), 1.0)
    crops = torch.randint(256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    objective(crops, torch.Generator().manual_seed(1))["loss"].backward()
    assert not [name for name, p in objective.named_parameters() if p.requires_grad and p.grad is None]


# ---------------------------------------------------------------- what is written beside the weights


def test_a_model_card_tells_how_the_weights_came_to_be(pictures: Path, tmp_path: Path) -> None:
    run(write(tmp_path / "first.yaml", name="first", validate_every=2), pictures, tmp_path / "first")
    second = write(tmp_path / "second.yaml", name="second", network="first/model", validate_every=2)
    run(second, pictures, tmp_path / "second")
    folder = tmp_path / "second" / "model"
    stages = json.loads((folder / "training.json").read_text())
    assert [(stage["stage"], stage["crops"]) for stage in stages] == [("first", 16), ("second", 16)]
    assert stages[1]["origin"]["pictures"] == {
        **{"training": 8, "sources": ["train"]},
        **{"held_out": 1, "held_out_sources": ["val"]},
    }
    assert [row["step"] for row in stages[1]["validation"]] == [2, 4]
    with Image.open(folder / "curves.png") as curves:
        assert curves.width > 500
    card = (folder / "README.md").read_text()
    assert "| second | first/model | 4 × 4 | 16 of 32² |" in card
    for part in ("# second", "(exported)", "Data and licences", "Intended use", "Failure cases"):
        assert part in card
    assert str(tmp_path) not in card + (folder / "training.json").read_text()


def test_the_history_of_shipped_ones_goes_on(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(write(tmp_path / "first.yaml", name="first"), pictures, tmp_path / "runs" / "first")
    publish([tmp_path / "runs" / "first"], tmp_path / "shipped" / "ours")
    for module in ("models.weights", "models.history"):
        monkeypatch.setattr(f"{module}.SHIPPED", tmp_path / "shipped")
    run(write(tmp_path / "more.yaml", name="more", network="ours"), pictures, tmp_path / "runs" / "more")
    stages = history(tmp_path / "runs" / "more")
    assert [(stage["stage"], stage["config"]["network"]) for stage in stages] == [("first", None), ("more", "ours")]


def test_what_was_written_by_hand_into_a_card_stays(pictures: Path, tmp_path: Path) -> None:
    run(write(tmp_path / "config.yaml", validate_every=2), pictures, tmp_path / "run")
    target = tmp_path / "shipped"
    publish([tmp_path / "run"], target)
    assert JsccCodec.from_pretrained(target).name == "tiny"
    by_hand = "\n## Failure cases\n\nCats.\n"
    (target / "README.md").write_text(f"Above.\n{BEGIN}\nold\n{END}{by_hand}")
    publish([tmp_path / "run"], target)
    card = (target / "README.md").read_text()
    assert card.startswith("Above.\n") and card.endswith(by_hand) and "\nold\n" not in card and "# shipped\n" in card
    (target / "README.md").write_text("All of it by hand.\n")
    document(target, history(tmp_path / "run"), "small")
    assert (target / "README.md").read_text() == "All of it by hand.\n"


def test_networks_of_several_cells_are_published_together(pictures: Path, tmp_path: Path) -> None:
    for snr in (0, 10):
        model = {"channels": 8, "snr_db": float(snr), "widths": [8, 12]}
        changes = {"stage": "classic", "model": model, "steps": 1, "validate_every": 1}
        run(write(tmp_path / f"{snr}.yaml", **changes), pictures, tmp_path / "runs" / f"{snr}db")
    target = tmp_path / "deepjscc-2019"
    publish([tmp_path / "runs" / "0db", tmp_path / "runs" / "10db"], target)
    codec = load_codec(str(target))
    assert isinstance(codec, ClassicCodec) and len(codec.networks) == 2 and codec.name == "deepjscc-2019"
    assert [stage["stage"] for stage in json.loads((target / "training.json").read_text())] == ["0db", "10db"]
    run(write(tmp_path / "c.yaml", steps=1, validate_every=1), pictures, tmp_path / "runs" / "jscc")
    with pytest.raises(ModelError, match="classic"):
        publish([tmp_path / "runs" / "0db", tmp_path / "runs" / "jscc"], tmp_path / "mixed")
