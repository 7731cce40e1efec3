"""The training loop: exact resumption, checkpoints that survive a crash, clear refusals."""

import json
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file

from models.classic import ClassicCodec
from models.denoiser import Denoiser
from models.errors import ModelError
from models.lpips import lpips_unavailable
from models.network import JsccNetwork
from models.pipeline import JsccCodec
from models.precision import has_fast_bf16
from models.recipe import TrainConfig, load_config
from models.registry import load_codec
from models.train import Trainer, train
from tests.conftest import missing
from tests.models.small import FEATURES, WIDTHS, picture

MODEL = {"widths": list(WIDTHS), "components": 64, "encoder_depth": 1, "decoder_depth": 1, "condition": 16}
Losses = list[dict[str, float]]


@pytest.fixture(autouse=True)
def _no_lpips_while_validating(monkeypatch: pytest.MonkeyPatch) -> None:
    """AlexNet takes longer than everything else here and is tested elsewhere."""
    monkeypatch.setattr("models.validation.lpips_unavailable", lambda: "left out")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training pictures in `train`, one of 256×256 in `val`."""
    folder = tmp_path_factory.mktemp("pictures")
    for part, count, side in (("train", 8, 96), ("val", 1, 256)):
        (folder / part).mkdir()
        for index in range(count):
            Image.fromarray(picture(side, side, index)).save(folder / part / f"{index}.png")
    return folder


def write_config(path: Path, **changes: Any) -> Path:
    values: dict[str, Any] = {"name": "tiny", "stage": "jscc", "model": MODEL, "batch": 4, "crop": 32, "steps": 12}
    values |= {"validate_every": 1000, "validation_pictures": 1, "checkpoint_every": 1000, "ema": 0.9}
    path.write_text(yaml.safe_dump(values | changes))
    return path


def run(config: Path, pictures: Path, out: Path, stop_at: int | None = None) -> Losses:
    losses: Losses = []
    train(
        load_config(config),
        [pictures / "train"],
        [pictures / "val"],
        out,
        lambda step, steps, parts: losses.append({"step": step, "steps": steps, **parts}),
        stop_at,
    )
    return losses


def checkpoint(out: Path) -> dict[str, torch.Tensor]:
    state = json.loads((out / "checkpoint.json").read_text())
    return load_file(out / state["tensors"])


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Losses]:
    """An uninterrupted run: its folder and its losses."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.validation.lpips_unavailable", lambda: "left out")
        return out, run(write_config(out.with_suffix(".yaml")), pictures, out)


def test_interrupted_run_ends_in_the_same_weights_to_the_bit(
    pictures: Path, whole: tuple[Path, Losses], tmp_path: Path
) -> None:
    config = write_config(tmp_path / "config.yaml")
    first = run(config, pictures, tmp_path / "run", stop_at=6)
    assert not (tmp_path / "run" / "model").exists()
    # What a crash can leave behind: half-written files, an older checkpoint, log lines that were not yet saved.
    out = tmp_path / "run"
    (out / "checkpoint-9.safetensors.tmp").write_bytes(b"half")
    (out / "checkpoint.json.tmp").write_text('{"step": 9')
    shutil.copy(out / "checkpoint-6.safetensors", out / "checkpoint-3.safetensors")
    (out / "log.jsonl").write_text('{"step": 5, "loss": 1.0}\n{"step": 9, "loss": 1.0}\n{"step": 10, "lo')
    second = run(config, pictures, out)

    uninterrupted, losses = whole
    assert first + second == losses
    expected, found = checkpoint(uninterrupted), checkpoint(out)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert {"average.gains.log_gain", "best.gains.log_gain", "model.gains.log_gain"} < expected.keys()
    assert any(name.startswith("optimizer.0.") for name in expected)
    assert sorted(path.name for path in out.glob("checkpoint*")) == ["checkpoint-12.safetensors", "checkpoint.json"]
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [5, 12]
    cells = {"psnr_0dB_1/12", "psnr_10dB_1/24", "psnr_10dB_1/12", "psnr_20dB_1/12"}
    assert rows[-1]["validation"].keys() == {*cells, "loss"}


def test_finished_run_is_not_trained_further(pictures: Path, whole: tuple[Path, Losses]) -> None:
    out, _ = whole
    before = checkpoint(out)
    assert run(out.with_suffix(".yaml"), pictures, out) == []
    assert all(torch.equal(value, before[name]) for name, value in checkpoint(out).items())


def test_ends_in_a_codec_of_averaged_half_precision_weights(whole: tuple[Path, Losses]) -> None:
    out, _ = whole
    stored = load_file(next((out / "model" / "jscc").glob("*.safetensors")))
    assert {value.dtype for value in stored.values()} == {torch.float16}
    averaged = {k.removeprefix("average."): v for k, v in checkpoint(out).items() if k.startswith("average.")}
    assert averaged.keys() == stored.keys()
    assert all(torch.equal(stored[name], value.half()) for name, value in averaged.items())
    assert not torch.equal(averaged["gains.log_gain"], checkpoint(out)["model.gains.log_gain"])

    network = JsccNetwork.from_pretrained(out / "model" / "jscc")
    assert network.config.components == 64
    codec = JsccCodec.from_pretrained(out / "model")
    assert codec.name == "tiny"
    assert codec.denoiser is None
    image = picture(64, 48)
    encoded = codec.encode(image, cbr=1 / 32, snr_hint_db=10.0, mask=None, side_symbols=lambda count: count)
    noise_var = np.full(len(encoded.symbols), 0.1, dtype=np.float32)
    assert codec.decode(encoded.symbols, noise_var, 10.0, encoded.side).shape == image.shape


def test_validation_improves_and_rows_are_logged(pictures: Path, tmp_path: Path) -> None:
    # Not the loss: its random SNRs and rates differ more from step to step than a short training gains.
    run(write_config(tmp_path / "config.yaml", steps=60, validate_every=20), pictures, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [20, 20, 40, 40, 60, 60]
    assert all(np.isfinite(value) for row in rows if "loss" in row for value in row.values())
    first, *_, last = (row["validation"] for row in rows if "validation" in row)
    assert all(last[cell] > first[cell] + 0.1 for cell in first if cell.startswith("psnr"))


def test_another_seed_trains_other_weights(pictures: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "config.yaml", steps=1)
    for seed in (1, 2):
        other = replace(load_config(config), seed=seed)
        train(other, [pictures / "train"], [pictures / "val"], tmp_path / str(seed), lambda *_: None)
    first, second = (checkpoint(tmp_path / str(seed)) for seed in (1, 2))
    assert not torch.equal(first["model.analysis.stem.weight"], second["model.analysis.stem.weight"])


def test_deepjscc_trains_without_a_prior(pictures: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "config.yaml", steps=1, model=MODEL | {"adaptive": False})
    assert "bits" not in run(config, pictures, tmp_path / "run")[0]
    assert not any(".prior." in name for name in checkpoint(tmp_path / "run"))


def test_denoiser_stage_trains_the_denoiser_and_leaves_the_network_as_it_is(
    pictures: Path, whole: tuple[Path, Losses], tmp_path: Path
) -> None:
    if reason := lpips_unavailable("squeeze"):
        missing(reason)
    network = whole[0] / "model"
    model = {"widths": list(WIDTHS), "features": FEATURES, "condition": 16}
    changes = {"stage": "denoiser", "network": str(network), "model": model, "steps": 4, "default_steps": 3}
    changes |= {"lpips_weight": 1.5}
    config = write_config(tmp_path / "config.yaml", **changes)
    losses = run(config, pictures, tmp_path / "whole")
    assert {"log_mse", "direct_log_mse", "lpips_squeeze", "sigma"} < losses[-1].keys()
    run(config, pictures, tmp_path / "halves", stop_at=2)
    run(config, pictures, tmp_path / "halves")
    expected, found = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "halves")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    before = load_file(next((network / "jscc").glob("*.safetensors")))
    after = load_file(next((tmp_path / "whole" / "model" / "jscc").glob("*.safetensors")))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    torch.manual_seed(0)  # of the configuration
    start, now = Denoiser(**model).state_dict(), checkpoint(tmp_path / "whole")
    moved = {name for name in start if not torch.equal(start[name], now[f"model.denoiser.{name}"])}
    assert {"stem.weight", "scale.weight", "output.weight"} < moved
    write_config(tmp_path / "together.yaml", **changes | {"network_rate": 1e-3, "steps": 1})
    run(tmp_path / "together.yaml", pictures, tmp_path / "together")
    together = checkpoint(tmp_path / "together")
    assert torch.equal(before["basis.synthesis"].float(), together["model.network.basis.synthesis"])
    for name in ("analysis.stem.weight", "encoder.head.weight", "synthesis.output.weight"):
        moved_by = (together[f"model.network.{name}"] - before[name].float()).abs().max()
        assert 0 < moved_by < 2e-3 * (together["model.denoiser.stem.weight"] - start["stem.weight"]).abs().max()
    codec = JsccCodec.from_pretrained(tmp_path / "whole" / "model")
    assert codec.denoiser is not None
    assert codec.card.default_steps == 3

    write_config(tmp_path / "wrong.yaml", **changes | {"model": model | {"features": 24}})
    with pytest.raises(ModelError, match=r"features \(24\)"):
        run(tmp_path / "wrong.yaml", pictures, tmp_path / "wrong")


def test_a_network_is_trained_on_from_another_run(pictures: Path, whole: tuple[Path, Losses], tmp_path: Path) -> None:
    if reason := lpips_unavailable("squeeze"):
        missing(reason)
    start = {"network": str(whole[0] / "model"), "steps": 1, "learning_rate": 1e-12, "lpips_weight": 1.0}
    losses = run(write_config(tmp_path / "config.yaml", **start), pictures, tmp_path / "run")
    assert "lpips_squeeze" in losses[0]
    before = load_file(next((whole[0] / "model" / "jscc").glob("*.safetensors")))
    now = checkpoint(tmp_path / "run")
    assert all(torch.allclose(now[f"model.{name}"], value.float(), atol=1e-6) for name, value in before.items())
    run(write_config(tmp_path / "far.yaml", **start | {"learning_rate": 1e-3}), pictures, tmp_path / "far")
    now = checkpoint(tmp_path / "far")
    assert torch.equal(now["model.basis.synthesis"], before["basis.synthesis"].float())
    assert not torch.equal(now["model.synthesis.output.weight"], before["synthesis.output.weight"].float())
    write_config(tmp_path / "wrong.yaml", **start | {"model": MODEL | {"encoder_depth": 2}})
    with pytest.raises(ModelError, match="another shape"):
        run(tmp_path / "wrong.yaml", pictures, tmp_path / "wrong")


def test_a_checkpoint_made_before_a_key_existed_is_resumed(pictures: Path, tmp_path: Path) -> None:
    config, out = write_config(tmp_path / "config.yaml"), tmp_path / "run"
    run(config, pictures, out, stop_at=1)
    state = json.loads((out / "checkpoint.json").read_text())
    del state["config"]["lpips_weight"]
    (out / "checkpoint.json").write_text(json.dumps(state))
    assert run(config, pictures, out, stop_at=2)[0]["step"] == 2


def test_the_classic_network_is_trained_by_the_same_loop(pictures: Path, tmp_path: Path) -> None:
    model = {"channels": 8, "snr_db": 20.0, "widths": [8, 12]}
    values = {"stage": "classic", "model": model, "steps": 120, "validate_every": 60, "learning_rate": 1e-2}
    run(write_config(tmp_path / "config.yaml", **values), pictures, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    first, last = (row["validation"]["psnr_20dB_1/12"] for row in rows if "validation" in row)
    assert last > first + 0.1
    codec = load_codec(str(tmp_path / "run" / "model"))
    assert isinstance(codec, ClassicCodec) and codec.name == "tiny"


def test_folder_of_another_configuration_is_refused(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(write_config(tmp_path / "one.yaml"), pictures, out, stop_at=1)
    with pytest.raises(ModelError, match="another configuration") as caught:
        run(write_config(tmp_path / "two.yaml", learning_rate=1e-3), pictures, out)
    assert str(out) in str(caught.value)


def test_a_damaged_checkpoint_is_named_and_left_alone(pictures: Path, tmp_path: Path) -> None:
    out, config = tmp_path / "run", write_config(tmp_path / "config.yaml")
    run(config, pictures, out, stop_at=1)
    file = next(out.glob("checkpoint-*.safetensors"))
    content = file.read_bytes()[:1000]
    file.write_bytes(content)
    with pytest.raises(ModelError, match="damaged") as caught:
        run(config, pictures, out)
    assert "\n" not in str(caught.value) and file.read_bytes() == content


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learnig_rate": 1.0}, "unknown keys learnig_rate"),
        ({"model": MODEL | {"depth": 3}}, "unknown model keys depth"),
        ({"model": [1]}, "model must be a mapping"),
        ({"stage": "gan"}, "stage must be one of jscc, denoiser, classic"),
        ({"stage": ["jscc"]}, "stage must be one of"),
        ({"stage": "denoiser", "model": {}}, "needs network"),
        ({"steps": 0}, "steps must be a positive whole number, not 0"),
        ({"batch": "16"}, "batch must be a positive whole number"),
        ({"crop": 40}, "crop must be a multiple of 32"),
        ({"learning_rate": "5e-4"}, "learning_rate must be a number"),
        ({"seed": 0.5}, "seed must be a number"),
        ({"network_rate": 0.3}, "network_rate is for the denoiser stage"),
        ({"name": None}, "name must say"),
    ],
)
def test_bad_configurations_are_refused_in_one_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message.replace("(", r"\(")) as caught:
        load_config(write_config(tmp_path / "config.yaml", **changes))
    assert "\n" not in str(caught.value)
    assert "config.yaml" in str(caught.value)


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    for content in (b"- 1\n", b"a: [", b"\xff\xfe\x00", b""):
        (tmp_path / "config.yaml").write_bytes(content)
        with pytest.raises(ModelError) as caught:
            load_config(tmp_path / "config.yaml")
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"missing\.yaml"):
        load_config(tmp_path / "missing.yaml")


def test_shipped_configurations_load() -> None:
    folder = Path(__file__).parents[2] / "configs"
    configs: list[TrainConfig] = [load_config(path) for path in sorted(folder.glob("train_*.yaml"))]
    assert {config.stage for config in configs} == {"jscc", "denoiser", "classic"}


def test_damaged_picture_is_named_in_one_line(pictures: Path, tmp_path: Path) -> None:
    data = (pictures / "train" / "0.png").read_bytes()
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for name in ("good.png", "bad.png"):
            archive.add(pictures / "train" / "0.png", name)
    # In the middle of the second picture's pixels.
    content = bytearray((tmp_path / "shard.tar").read_bytes())
    at = content.rindex(data[:16]) + len(data) // 2
    content[at : at + 200] = bytes(200)
    (tmp_path / "shard.tar").write_bytes(content)
    config = write_config(tmp_path / "config.yaml")
    with pytest.raises(ModelError, match=r"training picture .*shard\.tar:bad\.png") as caught:
        train(load_config(config), [tmp_path / "shard.tar"], [pictures / "val"], tmp_path / "run", lambda *_: None)
    assert "\n" not in str(caught.value)


def test_damaged_picture_found_by_the_worker_is_one_line(pictures: Path, tmp_path: Path) -> None:
    trainer = Trainer(
        load_config(write_config(tmp_path / "c.yaml")), [pictures / "train"], [pictures / "val"], tmp_path
    )
    broken = trainer.batches.pictures[0]._replace(data=b"\x89PNG broken")
    trainer.batches.pictures[:] = [broken] * len(trainer.batches.pictures)
    with pytest.raises(ModelError, match=r"^training picture .*0\.png cannot be read \(not a picture\)") as caught:
        trainer.run(lambda *_: None)
    assert "\n" not in str(caught.value)


def test_output_that_cannot_be_written(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be created"):
        run(write_config(tmp_path / "config.yaml"), pictures, tmp_path / "file" / "run")
    if os.geteuid():  # root may write anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(ModelError, match="cannot be written"):
            run(write_config(tmp_path / "config.yaml"), pictures, tmp_path / "locked")


def test_validation_pictures_must_be_large_enough(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="256×256"):
        train(
            load_config(write_config(tmp_path / "config.yaml")),
            [pictures / "train"],
            [pictures / "train"],
            tmp_path / "run",
            lambda *_: None,
        )


@pytest.mark.parametrize(("bf16", "amx", "fast"), [(False, False, False), (True, False, True), (False, True, True)])
def test_bf16_only_where_the_processor_has_it(
    bf16: bool, amx: bool, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert has_fast_bf16() is fast
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")  # as in older torch
    assert has_fast_bf16() is amx


def test_trains_in_float32_on_processors_without_bf16(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.train.has_fast_bf16", lambda: False)
    AcceleratorState._reset_state(reset_partial_state=True)
    config = load_config(write_config(tmp_path / "config.yaml", steps=2))
    (tmp_path / "run").mkdir()
    trainer = Trainer(config, [pictures / "train"], [pictures / "val"], tmp_path / "run")
    assert trainer.accelerator.mixed_precision == "no"
    dtypes: list[torch.dtype] = []
    cast(JsccNetwork, trainer.objective.trained).encoder.entry.register_forward_hook(
        lambda m, i, result: dtypes.append(result.dtype)
    )
    trainer.run(lambda *_: None, stop_at=1)
    assert dtypes == [torch.float32]
    AcceleratorState._reset_state(reset_partial_state=True)
