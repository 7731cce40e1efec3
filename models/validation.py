"""How good a network is on held-out pictures while it is being trained."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from models import channel
from models.classic import ClassicNetwork, draw_awgn
from models.data import decode, read_encoded
from models.denoiser import Denoiser
from models.errors import ModelError
from models.jscc import rate_map
from models.lpips import LPIPS, lpips_unavailable
from models.network import JsccNetwork
from models.objectives import adaptive_counts, simulate
from models.sampler import make_scheduler, sample
from models.transform import PATCH

CELLS = ((0.0, 1 / 12), (10.0, 1 / 24), (10.0, 1 / 12), (20.0, 1 / 12))  # (SNR in dB, CBR)
CBRS = (1 / 24, 1 / 12)  # of a network that is trained for one SNR
SIDE = 256  # pixels


def load_validation(sources: list[Path]) -> UInt8[Tensor, "n 3 s s"]:
    """Centre crops of 256×256 of the validation pictures; smaller pictures are left out."""
    crops = []
    for encoded in read_encoded(sources):
        picture = np.asarray(decode(encoded))
        top, left = ((side - SIDE) // 2 for side in picture.shape[:2])
        if min(top, left) >= 0:
            crops.append(picture[top : top + SIDE, left : left + SIDE])
    if not crops:
        raise ModelError(f"no validation picture has {SIDE}×{SIDE} pixels or more")
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


Transfer = Callable[[Float[Tensor, "b 3 s s"], float, float, torch.Generator], Float[Tensor, "b 3 s s"]]
"""(pictures, SNR in dB, CBR, generator) to the pictures as received over an AWGN channel."""


def transfer_of(network: JsccNetwork, denoiser: Denoiser | None, steps: int = 0) -> Transfer:
    """Of a JSCC network, with `steps` of a denoiser; side information is not charged."""

    def transfer(image: Tensor, snr: float, cbr: float, generator: torch.Generator) -> Tensor:
        device = image.device
        grid = (len(image), image.shape[-2] // PATCH, image.shape[-1] // PATCH)
        mask = torch.zeros(grid[0], 1, *grid[1:], device=device)
        mean = torch.full((len(image),), cbr * 3 * PATCH * PATCH, device=device)
        if network.prior is None:
            counts = mean.round().long()[:, None, None].expand(grid).clone()
        else:
            counts = adaptive_counts(network.demand(image), mask, mean)
        snr_db = torch.full((len(image),), snr)
        state = channel.draw((grid[0], network.symbol_limit, *grid[1:]), generator, snr_db)
        base = simulate(network, image, counts, mask, state, generator)
        if denoiser is None:
            return base.image
        rate = rate_map(counts).mean(dim=(1, 2, 3))
        return base.image + sample(denoiser, make_scheduler(), base, snr_db.to(device), rate, steps, [generator])

    return transfer


def classic_transfer(network: ClassicNetwork) -> Transfer:
    """Of a network that knows one CBR and is told no SNR."""
    return lambda image, snr, _, generator: network.receive(draw_awgn(network.transmit(image), snr, generator))


Loss = Callable[[Float[Tensor, "b 3 s s"], Float[Tensor, "b 3 s s"]], Float[Tensor, ""]]
"""(received, sent) to what a training minimises, the mean over the pictures."""


@torch.no_grad()
def validate(
    transfer: Transfer,
    loss: Loss,
    pictures: UInt8[Tensor, "n 3 s s"],
    device: torch.device,
    cells: Sequence[tuple[float, float]] = CELLS,
) -> dict[str, float]:
    """Mean PSNR and LPIPS-Alex per cell (SNR in dB, CBR), and the mean loss over all of them."""
    perceptual = LPIPS("alex").eval().to(device) if lpips_unavailable() is None else None
    results: dict[str, float] = {}
    losses = 0.0
    for snr, cbr in cells:
        psnr, distances = [], []
        for index, batch in enumerate(pictures.split(4)):
            image = batch.to(device).float() / 255
            result = transfer(image, snr, cbr, torch.Generator().manual_seed(index))
            losses += loss(result, image).item() * len(image)
            result = (result.clamp(0, 1) * 255).round() / 255
            mse = (result - image).square().mean(dim=(1, 2, 3))
            psnr.append(-10 * mse.log10())
            if perceptual is not None:
                distances.append(perceptual(result, image))
        cell = f"{snr:g}dB_1/{round(1 / cbr)}"
        results[f"psnr_{cell}"] = torch.cat(psnr).mean().item()
        if distances:
            results[f"lpips_{cell}"] = torch.cat(distances).mean().item()
    return {**results, "loss": losses / (len(cells) * len(pictures))}
