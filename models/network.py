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
from models.tiling import in_tiles
from models.transform import PATCH, Analysis, Decoded, Latent, LinearBasis, Synthesis

PARTS = ("transform", "roi", "rate", "snr", "confidence", "decoder")
"""What a `JsccNetwork` can do `without`; its diffusion stage is left out by taking no steps."""

UNTOLD_SNR_DB = 10.0  # what a network without SNR adaptation takes every SNR for
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
        without: `PARTS` that are switched off, for ablation, in training and in use. "transform": only linear
            coefficients are sent, nothing that g_e adds; "roi": masks change nothing but the rate; "rate": the prior is
            not asked, and the rate is uniform but for a region of interest; "snr": neither end is told the SNR;
            "confidence": every symbol is trusted as the SNR says, lost ones are zeros like any other, though a codec
            has taken pairs of symbols apart by what is known of each; "decoder": the direct picture is the linear one,
            without g_d.

    Raises:
        ValueError: `without` names something else.
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
        without: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if unknown := sorted(set(without) - set(PARTS)):
            raise ValueError(f"a network cannot be without {', '.join(unknown)}, only without {', '.join(PARTS)}")
        self.without = frozenset(without)
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
        """−log2 p(z_i) of each position under the learned prior, bits; without "rate", one bit everywhere.

        Raises:
            RuntimeError: the network has no prior (uniform rate).
        """
        if self.prior is None:
            raise RuntimeError("this network has a uniform rate and no prior")
        (linear,) = in_tiles(lambda window: (self.basis.analyse(window),), [image], _grid(image), reach=0)
        bits: Tensor = self.prior(linear, self.basis.log_scale)[0]
        return torch.ones_like(bits) if "rate" in self.without else bits

    def transmit(
        self,
        image: Float[Tensor, "b 3 h w"],
        counts: Int64[Tensor, "b h16 w16"],
        mask: Float[Tensor, "b 1 h16 w16"],
        hint_db: Float[Tensor, "b"],
    ) -> Transmitted:
        """Encodes pictures in 0…1 with `counts` symbols per position."""
        rate = rate_map(counts)
        hint_db, mask = self._told(hint_db), self._weighted(mask)
        condition = self.sender(torch.stack((hint_db / 10, rate.mean(dim=(1, 2, 3))), dim=1))

        def transform(window: Tensor) -> tuple[Tensor, Tensor]:
            features = self.analysis(window, condition)
            with torch.autocast(image.device.type, enabled=False):
                return self.basis.analyse(window), features

        latent = Latent(*in_tiles(transform, [image], _grid(image), self.analysis.reach))
        with torch.autocast(image.device.type, enabled=False):
            gain, _ = self.gains(hint_db, rate)
            factor = self.roi(mask)
        if "transform" in self.without:
            reals = latent.linear * gain * factor
        else:
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
        if "confidence" in self.without:
            symbols = torch.where(noise_var.isinf(), 0.0, symbols)
            noise_var = (10 ** (-self._told(snr_db) / 10))[:, None, None, None].expand_as(noise_var)
        hint_db, snr_db, mask = self._told(hint_db), self._told(snr_db), self._weighted(mask)
        scalars = torch.stack((snr_db.clamp(-10, 30) / 10, hint_db / 10, rate.mean(dim=(1, 2, 3))), dim=1)
        condition = self.receiver(scalars)
        latent = self._estimate(symbols, noise_var, power, counts, mask, hint_db, condition)

        def synthesise(features: Tensor, linear: Tensor, rate: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            with torch.autocast(symbols.device.type, enabled=False):
                linear_image = self.basis.synthesise(linear)
            decoded = self.synthesis(features, linear_image, rate, mask, condition)
            return linear_image if "decoder" in self.without else decoded.image, decoded.features

        grid = (counts.shape[-2], counts.shape[-1])
        maps = (latent.features, latent.linear, rate, mask)
        return Decoded(*in_tiles(synthesise, maps, grid, self.synthesis.reach))

    def _estimate(
        self,
        symbols: Complex64[Tensor, "b s h w"],
        noise_var: Float[Tensor, "b s h w"],
        power: Float[Tensor, "b"],
        counts: Int64[Tensor, "b h w"],
        mask: Float[Tensor, "b 1 h w"],
        hint_db: Float[Tensor, "b"],
        condition: Float[Tensor, "b d"],
    ) -> Latent:
        """ẑ. Apart, so that what it takes is free again before the picture takes as much."""
        rate = rate_map(counts)
        with torch.autocast(symbols.device.type, enabled=False):
            gain, variance = self.gains(hint_db, rate)
            factor = self.roi(mask)
        reals, precision = self.observe(symbols, noise_var, power, counts)
        latent: Latent = self.decoder(reals, precision, gain, variance, factor, rate, mask, condition)
        return latent

    def observe(
        self,
        symbols: Complex64[Tensor, "b s h w"],
        noise_var: Float[Tensor, "b s h w"],
        power: Float[Tensor, "b"],
        counts: Int64[Tensor, "b h w"],
    ) -> tuple[Float[Tensor, "b k h w"], Float[Tensor, "b s h w"]]:
        """What f_d sees of received symbols: as reals at the sender's scale, and the precision of each, 0 if unsent."""
        sent = sent_mask(counts, self.symbol_limit)
        # Precision and not noise variance: an erasure is then 0, which is safe to differentiate through.
        precision = torch.where(sent, 1 / noise_var.clamp_min(LEAST_NOISE), 0.0) / power[:, None, None, None]
        return to_reals(symbols * power.sqrt()[:, None, None, None]), precision

    def _told(self, snr_db: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return torch.full_like(snr_db, UNTOLD_SNR_DB) if "snr" in self.without else snr_db

    def _weighted(self, mask: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        return torch.zeros_like(mask) if "roi" in self.without else mask


def _grid(image: Float[Tensor, "b 3 h w"]) -> tuple[int, int]:
    return image.shape[-2] // PATCH, image.shape[-1] // PATCH
