"""Building blocks shared by the transform, the JSCC coder and the denoiser.

No normalisation layers: their statistics would depend on the picture's size and make tiles of one picture disagree.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class Conditioning(nn.Module):
    """Maps a few scalars that describe the channel to one vector that every FiLM layer reads.

    Args:
        inputs: number of scalars, already scaled to about unit range.
        width: length of the resulting vector.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, scalars: Float[Tensor, "b i"]) -> Float[Tensor, "b w"]:
        """The vector for a batch of scalars."""
        result: Tensor = self.net(scalars)
        return result


class ResBlock(nn.Module):
    """x + conv3(GELU(FiLM(conv3 x))).

    FiLM: Perez et al. 2018, "FiLM: Visual Reasoning with a General Conditioning Layer" (arXiv 1709.07871).
    """

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(condition, 2 * channels)
        with torch.no_grad():  # a deep stack starts close to the identity
            self.second.weight.mul_(0.1)
            self.film.weight.mul_(0.1)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        """`condition` scales and shifts every channel."""
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        hidden = self.first(x) * (1 + scale) + shift
        result: Tensor = x + self.second(functional.gelu(hidden))
        return result


class Stack(nn.Module):
    """`depth` residual blocks of one width in a row."""

    def __init__(self, channels: int, condition: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(channels, condition) for _ in range(depth))

    def forward(self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        """All blocks see the same `condition`."""
        for block in self.blocks:
            x = block(x, condition)
        return x


class Upsample(nn.Module):
    """1×1 convolution and pixel shuffle by 2: [b, inputs, h, w] → [b, outputs, 2h, 2w]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, 4 * outputs, 1)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        """Twice the resolution."""
        return functional.pixel_shuffle(self.conv(x), 2)
