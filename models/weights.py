"""Folders of trained weights: found by name, checked against the hashes in their card."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import ModelError

if TYPE_CHECKING:
    from diffusers import ModelMixin

SHIPPED = Path(__file__).parent / "weights"
CARD = "codec.json"


@dataclass(frozen=True)
class Card:
    """`codec.json` of a weights folder: how to use the weights and how to know that they are whole.

    `sha256` maps each weights file, relative to the folder, to its hash.
    """

    name: str
    default_steps: int
    sha256: dict[str, str]

    @property
    def digest(self) -> str:
        """One hash over all files."""
        return hashlib.sha256("".join(self.sha256[name] for name in sorted(self.sha256)).encode()).hexdigest()

    @property
    def model_id(self) -> int:
        """Eight bits of the digest, which travel in the side information."""
        return int(self.digest[:2], 16)


def find(model: str) -> Path:
    """Folder of a model: a shipped name, a folder, or a Hugging Face hub id, which is downloaded.

    Raises:
        ModelError: nothing of that name.
    """
    shipped = SHIPPED / model
    for folder in (shipped, Path(model)):
        if (folder / CARD).is_file():
            return folder
    if Path(model).exists() or model.count("/") != 1:
        names = ", ".join(sorted(path.parent.name for path in SHIPPED.glob(f"*/{CARD}"))) or "none"
        raise ModelError(f"no model {model!r}: name one of {names}, a folder with {CARD}, or a hub id OWNER/NAME")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(f"model {model!r} cannot be had from the hub: {str(error).splitlines()[0]}") from error


def read_card(folder: Path) -> Card:
    """Reads and checks a folder's card.

    Raises:
        ModelError: no card, an unreadable one, a weights file that is missing or differs from its hash.
    """
    path = folder / CARD
    try:
        values = json.loads(path.read_text())
        card = Card(str(values["name"]), int(values["default_steps"]), dict(values["sha256"]))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: not a folder of trained weights") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is not a weights card: {type(error).__name__} {error}") from error
    for name, expected in card.sha256.items():
        file = folder / name
        if not file.is_file():
            raise ModelError(f"weights file {file} is missing: fetch the folder again")
        if hash_file(file) != expected:
            raise ModelError(f"weights file {file} was altered (its SHA-256 is not the card's): fetch it again")
    return card


def verify(model: str) -> Card:
    """`read_card` of a model given as `find` takes it."""
    return read_card(find(model))


def write_card(folder: Path, name: str, default_steps: int) -> Card:
    """Writes the card of a folder that holds trained weights, hashing every safetensors file in it.

    Raises:
        ModelError: the folder holds none.
    """
    hashes = {str(path.relative_to(folder)): hash_file(path) for path in sorted(folder.rglob("*.safetensors"))}
    if not hashes:
        raise ModelError(f"{folder} holds no safetensors file")
    text = json.dumps({"name": name, "default_steps": default_steps, "sha256": hashes}, indent=2)
    temporary = folder / f"{CARD}.tmp"
    temporary.write_text(text + "\n")
    temporary.replace(folder / CARD)
    return Card(name, default_steps, hashes)


@contextmanager
def opened(model: str) -> Iterator[tuple[Path, Card]]:
    """Folder and card of a model, for loading its networks within.

    Raises:
        ModelError: as `find` and `read_card` do, or weights that the networks do not take.
    """
    folder = find(model)
    card = read_card(folder)
    try:
        yield folder, card
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise ModelError(f"{folder}: these weights do not fit this version: {str(error).splitlines()[0]}") from error


def save_module(module: "ModelMixin", folder: Path) -> None:
    """fp16 safetensors and config.json, without the path of the folder that the weights were loaded from."""
    module.half().save_pretrained(folder)
    path = folder / module.config_name
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def hash_file(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
