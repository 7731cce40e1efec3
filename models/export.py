"""The decoder's networks as ONNX files, for ONNX Runtime here (`models.runtime`) or anything that reads ONNX elsewhere.

Three graphs in float32, with any number of pictures and any size in multiples of 16 pixels (b, h16, w16 are free):

- latent.onnx, f_d: reals [b, k, h16, w16] and precision [b, k/2, h16, w16] as `JsccNetwork.observe` gives them, rate
  [b, 1, h16, w16] (`models.jscc.rate_map`), mask [b, 1, h16, w16] (region of interest, 0…1), snr_db [b], hint_db [b] →
  coefficients [b, k, h16, w16], features [b, f, h16, w16], condition [b, c].
- detail.onnx, g_d: features, coefficients, rate, mask, condition → image [b, 3, h, w] in about 0…1,
  detail [b, f4, h/4, w/4], and of a model with a denoiser log_sigma [b, 1, h/4, w/4].
- denoiser.onnx, one step: noisy [b, 3, h, w], timestep [b] in 0…1, image, detail, log_sigma, snr_db, rate [b] →
  correction [b, 3, h, w], to be used as `models.sampler.predict` does.

`export.json` beside them holds the hashes of the files and of the weights they were made from.
"""

import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.denoiser import Denoiser
from models.errors import ModelError
from models.network import JsccNetwork
from models.pipeline import JsccCodec
from models.transform import PATCH, Decoded
from models.weights import Card, hash_file

LATENT, DETAIL, DENOISER = "latent.onnx", "detail.onnx", "denoiser.onnx"
INDEX = "export.json"
TOLERANCE = 1e-4
"""Largest difference from torch in float32, of pixel values in 0…1; a level of 8 bits is 4e-3."""

_VERSION = 2
_EXAMPLE = (2, 4, 6)  # pictures, rows, columns: none of them 1, which would be taken for a constant


def cache_folder(card: Card) -> Path:
    """Where the export of these weights is looked for: $XDG_CACHE_HOME/lrisc/onnx, or in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lrisc" / "onnx" / f"{card.name}-{card.digest[:16]}"


def exported(card: Card) -> Path | None:
    """The folder with these weights' export, if there is a whole one."""
    folder = cache_folder(card)
    try:
        index = json.loads((folder / INDEX).read_text())
        same = index["version"] == _VERSION and index["weights"] == card.digest
        whole = same and all(hash_file(folder / name) == value for name, value in index["sha256"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return folder if whole else None


def export(codec: JsccCodec, folder: Path) -> dict[str, float]:
    """Writes the graphs into `folder`, which they replace as a whole, once they have been compared with torch.

    Returns:
        Largest difference from torch of each file.

    Raises:
        ModelError: a network that leaves parts out, no exporter, a folder that cannot be written, or a difference of
            more than `TOLERANCE`.
    """
    if codec.network.without:
        raise ModelError(f"{codec.name} leaves parts of the network out, for ablation; such models are not exported")
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise ModelError(f"exporting takes {package}: pip install lrisc[cpu]") from error
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".export-"))
    except OSError as error:
        raise ModelError(f"cannot write to {folder.parent}: {error.strerror}") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of packages that are of no use here
    try:
        differences = {name: _write(part, unfinished / name) for name, part in _parts(codec).items()}
        index = {
            "version": _VERSION,
            "model": codec.name,
            "weights": codec.card.digest,
            "sha256": {name: hash_file(unfinished / name) for name in differences},
            "largest_difference": differences,
        }
        (unfinished / INDEX).write_text(json.dumps(index, indent=2) + "\n")
        if folder.is_dir():
            shutil.rmtree(folder)
        unfinished.replace(folder)
    except OSError as error:
        raise ModelError(f"cannot write {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return differences


# ---------------------------------------------------------------- graphs


class _Part(nn.Module):
    """A graph: names of inputs and outputs, and each map's scale over the latent grid (None: no map)."""

    inputs: tuple[tuple[str, int | None, int], ...]
    """Name, scale, channels."""
    outputs: tuple[str, ...]


class _Latent(_Part):
    outputs = ("coefficients", "features", "condition")

    def __init__(self, network: JsccNetwork) -> None:
        super().__init__()
        self.network = network
        limit = network.symbol_limit
        self.inputs = (("reals", 1, 2 * limit), ("precision", 1, limit), ("rate", 1, 1), ("mask", 1, 1))
        self.inputs += (("snr_db", None, 0), ("hint_db", None, 0))

    def forward(
        self,
        reals: Float[Tensor, "b k h w"],
        precision: Float[Tensor, "b s h w"],
        rate: Float[Tensor, "b 1 h w"],
        mask: Float[Tensor, "b 1 h w"],
        snr_db: Float[Tensor, "b"],
        hint_db: Float[Tensor, "b"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        network = self.network
        scalars = torch.stack((snr_db.clamp(-10, 30) / 10, hint_db / 10, rate.mean(dim=(1, 2, 3))), dim=1)
        condition = network.receiver(scalars)
        gain, variance = network.gains(hint_db, rate)
        latent = network.decoder(reals, precision, gain, variance, network.roi(mask), rate, mask, condition)
        return latent.linear, latent.features, condition


class _Detail(_Part):
    def __init__(self, network: JsccNetwork, denoiser: Denoiser | None) -> None:
        super().__init__()
        self.network, self.denoiser = network, denoiser
        widths = network.config.widths
        self.inputs = (("features", 1, widths[2]), ("coefficients", 1, 2 * network.symbol_limit))
        self.inputs += (("rate", 1, 1), ("mask", 1, 1), ("condition", None, network.config.condition))
        self.outputs = ("image", "detail") + (("log_sigma",) if denoiser is not None else ())

    def forward(
        self,
        features: Float[Tensor, "b f h w"],
        linear: Float[Tensor, "b k h w"],
        rate: Float[Tensor, "b 1 h w"],
        mask: Float[Tensor, "b 1 h w"],
        condition: Float[Tensor, "b c"],
    ) -> tuple[Tensor, ...]:
        decoded = self.network.synthesis(features, self.network.basis.synthesise(linear), rate, mask, condition)
        more = (self.denoiser.log_sigma(decoded),) if self.denoiser is not None else ()
        return decoded.image, decoded.features, *more


class _Denoiser(_Part):
    outputs = ("correction",)

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.inputs = (("noisy", PATCH, 3), ("timestep", None, 0), ("image", PATCH, 3))
        self.inputs += (("detail", PATCH // 4, denoiser.config.features), ("log_sigma", PATCH // 4, 1))
        self.inputs += (("snr_db", None, 0), ("rate", None, 0))

    def forward(
        self,
        noisy: Float[Tensor, "b 3 h w"],
        timestep: Float[Tensor, "b"],
        image: Float[Tensor, "b 3 h w"],
        detail: Float[Tensor, "b f h4 w4"],
        log_sigma: Float[Tensor, "b 1 h4 w4"],
        snr_db: Float[Tensor, "b"],
        rate: Float[Tensor, "b"],
    ) -> Tensor:
        result: Tensor = self.denoiser(noisy, timestep, Decoded(image, detail), log_sigma, snr_db, rate)
        return result


def _parts(codec: JsccCodec) -> dict[str, _Part]:
    parts: dict[str, _Part] = {LATENT: _Latent(codec.network), DETAIL: _Detail(codec.network, codec.denoiser)}
    if codec.denoiser is not None:
        parts[DENOISER] = _Denoiser(codec.denoiser)
    return parts


def _write(part: _Part, path: Path) -> float:
    """Writes a graph and returns its largest difference from torch on pictures of another size and number."""
    pictures, rows, columns = (torch.export.Dim(name, min=1) for name in ("b", "h16", "w16"))
    shapes = tuple(
        {0: pictures} if scale is None else {0: pictures, 2: scale * rows, 3: scale * columns}
        for _, scale, _ in part.inputs
    )
    with warnings.catch_warnings(action="ignore"):  # the exporter's own, about its parts
        program = torch.onnx.export(
            part.eval(),
            _example(part, _EXAMPLE),
            dynamo=True,
            verbose=False,
            input_names=[name for name, _, _ in part.inputs],
            output_names=list(part.outputs),
            dynamic_shapes=shapes,
        )
    assert program is not None
    program.save(str(path))
    difference = max(_difference(part, path, sizes) for sizes in (_EXAMPLE, (1, 3, 5), (3, 1, 1)))
    if difference > TOLERANCE:
        raise ModelError(
            f"{path.name} differs from torch by {difference:.1e}, more than {TOLERANCE:.0e}: do not use it"
        )
    return difference


def _example(part: _Part, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Inputs of about the size that they have in use."""
    generator = torch.Generator().manual_seed(0)
    pictures, rows, columns = sizes

    def draw(name: str, scale: int | None, channels: int) -> Tensor:
        shape: tuple[int, ...] = (pictures, channels) if channels else (pictures,)
        if scale is not None:
            shape = (pictures, channels, rows * scale, columns * scale)
        if name.endswith("_db"):
            return torch.full(shape, 10.0)
        if name in ("rate", "mask", "timestep", "image"):
            return torch.rand(shape, generator=generator)
        values = torch.randn(shape, generator=generator)
        return values.abs() if name == "precision" else values

    return tuple(draw(*given) for given in part.inputs)


@torch.inference_mode()
def _difference(part: _Part, path: Path, sizes: Sequence[int]) -> float:
    import onnxruntime

    inputs = _example(part, sizes)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed: dict[str, Any] = {name: value.numpy() for (name, _, _), value in zip(part.inputs, inputs, strict=True)}
    expected = part(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    pairs = zip(session.run(None, feed), expected, strict=True)
    return max(float((torch.from_numpy(ours) - theirs).abs().max()) for ours, theirs in pairs)
