"""Gives a model's denoiser another JSCC network, to be trained on together.

    python scripts/graft.py deepjscc lrisc runs/start/lrisc --data train/ --without-block 3

The network of LRISC that had been trained for pictures all along sent worse pictures than our DeepJSCC, which had been
trained for the mean squared error alone: by 0.6 dB of PSNR at 0 dB and by more than 3 dB at 20 dB, CBR 1/6. So the
network changes, and what had been learned beside it stays: the prior goes on with the other network's linear
coefficients, and the denoiser sees the other decoder's features through the affine map that makes them most like those
that it knew (least squares over received training pictures). Residual blocks can be left out: with all of them and a
denoiser LRISC would have more parameters than DeepJSCC. The result is a start for the denoiser stage of `lrisc train`,
no finished model.
"""

import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script sees its own folder only

import torch
import typer
from torch import Tensor
from torch.nn import functional

from models import channel
from models.data import CropBatches, EncodedPicture, read_encoded
from models.denoiser import Denoiser
from models.errors import ModelError
from models.network import JsccNetwork
from models.objectives import SYMBOLS_RANGE, adaptive_counts, no_mask, simulate
from models.pipeline import JsccCodec
from models.transform import CONTEXT, PATCH

BATCH, CROP, SEED = 8, 160, 5  # each batch is received at its own SNR and rate
RIDGE = 1e-3  # of the least squares, relative to the mean power of the features


@dataclass
class FeatureMap:
    """An affine map of the features of the direct decoder, all but the last `CONTEXT`: y = matrix·x + offset."""

    matrix: Tensor
    offset: Tensor
    explained: float
    """Share of the variance of the features that the denoiser knew."""


def adaptive_network(taken: JsccNetwork, kept: JsccNetwork, without_blocks: Collection[int]) -> JsccNetwork:
    """`taken` with a prior, and with fewer blocks in f_d.

    One of uniform rate gets the prior and the weights of the region of interest of `kept`. What it would make of a
    region of interest had never been trained: those inputs begin at zero.

    Raises:
        ModelError: the two do not fit, or there are no such blocks.
    """
    depth = int(taken.config.decoder_depth)
    if kept.prior is None or taken.config.components != kept.config.components:
        raise ModelError("needs a prior, and two networks of as many components")
    if missing := sorted(set(without_blocks) - set(range(depth))):
        raise ModelError(f"f_d has blocks 0 to {depth - 1}, none of number {missing[0]}")
    left = [index for index in range(depth) if index not in without_blocks]
    blocks = "decoder.stack.blocks."
    weights = {name: value for name, value in taken.state_dict().items() if not name.startswith(blocks)}
    for place, index in enumerate(left):
        block = taken.decoder.stack.blocks[index].state_dict()
        weights |= {f"{blocks}{place}.{name}": value for name, value in block.items()}
    if taken.prior is None:
        weights |= {f"prior.{name}": value for name, value in kept.prior.state_dict().items()}
        weights |= {f"roi.{name}": value for name, value in kept.roi.state_dict().items()}
        for entry in ("encoder.entry.weight", "decoder.entry.weight"):
            weights[entry] = weights[entry].clone()
            weights[entry][:, -1] = 0  # the mask is the last input of both
    result: JsccNetwork = JsccNetwork(**{**taken.config, "adaptive": True, "decoder_depth": len(left)})
    result.load_state_dict(weights)
    result.eval()
    return result


@torch.no_grad()
def fit(known: JsccNetwork, new: JsccNetwork, pictures: list[EncodedPicture], number: int) -> FeatureMap:
    """The map from the features of `new` to those of `known`, over as many batches sent through the same channels."""
    batches = CropBatches(pictures, BATCH, CROP, number, SEED, 0, 1)
    side = CROP // PATCH
    width = int(new.config.widths[0])
    gram, cross = torch.zeros(width + 1, width + 1).double(), torch.zeros(width + 1, known.config.widths[0]).double()
    power = torch.zeros(cross.shape[1]).double()
    low, high = channel.SNR_RANGE_DB
    for index in range(number):
        image = batches[index].float() / 255
        generator = torch.Generator().manual_seed(index)
        rate, snr = torch.rand(2, generator=generator)
        mean = torch.full((BATCH,), SYMBOLS_RANGE[0] * (SYMBOLS_RANGE[1] / SYMBOLS_RANGE[0]) ** rate.item())
        counts = adaptive_counts(known.demand(image), no_mask(image), mean)
        snr_db = torch.full((BATCH,), low + (high - low) * snr.item())
        state = channel.draw((BATCH, known.symbol_limit, side, side), generator, snr_db)
        x, y = (
            simulate(network, image, counts, no_mask(image), state, torch.Generator().manual_seed(index)).features
            for network in (new, known)
        )
        x, y = (features[:, :-CONTEXT].permute(0, 2, 3, 1).flatten(0, 2).double() for features in (x, y))
        x = functional.pad(x, (0, 1), value=1.0)
        gram, cross, power = gram + x.T @ x, cross + x.T @ y, power + y.square().sum(dim=0)
    ridge = RIDGE * gram.diagonal()[:-1].mean() * torch.eye(width + 1).double()
    ridge[-1, -1] = 0
    solution = torch.linalg.solve(gram + ridge, cross)
    left = power - 2 * (solution * cross).sum(dim=0) + (solution * (gram @ solution)).sum(dim=0)
    variance = power - cross[-1].square() / gram[-1, -1]
    explained = 1 - (left.sum() / variance.sum()).item()
    return FeatureMap(solution[:-1].T.float(), solution[-1].float(), explained)


@torch.no_grad()
def seen_through(denoiser: Denoiser, features: FeatureMap) -> None:
    """Changes the denoiser so that it does with x what it did with matrix·x + offset, but for a rim of 4 pixels."""
    for conv in (denoiser.stem, denoiser.scale):
        weight = conv.weight[:, conv.in_channels - CONTEXT - len(features.matrix) : -CONTEXT]
        assert conv.bias is not None
        conv.bias.add_(torch.einsum("oikl,i->o", weight, features.offset))
        weight.copy_(torch.einsum("oikl,ij->ojkl", weight, features.matrix))


def main(
    taken: Annotated[str, typer.Argument(metavar="NETWORK", help="Model whose JSCC network is taken.")],
    kept: Annotated[str, typer.Argument(metavar="MODEL", help="Model whose denoiser is kept, and prior if need be.")],
    out: Annotated[Path, typer.Argument(help="Folder of the result.")],
    data: Annotated[list[Path], typer.Option(help="Training pictures: folders or tar files.")],
    without_block: Annotated[list[int] | None, typer.Option(help="Residual blocks of f_d to leave out.")] = None,
    batches: Annotated[int, typer.Option(min=1, help="Of 8 crops, over which the features are compared.")] = 24,
) -> None:
    """Put the JSCC network of NETWORK under the denoiser of MODEL."""
    try:
        other, model = JsccCodec.from_pretrained(taken), JsccCodec.from_pretrained(kept)
        if model.denoiser is None:
            raise ModelError(f"{kept} has no denoiser")
        network = adaptive_network(other.network, model.network, without_block or [])
        features = fit(model.network, network, read_encoded(data), batches)
        seen_through(model.denoiser, features)
        result = JsccCodec(model.card, network, model.denoiser, model.scheduler)
        result.save(out, model.name, model.card.default_steps)
    except ModelError as error:
        print(f"graft: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    size = f"{result.parameters / 1e6:.2f} M parameters"
    print(f"{out}: {size}; the map explains {features.explained:.1%} of the features")


if __name__ == "__main__":
    typer.run(main)
