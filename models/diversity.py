"""The strongest symbols of a position travel twice, so that the loss of one of them does not take a block with it.

f_e sends the coefficients of the picture itself, the first ones of a position by far the most important: where one is
lost, so is the mean colour of 16×16 pixels, or its gradient. Each of these few is therefore sent as two copies of half
the energy, far apart in the stream, and the receiver adds them up by maximum-ratio combining (Brennan, "Linear
diversity combining techniques", 1959). White noise then leaves exactly what one copy of the whole energy would; a lost
copy costs 3 dB of one coefficient instead of the coefficient. What is paid with are the weakest symbols.
"""

import torch
from jaxtyping import Complex64, Float, Int64
from torch import Tensor

from models.modulation import sent_mask
from models.network import LEAST_NOISE

FREE = 16  # symbols of a position below which none is repeated: there is too little to pay with
SHARE = 16  # one in so many of those above is a copy


def copies(counts: Int64[Tensor, "*b h w"]) -> Int64[Tensor, "*b h w"]:
    """How many symbols of each position travel twice, the first ones, given how many it sends with the copies."""
    return ((counts - FREE) // SHARE).clamp_min(0)


def repeat(symbols: Complex64[Tensor, "b s h w"], counts: Int64[Tensor, "b h w"]) -> Complex64[Tensor, "b s h w"]:
    """`counts` symbols per position, from `counts − copies(counts)` different ones, then the copies of the first."""
    order = torch.arange(symbols.shape[1], device=symbols.device)[None, :, None, None]
    twice = copies(counts)[:, None]
    different = counts[:, None] - twice
    source = torch.where(order < different, order, (order - different).clamp_min(0))
    halved = (order < twice) | ((order >= different) & (order < counts[:, None]))
    return torch.where(halved, 0.5**0.5, 1.0) * symbols.gather(1, source)


def combine(
    symbols: Complex64[Tensor, "b s h w"], noise_var: Float[Tensor, "b s h w"], counts: Int64[Tensor, "b h w"]
) -> tuple[Complex64[Tensor, "b s h w"], Float[Tensor, "b s h w"]]:
    """Undoes `repeat`: the `counts − copies(counts)` different symbols and what noise is left on each.

    Args:
        symbols: received; ignored where nothing was sent.
        noise_var: of each, relative to unit symbol power, inf = lost. Below `LEAST_NOISE` counts as that.
        counts: symbols per position as sent, with the copies.
    """
    limit = symbols.shape[1]
    order = torch.arange(limit, device=symbols.device)[None, :, None, None]
    different = (counts - copies(counts))[:, None]
    twice = order < copies(counts)[:, None]
    copy = (order + different).clamp_max(limit - 1).expand(symbols.shape)
    first, second = 1 / noise_var.clamp_min(LEAST_NOISE), 1 / noise_var.clamp_min(LEAST_NOISE).gather(1, copy)
    precision = first + second  # of the half of the energy that each copy is
    received = torch.where(first > 0, symbols, 0) * first + torch.where(second > 0, symbols.gather(1, copy), 0) * second
    added = received / torch.where(precision > 0, precision, 1)
    sent = sent_mask(counts - copies(counts), limit)
    return (
        torch.where(twice, 2**0.5 * added, symbols),
        torch.where(twice, 2 / precision, noise_var).masked_fill(~sent, torch.inf),
    )
