"""Folders of trained weights: found by name, checked against the hashes in their card."""

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from models.errors import ModelError

if TYPE_CHECKING:
    from diffusers import ModelMixin

SHIPPED = Path(__file__).parent / "weights"
CARD = "codec.json"
VERSION = 3  # of what weights mean: raised where older ones would decode to something else

Module = TypeVar("Module")  # a diffusers ModelMixin, which has no type information


@dataclass(frozen=True)
class Choice:
    """What serves best at an operating point, found on held-out pictures by scripts/choose.py.

    `steps` of the denoiser; `exponent` of the demand for rate, from 0, a uniform rate, to 1, proportional to −log p;
    `detail_gain` with so many steps, see `models.sampler.amplified`.
    """

    snr_db: float
    cbr: float
    steps: int
    exponent: float
    detail_gain: float = 1.0


@dataclass(frozen=True)
class Quality:
    """Mean LPIPS-Alex of held-out pictures at an operating point, measured by scripts/rate_table.py."""

    snr_db: float
    cbr: float
    lpips: float


@dataclass(frozen=True)
class Card:
    """`codec.json` of a weights folder: how to use the weights and how to know that they are whole.

    `sha256` maps each weights file, relative to the folder, to its hash. `choices` are made after the training; without
    any, `default_steps` and a proportional rate hold everywhere. From `quality`, of a whole grid of SNR × CBR, a sender
    with feedback chooses its rate; without it, it keeps its rate. `bits` are what the prior gives to a latent position
    of the pictures that `quality` was measured on, in the mean; 0: not known.
    """

    name: str
    default_steps: int
    sha256: dict[str, str]
    choices: tuple[Choice, ...] = ()
    quality: tuple[Quality, ...] = ()
    bits: float = 0.0

    def choice(self, snr_db: float, cbr: float) -> Choice:
        """That of the nearest operating point; 5 dB are as far as a factor of 2 in CBR, the spacing of the table."""
        if not self.choices:
            return Choice(snr_db, cbr, self.default_steps, 1.0)
        spent = max(cbr, 1e-6)  # a picture of a few pixels has no symbols at all
        return min(self.choices, key=lambda c: abs(c.snr_db - snr_db) / 5 + abs(math.log2(c.cbr / spent)))

    @property
    def digest(self) -> str:
        """One hash over all files."""
        return hashlib.sha256("".join(self.sha256[name] for name in sorted(self.sha256)).encode()).hexdigest()

    @property
    def model_id(self) -> int:
        """Eight bits of the digest, which travel in the side information."""
        return int(self.digest[:2], 16)


def split_adapter(model: str) -> tuple[Path, str] | None:
    """File and function of a model given as FILE.py:FUNCTION, None of any other.

    Raises:
        ModelError: there is no such file.
    """
    file, colon, function = model.rpartition(":")
    if not (colon and file.endswith(".py") and function.isidentifier()):
        return None
    if not Path(file).is_file():
        raise ModelError(f"adapter {file!r} does not exist: write FILE.py:FUNCTION")
    return Path(file), function


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
        raise ModelError(
            f"no model {model!r}: name one of {names}, a folder with {CARD}, a hub id OWNER/NAME, or FILE.py:FUNCTION"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=["*.json", "*.safetensors", "*.md"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(f"model {model!r} cannot be had from the hub: {str(error).splitlines()[0]}") from error


def read_card(folder: Path) -> Card:
    """Reads and checks a folder's card.

    Raises:
        ModelError: no card, an unreadable one, one of another version, a weights file that is missing, that differs
            from its hash or that the card does not know.
    """
    path = folder / CARD
    try:
        values = json.loads(path.read_text())
        version = int(values.get("version", 1))
        choices = tuple(
            Choice(
                float(c["snr_db"]),
                float(c["cbr"]),
                int(c["steps"]),
                float(c["exponent"]),
                float(c.get("detail_gain", 1)),
            )
            for c in values.get("choices", ())
        )
        quality = tuple(
            Quality(float(q["snr_db"]), float(q["cbr"]), float(q["lpips"])) for q in values.get("quality", ())
        )
        card = Card(
            str(values["name"]),
            int(values["default_steps"]),
            dict(values["sha256"]),
            choices,
            quality,
            float(values.get("bits", 0)),
        )
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: not a folder of trained weights") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is not a weights card: {type(error).__name__} {error}") from error
    if version != VERSION:
        raise ModelError(f"{folder} holds weights of version {version}, this program takes version {VERSION}")
    unknown = sorted({str(file.relative_to(folder)) for file in folder.rglob("*.safetensors")} - set(card.sha256))
    if unknown:
        raise ModelError(f"weights file {folder / unknown[0]} is not in {CARD}: fetch the folder again")
    for name, expected in card.sha256.items():
        file = folder / name
        if not file.is_file():
            raise ModelError(f"weights file {file} is missing: fetch the folder again")
        if hash_file(file) != expected:
            raise ModelError(f"weights file {file} was altered (its SHA-256 is not the card's): fetch it again")
    return card


def verify(model: str) -> Card:
    """`read_card` of a model given as `models.registry.load_codec` takes it, of an adapter a card with its file."""
    adapter = split_adapter(model)
    if adapter is not None:
        file, _ = adapter
        return Card(model, 0, {file.name: hash_file(file)})
    return read_card(find(model))


def write_card(folder: Path, name: str, default_steps: int) -> Card:
    """Writes the card of a folder that holds trained weights, hashing every safetensors file in it and its config.

    Raises:
        ModelError: the folder holds none.
    """
    weights = sorted(folder.rglob("*.safetensors"))
    if not weights:
        raise ModelError(f"{folder} holds no safetensors file")
    files = sorted({*weights, *(config for path in weights for config in path.parent.glob("config.json"))})
    hashes = {str(path.relative_to(folder)): hash_file(path) for path in files}
    values = {"name": name, "version": VERSION, "default_steps": default_steps, "sha256": hashes}
    text = json.dumps(values, indent=2)
    temporary = folder / f"{CARD}.tmp"
    temporary.write_text(text + "\n")
    temporary.replace(folder / CARD)
    return Card(name, default_steps, hashes)


def write_choices(folder: Path, choices: list[Choice]) -> None:
    """Puts choices into a folder's card; its weights and so its identity stay.

    Raises:
        ModelError: as `read_card`.
    """
    _add(folder, choices=[vars(choice) for choice in choices])


def write_quality(folder: Path, quality: list[Quality], bits: float) -> None:
    """Puts a table of quality into a folder's card, as `write_choices` does with choices; for `bits` see `Card`."""
    _add(folder, quality=[vars(entry) for entry in quality], bits=bits)


def _add(folder: Path, **entries: object) -> None:
    read_card(folder)
    values = json.loads((folder / CARD).read_text()) | entries
    temporary = folder / f"{CARD}.tmp"
    temporary.write_text(json.dumps(values, indent=2) + "\n")
    temporary.replace(folder / CARD)


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


def load_module(kind: type[Module], folder: Path) -> Module:
    """A network from fp16 safetensors and config.json, in float32.

    Raises:
        RuntimeError: weights for a network of other parts.
        OSError, ValueError, TypeError: as diffusers does.
    """
    import torch

    loader: Any = kind
    module, info = loader.from_pretrained(
        folder, torch_dtype=torch.float32, use_safetensors=True, output_loading_info=True
    )
    wrong = [*info["missing_keys"], *info["unexpected_keys"]]
    if wrong:  # diffusers only warns, and leaves what is missing random
        raise RuntimeError(f"{len(wrong)} of them do not belong to the network of config.json, {wrong[0]} for one")
    result: Module = module
    return result


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
