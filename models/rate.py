"""Adaptive rate: a learned prior p(z) and k_i = Q(β(1+γm_i)·(−log p(z_i))), arXiv 2504.21577.

The prior is a mean-zero scale hyperprior (Ballé et al. 2018, "Variational image compression with a scale hyperprior")
over the linear part of the latent. It exists at the sender only: what the receiver needs is the rate map, which is
quantised to `LEVELS`, shared by the positions of a group, and coded in the side information.
"""

from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

LEVELS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 160)
"""Symbols per position that the rate map can ask for; any other number arises only from spreading the remainder."""

_LEVELS = torch.tensor(LEVELS)

STEP = 0.1  # quantisation step of the transform coefficients, pixel full scale 1: the quality at which bits are counted
ROI_GAIN = 1.8  # γ: how much more rate a position inside the region of interest gets


def _gaussian_bits(value: Tensor, scale: Tensor) -> Tensor:
    """−log2 of the probability of the unit-wide bin around `value` under a zero-mean Gaussian."""
    upper = torch.special.ndtr((0.5 - value.abs()) / scale)
    lower = torch.special.ndtr((-0.5 - value.abs()) / scale)
    return -torch.log2((upper - lower).clamp_min(1e-9))


class Prior(nn.Module):
    """Scale hyperprior over the quantised transform coefficients of each position.

    Args:
        components: number of linear coefficients per position.
        width: channels of the two small networks h_e and h_s.
    """

    def __init__(self, components: int, width: int = 96, hyper: int = 32) -> None:
        super().__init__()
        self.analysis = nn.Sequential(
            nn.Conv2d(components, width, 1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(width, hyper, 3, padding=1),
        )
        self.synthesis = nn.Sequential(
            nn.Conv2d(hyper, 4 * width, 1),
            nn.PixelShuffle(2),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, components, 1),
        )
        self.hyper_log_scale = nn.Parameter(torch.zeros(hyper))

    def forward(
        self, linear: Float[Tensor, "b k h w"], log_scale: Float[Tensor, "k"], noise: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "b h w"], Float[Tensor, ""]]:
        """Bits of each position, and bits per position that the hyper latent takes.

        Values are rounded, or have uniform noise from the generator `noise` in place of the quantisation, through
        which gradients pass.
        """
        coefficients = linear * (log_scale.exp() / STEP)[:, None, None]
        even = functional.pad(
            torch.asinh(coefficients), (0, linear.shape[-1] % 2, 0, linear.shape[-2] % 2), mode="replicate"
        )
        hyper = self.analysis(even).float()
        if noise is None:
            hyper, coefficients = hyper.round(), coefficients.round()
        else:
            rand = partial(torch.rand, generator=noise, device=noise.device)
            hyper = hyper + rand(hyper.shape).to(hyper) - 0.5
            coefficients = coefficients + rand(coefficients.shape).to(coefficients) - 0.5
        scale = self.synthesis(hyper).float()[..., : linear.shape[-2], : linear.shape[-1]]
        scale = (scale + (log_scale - np.log(STEP))[:, None, None]).clamp(-4, 6).exp()
        bits = _gaussian_bits(coefficients, scale).sum(dim=1)
        hyper_bits = _gaussian_bits(hyper, self.hyper_log_scale.exp()[:, None, None]).sum() / bits.numel()
        return bits, hyper_bits


def quantise(rate: Float[Tensor, "*n"], levels: Float[Tensor, "levels"]) -> Int64[Tensor, "*n"]:
    """Index of the level nearest to `rate` on a logarithmic scale."""
    return torch.bucketize(rate.clamp_min(1e-6), (levels[1:] * levels[:-1]).sqrt())


def levels_on(device: torch.device) -> Int64[Tensor, "levels"]:
    """`LEVELS` on a device; does not wait for what a GPU has to do before."""
    return _LEVELS.to(device, non_blocking=True)


def allocate(
    demand: Float[Tensor, "b n"], positions: Float[Tensor, "b n"], budget: Float[Tensor, "b"]
) -> Int64[Tensor, "b n"]:
    """Level index of every group so that the symbols of each picture stay within its budget.

    β is bisected per picture. Where even the lowest level is too much, every group gets it and the sum exceeds the
    budget: the caller checks.

    Args:
        demand: (1+γm)·(−log p) of each group, any positive unit.
        positions: number of latent positions in each group.
        budget: symbols to spend.
    """
    levels = levels_on(demand.device).float()
    low, high = torch.full_like(budget, -20.0), torch.full_like(budget, 20.0)  # log β
    log_demand = demand.clamp_min(1e-3).log()
    for _ in range(24):
        middle = (low + high) / 2
        spent = (levels[quantise((log_demand + middle[:, None]).exp(), levels)] * positions).sum(dim=1)
        fits = spent <= budget
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return quantise((log_demand + low[:, None]).exp(), levels)


def spread_remainder(counts: Int64[Tensor, "b n"], total: Int64[Tensor, "b"], limit: int) -> Int64[Tensor, "b n"]:
    """Adds or removes symbols evenly, earliest positions first, until each row's sum is `total`.

    The receiver repeats this from the number of symbols that it got, so the remainder costs no side information.

    Raises:
        ValueError: a row's total can't be reached within 1…limit symbols per position.
    """
    counts = counts.clone()
    for row, wanted in zip(counts, total.tolist(), strict=True):
        if not len(row) <= wanted <= limit * len(row):
            raise ValueError(f"{wanted} symbols do not fit {len(row)} latent positions of 1 to {limit} symbols")
        missing = wanted - int(row.sum())
        while missing:
            room = torch.nonzero(row < limit if missing > 0 else row > 1)[:, 0]
            share, rest = divmod(abs(missing), len(room))
            change = torch.full((len(room),), share, dtype=torch.int64)
            change[:rest] += 1
            before = row[room]
            row[room] = (before + (change if missing > 0 else -change)).clamp(1, limit)
            missing = wanted - int(row.sum())
    return counts
