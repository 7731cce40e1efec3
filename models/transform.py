"""The latent transform g_e (picture → latent) and the direct decoder g_d (latent estimate → coarse picture).

The latent z of LRISC (arXiv 2504.21577) lives on a grid of 16×16-pixel positions. Ours has two parts: `linear`, the
coordinates of each 16×16 block in a learned basis that starts as the principal components of the training pictures,
and `features`, what a convolutional network adds. The linear part carries the picture from the first training step.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from models.layers import Stack, Upsample

PATCH = 16  # pixels per side of a latent position
BLOCK = 3 * PATCH * PATCH
CONTEXT = 2  # channels of `Decoded.features` that are no layer's: rate and region of interest


@dataclass
class Latent:
    """z of one batch: `linear` [b, k, h/16, w/16], of unit variance over natural pictures; `features`, same grid."""

    linear: Float[Tensor, "b k h w"]
    features: Float[Tensor, "b f h w"]


class LinearBasis(nn.Module):
    """Whitened principal components of 16×16 RGB blocks, trained further.

    Attributes:
        log_scale: log standard deviation of each component, pixel units (full scale 1), [k].
    """

    def __init__(self, components: int) -> None:
        super().__init__()
        basis = torch.linalg.qr(torch.randn(BLOCK, components))[0]
        self.analysis = nn.Parameter(basis.T.contiguous())
        self.synthesis = nn.Parameter(basis.clone())
        self.mean = nn.Parameter(torch.full((3,), 0.45))
        self.register_buffer("log_scale", torch.zeros(components))
        self.log_scale: Tensor

    @torch.no_grad()
    def initialise(self, blocks: Float[np.ndarray, "n 768"]) -> None:
        """Sets the basis to the leading principal components of `blocks` (pixel_unshuffle order, values 0…1)."""
        data = torch.from_numpy(blocks).double()
        mean = data.view(len(data), 3, -1).mean(dim=(0, 2))
        centred = (data.view(len(data), 3, -1) - mean[:, None]).reshape(len(data), -1)
        variance, vectors = torch.linalg.eigh(centred.T @ centred / len(data))
        count = self.log_scale.numel()
        variance = variance.flip(0)[:count].clamp_min(1e-8)
        vectors = vectors.flip(1)[:, :count]
        self.mean.copy_(mean)
        self.log_scale.copy_(0.5 * variance.log())
        self.analysis.copy_((vectors / variance.sqrt()).T)
        self.synthesis.copy_(vectors * variance.sqrt())

    def analyse(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h16 w16"]:
        """Coefficients of every 16×16 block."""
        blocks = functional.pixel_unshuffle(image - self.mean[:, None, None], PATCH)
        return functional.conv2d(blocks, self.analysis[:, :, None, None])

    def synthesise(self, linear: Float[Tensor, "b k h16 w16"]) -> Float[Tensor, "b 3 h w"]:
        """The picture of the coefficients; as initialised, exact for what lies in the span of the basis."""
        blocks = functional.conv2d(linear, self.synthesis[:, :, None, None])
        return functional.pixel_shuffle(blocks, PATCH) + self.mean[:, None, None]


class Analysis(nn.Module):
    """The convolutional part of g_e: [b, 3, h, w] in 0…1 with h, w multiples of 16 → features at 1/16 scale."""

    def __init__(self, widths: tuple[int, int, int], condition: int, depth: int) -> None:
        super().__init__()
        quarter, eighth, sixteenth = widths
        self.stem = nn.Conv2d(48, quarter, 3, padding=1)
        self.stage4 = Stack(quarter, condition, 2)
        self.down8 = nn.Conv2d(quarter, eighth, 3, stride=2, padding=1)
        self.stage8 = Stack(eighth, condition, 2)
        self.down16 = nn.Conv2d(eighth, sixteenth, 3, stride=2, padding=1)
        self.stage16 = Stack(sixteenth, condition, depth)
        self.reach = 4 + 2 * depth
        """Latent positions around a place that its features depend on: 6 of 1/4, 5 of 1/8, `2·depth` of 1/16 scale."""

    def forward(self, image: Float[Tensor, "b 3 h w"], condition: Float[Tensor, "b d"]) -> Float[Tensor, "b f h16 w16"]:
        """Features of a batch; `condition` carries the sender's SNR hint and the mean rate."""
        x = self.stem(functional.pixel_unshuffle(image - 0.5, 4))
        x = self.down8(self.stage4(x, condition))
        x = self.down16(self.stage8(x, condition))
        features: Tensor = self.stage16(x, condition)
        return features


@dataclass
class Decoded:
    """Output of the direct decoder.

    `image` x_base [b, 3, h, w]; `features` what the denoiser is conditioned on, [b, f, h/4, w/4]: those of the last
    layer but one, and beside them, as the last two channels, the rate and the region of interest of each position.
    """

    image: Float[Tensor, "b 3 h w"]
    features: Float[Tensor, "b f h4 w4"]


class Synthesis(nn.Module):
    """g_d: received latent → picture, as a correction of the linear picture at 1/4 scale and above."""

    reach = 5
    """Latent positions around a place that its picture depends on: 6 of 1/8 and 8 of 1/4 scale."""

    def __init__(self, widths: tuple[int, int, int], condition: int) -> None:
        super().__init__()
        quarter, eighth, sixteenth = widths
        self.up8 = Upsample(sixteenth, eighth)
        self.stage8 = Stack(eighth, condition, 3)
        self.up4 = Upsample(eighth, quarter)
        self.picture = nn.Conv2d(48, quarter, 3, padding=1)
        self.stage4 = Stack(quarter, condition, 3)
        self.output = nn.Conv2d(quarter, 48, 3, padding=1)
        with torch.no_grad():
            self.output.weight.mul_(0.1)  # the first picture is the linear one

    def forward(
        self,
        latent: Float[Tensor, "b f h16 w16"],
        linear_image: Float[Tensor, "b 3 h w"],
        rate: Float[Tensor, "b 1 h16 w16"],
        mask: Float[Tensor, "b 1 h16 w16"],
        condition: Float[Tensor, "b d"],
    ) -> Decoded:
        """The coarse picture from latent features and the linear picture.

        `rate` and `mask` are only passed on: the denoiser, which is to invent where little was sent and to leave alone
        what a user wants kept, sees otherwise the mean rate of the picture alone.
        """
        x = self.up4(self.stage8(self.up8(latent), condition))
        x = self.stage4(x + self.picture(functional.pixel_unshuffle(linear_image - 0.5, 4)), condition)
        correction = functional.pixel_shuffle(self.output(x).float(), 4)
        context = functional.interpolate(torch.cat((rate, mask), dim=1), scale_factor=PATCH // 4, mode="nearest")
        return Decoded(linear_image + correction, torch.cat((x, context.to(x.dtype)), dim=1))
