"""Weights folders: found by name, and known to be whole."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models import weights
from models.errors import ModelError
from models.pipeline import JsccCodec
from models.weights import CARD, find, read_card, verify, write_card
from tests.models.small import small_codec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two small weights files with a card."""
    for part in ("jscc", "denoiser"):
        (tmp_path / "shipped" / "tiny" / part).mkdir(parents=True)
        save_file({"w": torch.arange(4.0)}, tmp_path / "shipped" / "tiny" / part / "model.safetensors")
    write_card(tmp_path / "shipped" / "tiny", "tiny", 3)
    return tmp_path / "shipped" / "tiny"


def test_card_round_trip(folder: Path) -> None:
    card = read_card(folder)
    assert (card.name, card.default_steps) == ("tiny", 3)
    assert sorted(card.sha256) == ["denoiser/model.safetensors", "jscc/model.safetensors"]
    assert write_card(folder, "tiny", 3) == card
    assert [path.name for path in folder.iterdir() if path.is_file()] == [CARD]
    assert verify(str(folder)) == card


def test_digest_stands_for_the_weights_not_for_the_name(folder: Path) -> None:
    before = read_card(folder).digest
    assert write_card(folder, "renamed", 9).digest == before
    save_file({"w": torch.arange(5.0)}, folder / "jscc" / "model.safetensors")
    assert write_card(folder, "tiny", 3).digest != before


@pytest.mark.parametrize("part", ["jscc", "denoiser"])
def test_altered_and_missing_files_are_named(part: str, folder: Path) -> None:
    file = folder / part / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError, match=rf"{part}/model\.safetensors was altered"):
        read_card(folder)
    file.unlink()
    with pytest.raises(ModelError, match=rf"{part}/model\.safetensors is missing"):
        read_card(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"name": "x"}', '{"name": 1, "default_steps": "a", "sha256": 3}']
)
def test_what_is_no_card_is_refused(text: str, folder: Path) -> None:
    (folder / CARD).write_text(text)
    with pytest.raises(ModelError, match=r"codec\.json is not a weights card") as caught:
        read_card(folder)
    assert "\n" not in str(caught.value)


def test_folders_without_a_card_or_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a folder of trained weights"):
        read_card(tmp_path)
    with pytest.raises(ModelError, match="holds no safetensors file"):
        write_card(tmp_path, "x", 0)


def test_models_are_found_by_name_and_unknown_ones_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SHIPPED", folder.parent)
    assert find("tiny") == folder
    assert find(str(folder)) == folder
    for name in ("tinny", "a/b/c", str(folder.parent), ""):
        with pytest.raises(ModelError, match="name one of tiny, a folder with") as caught:
            find(name)
        assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["nobody/nothing", "not valid/?!"])
def test_hub_models_that_cannot_be_had(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: str, allow_patterns: list[str]) -> str:
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        if not model.startswith("nobody"):
            raise HFValidationError("no such name")
        raise LocalEntryNotFoundError("no connection\nat all")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(ModelError, match="cannot be had from the hub") as caught:
        find(name)
    assert "\n" not in str(caught.value)


def test_codec_is_saved_and_loaded_whole(tmp_path: Path) -> None:
    codec = small_codec()
    expected = {name: value.half() for name, value in codec.network.state_dict().items()}
    card = codec.save(tmp_path, "saved", 2)
    loaded = JsccCodec.from_pretrained(tmp_path)
    assert (loaded.name, loaded.card) == ("saved", card)
    assert loaded.parameters == codec.parameters
    assert loaded.denoiser is not None
    state = loaded.network.state_dict()
    assert all(value.dtype == torch.float32 for value in state.values())
    assert all(torch.equal(state[name].half(), value) for name, value in expected.items())


def test_weights_of_another_architecture_are_refused_in_one_line(tmp_path: Path) -> None:
    small_codec().save(tmp_path, "saved", 2)
    config = json.loads((tmp_path / "jscc" / "config.json").read_text())
    config["components"] = 128
    (tmp_path / "jscc" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"jscc/config\.json was altered"):
        JsccCodec.from_pretrained(tmp_path)
    write_card(tmp_path, "saved", 2)
    with pytest.raises(ModelError, match="do not fit this version") as caught:
        JsccCodec.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / "jscc" / "config.json").write_text("{")
    write_card(tmp_path, "saved", 2)
    with pytest.raises(ModelError, match="do not fit this version"):
        JsccCodec.from_pretrained(tmp_path)


@pytest.mark.parametrize("depth", [0, 2])
def test_networks_with_missing_or_superfluous_parts_are_refused(depth: int, tmp_path: Path) -> None:
    """All shapes that there are agree: diffusers alone would leave what is missing random."""
    small_codec().save(tmp_path, "saved", 2)
    config = json.loads((tmp_path / "jscc" / "config.json").read_text())
    config["decoder_depth"] = depth
    (tmp_path / "jscc" / "config.json").write_text(json.dumps(config))
    write_card(tmp_path, "saved", 2)
    with pytest.raises(ModelError, match=r"do not fit this version.*decoder\.stack\.blocks"):
        JsccCodec.from_pretrained(tmp_path)


def test_weights_of_another_version_are_refused(folder: Path) -> None:
    values = json.loads((folder / CARD).read_text())
    version = values.pop("version")
    (folder / CARD).write_text(json.dumps(values))  # as those of the first weights are
    with pytest.raises(ModelError, match=f"weights of version 1, this program takes version {version}"):
        read_card(folder)
    (folder / CARD).write_text(json.dumps(values | {"version": version + 1}))
    with pytest.raises(ModelError, match=f"weights of version {version + 1}, this program takes version {version}"):
        read_card(folder)


def test_weights_that_the_card_does_not_know_are_refused(folder: Path) -> None:
    save_file({"w": torch.arange(4.0)}, folder / "jscc" / "other.safetensors")
    with pytest.raises(ModelError, match=r"other\.safetensors is not in codec\.json"):
        read_card(folder)


def test_shipped_models_are_whole() -> None:
    for card in sorted(weights.SHIPPED.glob(f"*/{CARD}")):
        assert read_card(card.parent).sha256
