"""Strong symbols share their way with weak ones, so that the loss of one does not take a block's mean colour with it.

f_e sends the coefficients of the picture itself, the first ones of a position by far the most important. The first
symbol therefore travels as its sum and its difference with the last one, the second with the last but one, and so on: a
rotation by 45°, as in the signal space diversity of Boutros and Viterbi (1998). White noise leaves exactly what it
would without. Of a pair that lost one half, or has it in a fade, the strong symbol is still there, disturbed by the
weak one, and it is the weak one that is lost. It costs neither symbols nor energy.
"""

import torch
from jaxtyping import Bool, Complex64, Float, Int64
from torch import Tensor

from models.network import LEAST_NOISE


def rotate(symbols: Complex64[Tensor, "b s h w"], counts: Int64[Tensor, "b h w"]) -> Complex64[Tensor, "b s h w"]:
    """Each pair (a, b) of the first and the last of a position's `counts` symbols as ((a + b)/√2, (a − b)/√2).

    What lies beyond a position's `counts`, and the middle one of an odd number, stays as it is.
    """
    partner, first, last = _pairs(symbols, counts)
    other = symbols.gather(1, partner)
    mixed = torch.where(first, symbols + other, other - symbols) * 0.5**0.5
    return torch.where(first | last, mixed, symbols)


def rotate_back(
    symbols: Complex64[Tensor, "b s h w"], noise_var: Float[Tensor, "b s h w"], counts: Int64[Tensor, "b h w"]
) -> tuple[Complex64[Tensor, "b s h w"], Float[Tensor, "b s h w"]]:
    """Undoes `rotate`: unbiased linear MMSE estimates of the symbols, and the variance of noise and partner in each.

    What power the symbols have, on which it depends how much one disturbs the other, is measured on the pairs of the
    picture that arrived whole.

    Args:
        symbols: received; ignored where they were lost or not sent.
        noise_var: of each, relative to unit symbol power, inf = lost or not sent. Below `LEAST_NOISE` counts as that.
        counts: symbols per position.
    """
    partner, first, last = _pairs(symbols, counts)
    paired = first | last
    precision = 1 / noise_var.clamp_min(LEAST_NOISE)
    symbols = torch.where(precision > 0, symbols, 0)
    # Of every pair the sum and the difference, seen from either of its places.
    there, other = precision.gather(1, partner), symbols.gather(1, partner)
    add, subtract = torch.where(first, symbols, other), torch.where(first, other, symbols)
    of_sum, of_difference = torch.where(first, precision, there), torch.where(first, there, precision)
    sign = torch.where(first, 1.0, -1.0)
    rival = _rival_power(add, subtract, of_sum, of_difference, first, partner)
    # A symbol's direction in the pair is (1, ±1)/√2, its rival's (1, ∓1)/√2; R is the noise and the rival together:
    # aᴴR⁻¹a by the matrix inversion lemma.
    alike, unlike = (of_sum + of_difference) / 2, (of_sum - of_difference) / 2
    share = unlike * rival / (1 + rival * alike)
    gain = alike - unlike * share
    own = (add * of_sum + sign * subtract * of_difference) * 0.5**0.5
    rivals = (add * of_sum - sign * subtract * of_difference) * 0.5**0.5
    found = (own - share * rivals) / torch.where(gain > 0, gain, 1)
    return torch.where(paired, found, symbols), torch.where(paired, 1 / gain, noise_var.clamp_min(LEAST_NOISE))


def _pairs(
    symbols: Complex64[Tensor, "b s h w"], counts: Int64[Tensor, "b h w"]
) -> tuple[Int64[Tensor, "b s h w"], Bool[Tensor, "b s h w"], Bool[Tensor, "b s h w"]]:
    """Where the partner of each symbol is, and whether it is in the first or the last half of a pair."""
    limit = symbols.shape[1]
    order, count = torch.arange(limit, device=symbols.device)[None, :, None, None], counts[:, None].clamp_max(limit)
    first, last = order < count // 2, (order >= count - count // 2) & (order < count)
    return torch.where(first | last, count - 1 - order, order), first, last


@torch.no_grad()
def _rival_power(
    add: Complex64[Tensor, "b s h w"],
    subtract: Complex64[Tensor, "b s h w"],
    of_sum: Float[Tensor, "b s h w"],
    of_difference: Float[Tensor, "b s h w"],
    first: Bool[Tensor, "b s h w"],
    partner: Int64[Tensor, "b s h w"],
) -> Float[Tensor, "b s h w"]:
    """Mean power of each symbol's partner over the picture: of the k-th strong and of the k-th weak ones. 1 unknown."""
    whole = first & (of_sum > 0) & (of_difference > 0)
    noise = torch.where(whole, (1 / of_sum + 1 / of_difference) / 2, 0)
    strong, weak = (
        (torch.where(whole, ((add + way * subtract).abs().square() / 2 - noise), 0)).sum(dim=(2, 3), keepdim=True)
        / whole.sum(dim=(2, 3), keepdim=True)
        for way in (1, -1)
    )
    strong, weak = (power.nan_to_num(1.0).clamp_min(0.01).expand(add.shape) for power in (strong, weak))
    return torch.where(first, weak, strong.gather(1, partner))
