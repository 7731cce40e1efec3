"""The conditional denoiser: predicts x0, the error of the coarse picture, from its noisy version.

What is diffused is the residual (x − x_base)/σ with σ predicted for each place from the direct decoder's features, so
that it has about unit variance everywhere; the network sees x_base and those features at 1/4 scale.
"""

import math
from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from models.layers import Conditioning, Stack, Upsample
from models.transform import Decoded

FRAME = 16  # height and width of the input must be multiples of this
UNSHUFFLE = 4  # pixels per side of a block, which is painted from one place of the finest scale


class Denoiser(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers has no type information
    """U-Net at 1/4, 1/8 and 1/16 scale over 4×4-unshuffled pixels, FiLM on noise level, SNR and rate.

    Args:
        widths: channels at the three scales.
        features: channels of `Decoded.features`.
        condition: width of the FiLM vector.
    """

    config_name = "config.json"
    reach = 14
    """Latent positions around a place that its x0 depends on: 11 of 1/4, 9 of 1/8 and 6 of 1/16 scale."""

    @register_to_config
    def __init__(self, widths: Sequence[int] = (64, 128, 224), features: int = 66, condition: int = 64) -> None:
        super().__init__()
        quarter, eighth, sixteenth = widths
        self.scale = nn.Conv2d(features, 1, 3, padding=1)
        self.conditioning = Conditioning(10, condition)
        self.stem = nn.Conv2d(48 + 48 + 1 + features, quarter, 3, padding=1)
        self.down4 = Stack(quarter, condition, 2)
        self.to8 = nn.Conv2d(quarter, eighth, 3, stride=2, padding=1)
        self.down8 = Stack(eighth, condition, 2)
        self.to16 = nn.Conv2d(eighth, sixteenth, 3, stride=2, padding=1)
        self.middle = Stack(sixteenth, condition, 3)
        self.from16 = Upsample(sixteenth, eighth)
        self.up8 = Stack(eighth, condition, 2)
        self.from8 = Upsample(eighth, quarter)
        self.up4 = Stack(quarter, condition, 2)
        self.output = nn.Conv2d(quarter, 48, 3, padding=1)
        with torch.no_grad():
            self.output.weight.mul_(0.1)
            self.scale.weight.zero_()
        self.scale.bias = nn.Parameter(torch.full((1,), -3.0))
        self.output.bias = nn.Parameter(torch.zeros(48))

    def log_sigma(self, base: Decoded) -> Float[Tensor, "b 1 h4 w4"]:
        """Log standard deviation of the coarse picture's error, at 1/4 scale."""
        result: Tensor = self.scale(base.features)
        return result.float().clamp(-7.0, 0.0)

    def forward(
        self,
        noisy: Float[Tensor, "b 3 h w"],
        timestep: Float[Tensor, "b"],
        base: Decoded,
        log_sigma: Float[Tensor, "b 1 h4 w4"],
        snr_db: Float[Tensor, "b"],
        rate: Float[Tensor, "b"],
    ) -> Float[Tensor, "b 3 h w"]:
        """The network's part of x0; `models.sampler.predict` holds the preconditioning around it.

        Args:
            noisy: noisy normalised residual, attenuated by √ᾱ, sides multiples of 16.
            timestep: 0…1, fraction of the scheduler's training steps.
            base: the direct decoder's output for the same pictures.
            log_sigma: what `log_sigma` says of `base`.
            snr_db: SNR that the receiver estimated.
            rate: mean of `models.jscc.rate_map` over the picture.
        """
        angles = timestep[:, None] * math.pi * 2.0 ** torch.arange(-1, 3, device=noisy.device)
        waves = torch.cat((angles.sin(), angles.cos()), dim=1)
        scalars = torch.cat((waves, snr_db.clamp(-10, 30)[:, None] / 10, rate[:, None]), dim=1)
        condition = self.conditioning(scalars)
        inputs = (
            functional.pixel_unshuffle(noisy, UNSHUFFLE),
            functional.pixel_unshuffle(base.image - 0.5, UNSHUFFLE),
            log_sigma / 3 + 1,
            base.features,
        )
        fine = self.down4(self.stem(torch.cat([x.to(noisy.dtype) for x in inputs], dim=1)), condition)
        coarse = self.down8(self.to8(fine), condition)
        deepest = self.middle(self.to16(coarse), condition)
        coarse = self.up8(coarse + self.from16(deepest), condition)
        fine = self.up4(fine + self.from8(coarse), condition)
        return functional.pixel_shuffle(self.output(fine).float(), UNSHUFFLE)
