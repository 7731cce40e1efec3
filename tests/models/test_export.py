"""ONNX Runtime and bf16 against torch in float32: the same pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import export as exporting
from models.errors import ModelError
from models.export import DENOISER, DETAIL, INDEX, LATENT, TOLERANCE, cache_folder, export, exported
from models.pipeline import JsccCodec
from models.runtime import load
from tests.models.small import picture, small_codec


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    small_codec().save(folder, "small", default_steps=2)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture(scope="module")
def differences(model: Path, cache: Path) -> dict[str, float]:
    codec = JsccCodec.from_pretrained(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        return export(codec, cache_folder(codec.card))


class Double(exporting._Part):
    inputs = (("image", 1, 2),)
    outputs = ("twice",)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return 2 * image


def received(codec: JsccCodec, height: int, width: int) -> dict[str, Any]:
    encoded = codec.encode(
        picture(height, width), cbr=1 / 12, snr_hint_db=10.0, mask=None, side_symbols=lambda count: 8 * count
    )
    rng = np.random.default_rng(height)
    noise = rng.normal(0, 0.05**0.5, (2, len(encoded.symbols)))
    noise_var = np.full(len(encoded.symbols), 0.1, np.float32)
    noise_var[rng.random(len(noise_var)) < 0.1] = np.inf
    symbols = (encoded.symbols + noise[0] + 1j * noise[1]).astype(np.complex64)
    return {"symbols": symbols, "noise_var": noise_var, "snr_db": 10.0, "side": encoded.side}


def test_every_graph_equals_torch(differences: dict[str, float]) -> None:
    assert set(differences) == {LATENT, DETAIL, DENOISER}
    assert max(differences.values()) <= TOLERANCE


@pytest.mark.parametrize(("height", "width"), [(32, 48), (70, 33), (5, 130)])
@pytest.mark.parametrize("steps", [0, 3])
def test_onnx_runtime_decodes_the_same_picture_at_any_size(
    differences: dict[str, float], model: Path, height: int, width: int, steps: int
) -> None:
    codec, runtime = JsccCodec.from_pretrained(model), load(str(model), "cpu", "onnx")
    values = received(codec, height, width)
    expected = codec.decode(**values, steps=steps, seed=1)
    assert np.abs(runtime.decode(**values, steps=steps, seed=1).astype(int) - expected).max() <= 1


def test_onnx_runtime_decodes_tiles_and_several_at_once(
    differences: dict[str, float], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, runtime = JsccCodec.from_pretrained(model), load(str(model), "cpu", "onnx")
    assert isinstance(runtime, JsccCodec)
    values = received(codec, 16 * 40, 32)
    expected = codec.decode(**values, steps=1)
    monkeypatch.setattr("models.tiling.TILE", 25)
    pictures = runtime.paint([runtime.read(**values, steps=1) for _ in range(2)])
    for found in pictures:
        assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("runtime", ["torch", "bf16"])
def test_other_runtimes_decode_nearly_the_same_picture(model: Path, runtime: str) -> None:
    codec, faster = JsccCodec.from_pretrained(model), load(str(model), "cpu", runtime)
    values = received(codec, 64, 80)
    difference = faster.decode(**values, steps=2).astype(int) - codec.decode(**values, steps=2)
    assert np.sqrt(np.mean(difference**2)) < (1 if runtime == "bf16" else 0.1)


def test_an_export_of_other_weights_or_a_damaged_one_is_not_used(differences: dict[str, float], model: Path) -> None:
    card = JsccCodec.from_pretrained(model).card
    folder = exported(card)
    assert folder is not None
    other = small_codec(seed=1)
    assert exported(other.card) is None
    index = json.loads((folder / INDEX).read_text())
    assert index["weights"] == card.digest
    contents = (folder / LATENT).read_bytes()
    try:
        (folder / LATENT).write_bytes(contents[:-1])
        assert exported(card) is None
        with pytest.raises(ModelError, match="run `lrisc export"):
            load(str(model), "cpu", "onnx")
    finally:
        (folder / LATENT).write_bytes(contents)


def test_a_graph_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    monkeypatch.setattr(exporting, "_parts", lambda codec: {DENOISER: Double()})
    with pytest.raises(ModelError, match=r"denoiser.onnx differs from torch by"):
        export(small_codec(), tmp_path / "onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("device", "runtime", "message"),
    [
        ("cpu", "tensorrt", "no runtime 'tensorrt': choose one of auto, torch"),
        ("gpu", "auto", "no device 'gpu': choose cpu"),
        ("meta", "auto", "no device 'meta': choose cpu"),
        ("cuda:99", "auto", "no device 'cuda:99': this machine has"),
    ],
)
def test_impossible_devices_and_runtimes(model: Path, device: str, runtime: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load(str(model), device, runtime)


def test_auto_is_the_fastest_of_what_there_is(
    differences: dict[str, float], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    monkeypatch.setattr("models.runtime._use_bf16", lambda *_, compiled: used.append("bf16"))
    monkeypatch.setattr("models.runtime._use_onnx", lambda *_: used.append("onnx"))
    for fast, there, expected in ((True, True, ["bf16"]), (False, True, ["onnx"]), (False, False, [])):
        monkeypatch.setattr("models.runtime.has_fast_bf16", lambda device, fast=fast: fast)
        monkeypatch.setattr("models.runtime.exported", lambda card, there=there: model if there else None)
        used.clear()
        load(str(model), "cpu")
        assert used == expected
    assert torch.get_default_dtype() == torch.float32
