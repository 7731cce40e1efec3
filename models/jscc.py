"""The JSCC encoder f_e and decoder f_d, both aware of the SNR, of the rate and (f_d) of each symbol's confidence."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.layers import Stack
from models.transform import Latent

RATE_SCALE = 5.0  # log k of 1…160 symbols becomes about unit range


def rate_map(counts: Tensor) -> Float[Tensor, "b 1 h w"]:
    """log k scaled to about 0…1, the form in which the networks see the rate of each position."""
    return counts.float().clamp_min(1).log()[:, None] / RATE_SCALE


class LinearGains(nn.Module):
    """Amplitude and assumed variance of each linear coefficient, given the sender's SNR hint and the position's rate.

    Both ends know the hint (it is in the side information) and the rate map, so they share this module: the sender
    scales by `gain`, the receiver's Wiener estimate uses both. At first the power of a component goes with its standard
    deviation, the optimum of linear coding over a Gaussian channel at high SNR (Lee and Petersen 1976).
    """

    def __init__(self, components: int) -> None:
        super().__init__()
        self.log_gain = nn.Parameter(torch.zeros(components))
        self.net = nn.Sequential(nn.Conv2d(2, 64, 1), nn.GELU(), nn.Conv2d(64, 2 * components, 1))
        with torch.no_grad():
            for parameter in self.net[-1].parameters():
                parameter.zero_()

    @torch.no_grad()
    def initialise(self, log_scale: Float[Tensor, "k"]) -> None:
        """Sets the gains for components of the given log standard deviations."""
        self.log_gain.copy_(0.5 * (log_scale - log_scale.mean()))

    def forward(
        self, hint_db: Float[Tensor, "b"], rate: Float[Tensor, "b 1 h w"]
    ) -> tuple[Float[Tensor, "b k h w"], Float[Tensor, "b k h w"]]:
        """(gain, variance) of each coefficient."""
        hint = (hint_db / 10)[:, None, None, None].expand_as(rate)
        log_gain, log_variance = self.net(torch.cat((hint, rate), dim=1)).chunk(2, dim=1)
        log_gain = log_gain + self.log_gain[:, None, None]
        return log_gain.clamp(-8, 8).exp(), log_variance.clamp(-8, 4).exp()


class JsccEncoder(nn.Module):
    """f_e: latent → real channel inputs, the scaled linear coefficients plus what a network adds."""

    def __init__(self, features: int, components: int, condition: int, depth: int) -> None:
        super().__init__()
        self.entry = nn.Conv2d(features + 2, features, 1)
        self.stack = Stack(features, condition, depth)
        self.head = nn.Conv2d(features, components, 1)
        with torch.no_grad():
            self.head.weight.mul_(0.1)

    def forward(
        self,
        latent: Latent,
        gain: Float[Tensor, "b k h w"],
        roi_factor: Float[Tensor, "b k h w"],
        rate: Float[Tensor, "b 1 h w"],
        mask: Float[Tensor, "b 1 h w"],
        condition: Float[Tensor, "b d"],
    ) -> Float[Tensor, "b k h w"]:
        """Channel inputs before power normalisation; adjacent pairs of the k reals make a complex symbol."""
        x = self.stack(self.entry(torch.cat((latent.features, rate, mask), dim=1)), condition)
        reals: Tensor = (latent.linear * gain + self.head(x).float()) * roi_factor
        return reals


class JsccDecoder(nn.Module):
    """f_d: received values and their precision (1/noise variance) → estimate of the latent, both parts."""

    def __init__(self, features: int, components: int, condition: int, depth: int) -> None:
        super().__init__()
        self.entry = nn.Conv2d(components + components // 2 + 2, features, 1)
        self.stack = Stack(features, condition, depth)

    def forward(
        self,
        received: Float[Tensor, "b k h w"],
        precision: Float[Tensor, "b s h w"],
        gain: Float[Tensor, "b k h w"],
        variance: Float[Tensor, "b k h w"],
        roi_factor: Float[Tensor, "b k h w"],
        rate: Float[Tensor, "b 1 h w"],
        mask: Float[Tensor, "b 1 h w"],
        condition: Float[Tensor, "b d"],
    ) -> Latent:
        """`precision` 0 marks what was lost or never sent."""
        per_real = precision.repeat_interleave(2, dim=1)
        received = torch.where(per_real > 0, received, 0.0) / roi_factor
        # Wiener estimate of unit-variance coefficients whose local variance the rate map hints at.
        per_real = per_real * roi_factor.square()
        linear = received * gain * variance * per_real / (gain.square() * variance * per_real + 1)
        confidence = precision / (1 + precision)
        weighted = received * confidence.repeat_interleave(2, dim=1)
        x = self.entry(torch.cat((weighted, confidence, rate, mask), dim=1))
        return Latent(linear, self.stack(x, condition))
