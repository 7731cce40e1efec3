"""The JSCC network: picture → channel inputs → picture. LRISC without its diffusion stage, and DeepJSCC."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Complex64, Float, Int64
from torch import Tensor

from models.jscc import JsccDecoder, JsccEncoder, LinearGains, rate_map
from models.layers import Conditioning
from models.modulation import sent_mask, to_complex, to_reals
from models.rate import Prior
from models.roi import RoiWeighting
from models.transform import Analysis, Decoded, Latent, LinearBasis, Synthesis

LEAST_NOISE = 1e-5  # 50 dB: an ideal channel does not drive the networks outside what they were trained on


@dataclass
class Transmitted:
    """Channel inputs of a batch: `symbols` complex [b, s, h, w] of mean power `power` [b] over those that are sent."""

    symbols: Complex64[Tensor, "b s h w"]
    power: Float[Tensor, "b"]


class JsccNetwork(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers has no type information
    """Joint source-channel coder for one batch of padded pictures.

    Args:
        widths: channels at 1/4, 1/8 and 1/16 of the picture's resolution.
        components: real channel inputs per 16×16 position; half as many symbols can be sent.
        encoder_depth: residual blocks at 1/16 scale in each of g_e and f_e.
        decoder_depth: residual blocks at 1/16 scale in f_d.
        condition: width of the vector that carries SNR and rate to the FiLM layers.
        adaptive: rate by the learned prior, and region of interest (LRISC). Otherwise uniform rate (DeepJSCC).
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256),
        components: int = 320,
        encoder_depth: int = 2,
        decoder_depth: int = 4,
        condition: int = 64,
        adaptive: bool = True,
    ) -> None:
        super().__init__()
        widths = (widths[0], widths[1], widths[2])  # a list from JSON or YAML
        self.basis = LinearBasis(components)
        self.gains = LinearGains(components)
        self.roi = RoiWeighting(components)
        self.prior = Prior(components) if adaptive else None
        self.sender = Conditioning(2, condition)
        self.receiver = Conditioning(3, condition)
        self.analysis = Analysis(widths, condition, encoder_depth)
        self.encoder = JsccEncoder(widths[2], components, condition, encoder_depth)
        self.decoder = JsccDecoder(widths[2], components, condition, decoder_depth)
        self.synthesis = Synthesis(widths, condition)

    @property
    def symbol_limit(self) -> int:
        """Most symbols that a position can send."""
        return int(self.config.components) // 2

    def initialise(self, blocks: Float[np.ndarray, "n 768"]) -> None:
        """Starts the linear path from the principal components of training blocks (see `LinearBasis`)."""
        self.basis.initialise(blocks)
        self.gains.initialise(self.basis.log_scale)

    def demand(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h16 w16"]:
        """−log2 p(z_i) of each position under the learned prior, bits.

        Raises:
            RuntimeError: the network has no prior (uniform rate).
        """
        if self.prior is None:
            raise RuntimeError("this network has a uniform rate and no prior")
        bits: Tensor = self.prior(self.basis.analyse(image), self.basis.log_scale)[0]
        return bits

    def transmit(
        self,
        image: Float[Tensor, "b 3 h w"],
        counts: Int64[Tensor, "b h16 w16"],
        mask: Float[Tensor, "b 1 h16 w16"],
        hint_db: Float[Tensor, "b"],
    ) -> Transmitted:
        """Encodes pictures in 0…1 with `counts` symbols per position."""
        rate = rate_map(counts)
        condition = self.sender(torch.stack((hint_db / 10, rate.mean(dim=(1, 2, 3))), dim=1))
        features = self.analysis(image, condition)
        with torch.autocast(image.device.type, enabled=False):
            latent = Latent(self.basis.analyse(image), features)
            gain, _ = self.gains(hint_db, rate)
            factor = self.roi(mask)
        reals = self.encoder(latent, gain, factor, rate, mask, condition)
        symbols = to_complex(reals.float())
        sent = sent_mask(counts, self.symbol_limit)
        energy = (symbols.real.square() + symbols.imag.square()) * sent
        power = energy.sum(dim=(1, 2, 3)) / counts.sum(dim=(1, 2))
        return Transmitted(symbols, power.clamp_min(1e-8))

    def receive(
        self,
        symbols: Complex64[Tensor, "b s h w"],
        noise_var: Float[Tensor, "b s h w"],
        power: Float[Tensor, "b"],
        counts: Int64[Tensor, "b h16 w16"],
        mask: Float[Tensor, "b 1 h16 w16"],
        snr_db: Float[Tensor, "b"],
        hint_db: Float[Tensor, "b"],
    ) -> Decoded:
        """Decodes received symbols of unit mean power.

        Args:
            symbols: received values; ignored where nothing was sent.
            noise_var: relative to unit symbol power; inf marks what was lost. Below `LEAST_NOISE` counts as that.
            power: what `transmit` reported, by which the symbols had been divided.
            counts, mask, hint_db: as given to `transmit`.
            snr_db: the receiver's estimate.
        """
        rate = rate_map(counts)
        scalars = torch.stack((snr_db.clamp(-10, 30) / 10, hint_db / 10, rate.mean(dim=(1, 2, 3))), dim=1)
        condition = self.receiver(scalars)
        with torch.autocast(symbols.device.type, enabled=False):
            gain, variance = self.gains(hint_db, rate)
            factor = self.roi(mask)
        sent = sent_mask(counts, self.symbol_limit)
        # Precision and not noise variance: an erasure is then 0, which is safe to differentiate through.
        precision = torch.where(sent, 1 / noise_var.clamp_min(LEAST_NOISE), 0.0) / power[:, None, None, None]
        reals = to_reals(symbols * power.sqrt()[:, None, None, None])
        latent = self.decoder(reals, precision, gain, variance, factor, rate, mask, condition)
        with torch.autocast(symbols.device.type, enabled=False):
            linear_image = self.basis.synthesise(latent.linear)
        decoded: Decoded = self.synthesis(latent.features, linear_image, condition)
        return decoded
