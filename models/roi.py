"""Fusion of the latent with a region of interest by feature weighting: z ← z ⊙ (1 + softplus(w)·m).

The published paper (arXiv 2504.21577) names feature weighting without printing the formula; this one is ours. The
mask travels in the side information on the groups of the rate map, so that the receiver can undo the weighting.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class RoiWeighting(nn.Module):
    """Per-channel weight of the region of interest. A mask of zeros multiplies by exactly 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), -0.4))  # softplus ≈ 0.5: +3.5 dB of power inside at first

    def forward(self, mask: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b c h w"]:
        """Factor by which z is multiplied at the sender and divided at the receiver."""
        return 1 + functional.softplus(self.weight)[:, None, None] * mask
