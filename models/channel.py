"""The training channel: per-symbol noise variance as the radio's receiver reports it.

Generate and apply are apart: `draw` makes a random channel state, the network applies it to its own symbols.
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

SNR_RANGE_DB = (-2.0, 22.0)
HINT_RANGE_DB = (-4.0, 26.0)


@dataclass
class ChannelState:
    """One draw for a batch.

    `noise_var` [b, s, h, w] relative to unit symbol power, inf = erased; `snr_db` what the receiver believes and
    `hint_db` what the sender believed, [b].
    """

    noise_var: Float[Tensor, "b s h w"]
    snr_db: Float[Tensor, "b"]
    hint_db: Float[Tensor, "b"]


def draw(
    shape: tuple[int, int, int, int], generator: torch.Generator, snr_db: Float[Tensor, "b"] | None = None
) -> ChannelState:
    """Draws SNR −2…22 dB; half of the pictures AWGN, a quarter faded, a quarter with 0–40 % erasures.

    Args:
        shape: (b, s, h, w) of the symbol grid.
        generator: of the device that the draw is to be on.
        snr_db: fixes the SNR and makes the channel plain AWGN with perfect knowledge (validation).
    """
    batch = shape[0]
    if snr_db is not None:
        return ChannelState((10 ** (-snr_db / 10))[:, None, None, None].expand(shape).clone(), snr_db, snr_db)
    low, high = SNR_RANGE_DB
    rand = partial(torch.rand, generator=generator, device=generator.device)
    true = low + (high - low) * rand(batch)
    noise_var = (10 ** (-true / 10))[:, None, None, None]
    kind = rand(batch)[:, None, None, None]
    # After equalisation a carrier of gain |h|² has noise N/|h|²; interleaving makes neighbours independent.
    fading = torch.empty(shape, device=generator.device).exponential_(generator=generator).clamp_min(1e-3)
    # Mixing with a flat part spans Rician channels between AWGN and Rayleigh.
    flat = rand(batch)[:, None, None, None]
    noise_var = torch.where(kind < 0.25, noise_var / (flat + (1 - flat) * fading), noise_var)
    erased = rand(shape) < 0.4 * rand(batch)[:, None, None, None]
    noise_var = noise_var.masked_fill(erased & (kind >= 0.75), torch.inf)
    believed = true + 0.7 * torch.randn(batch, generator=generator, device=generator.device)
    error = torch.randn(batch, generator=generator, device=generator.device)
    wide = rand(batch)
    hint = true + error * torch.where(wide < 0.4, 0.0, torch.where(wide < 0.8, 1.5, 5.0))
    return ChannelState(noise_var, believed, hint.clamp(*HINT_RANGE_DB))
