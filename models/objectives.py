"""What each training stage minimises: one module per stage, so that data-parallel training wraps it whole."""

import math
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional

from models import channel
from models.denoiser import Denoiser
from models.diversity import rotate, rotate_back
from models.jscc import rate_map
from models.lpips import LPIPS
from models.network import JsccNetwork
from models.rate import ROI_GAIN, allocate, levels_on
from models.sampler import TRAIN_STEPS, predict, sigma_map
from models.transform import PATCH, Decoded

GROUP = 2  # positions per side of a rate-map group in training
SYMBOLS_RANGE = (5.0, 150.0)  # mean symbols per position: CBR 1/150…1/5
MSE_FLOOR = 3e-4  # the log loss stops rewarding what lies above about 35 dB
LPIPS_FLOOR = 0.005  # of log LPIPS; at 0.02 the pictures of good channels, which lie below, taught next to nothing
SIGMA_WEIGHT = 0.2
PRIOR_WEIGHT = 1e-4
ROI_LOSS_WEIGHT = 2.0  # an error inside the region of interest counts 1 + this
ROI_SHARE = 0.3  # share of crops with a region of interest
UNIFORM_SHARE = 0.3  # share of crops with a uniform rate in adaptive networks
SHARED_CROPS = 4  # crops that share one budget in half of the batches: a whole picture is more uneven than a crop
EXPONENT_RANGE = (0.3, 1.2)  # of the demand: the network must serve any map between uniform and the prior's


def random_masks(batch: int, height: int, width: int, generator: torch.Generator) -> Float[Tensor, "b 1 h w"]:
    """Boxes on the grid of rate groups for `ROI_SHARE` of the batch, zeros elsewhere."""
    draws = torch.rand(5, batch, 1, generator=generator, device=generator.device)
    used, top, left, tall, wide = draws

    def inside(first: Tensor, extent: Tensor, side: int) -> Tensor:
        places = torch.arange(side, device=draws.device)
        begin = (first * side).long()
        return (places >= begin) & (places <= begin + (extent * side / 2).long())

    rows, columns = inside(top, tall, height // GROUP), inside(left, wide, width // GROUP)
    boxes: Tensor = rows[:, None, :, None] & columns[:, None, None, :] & (used < ROI_SHARE)[..., None, None]
    return boxes.float().repeat_interleave(GROUP, 2).repeat_interleave(GROUP, 3)


def adaptive_counts(
    bits: Float[Tensor, "b h w"],
    mask: Float[Tensor, "b 1 h w"],
    mean_symbols: Float[Tensor, "pictures"],
    exponent: float | Float[Tensor, ""] = 1.0,
) -> Int64[Tensor, "b h w"]:
    """Symbols per position, allocated on `GROUP`×`GROUP` groups within `mean_symbols` per position.

    Args:
        bits: −log2 p of each position.
        mask: region of interest.
        mean_symbols: one per picture; neighbours in the batch share a picture's budget if there are fewer than crops.
        exponent: of the demand; 0 gives a uniform rate, 1 the proportional one of arXiv 2504.21577.
    """
    demand = functional.avg_pool2d((bits.pow(exponent) * (1 + ROI_GAIN * mask[:, 0]))[:, None], GROUP)
    _, _, rows, columns = demand.shape
    groups = demand.reshape(len(mean_symbols), -1)
    positions = torch.full_like(groups, GROUP * GROUP)
    budget = mean_symbols.to(groups) * bits.numel() / len(mean_symbols)
    index = allocate(groups, positions, budget).view(-1, rows, columns)
    return levels_on(bits.device)[index].repeat_interleave(GROUP, 1).repeat_interleave(GROUP, 2)


def draw_counts(
    network: JsccNetwork,
    image: Float[Tensor, "b 3 h w"],
    mask: Float[Tensor, "b 1 h16 w16"],
    generator: torch.Generator,
) -> Int64[Tensor, "b h16 w16"]:
    """Random rates: log-uniform means over `SYMBOLS_RANGE`, adaptive ones where the network has a prior."""
    low, high = (math.log(bound) for bound in SYMBOLS_RANGE)
    batch, rand = len(image), partial(torch.rand, generator=generator, device=generator.device)
    # By the seed, every other step: a number drawn on a GPU would have to be waited for.
    crops = SHARED_CROPS if generator.initial_seed() % 2 and batch % SHARED_CROPS == 0 else 1
    mean_symbols = (low + (high - low) * rand(batch // crops)).exp().to(image.device)
    rows, columns = image.shape[-2] // 16, image.shape[-1] // 16
    counts = mean_symbols.round().long().repeat_interleave(crops)[:, None, None].expand(-1, rows, columns)
    if network.prior is None:
        return counts.clone()
    exponent = (EXPONENT_RANGE[0] + (EXPONENT_RANGE[1] - EXPONENT_RANGE[0]) * rand(())).to(image.device)
    with torch.no_grad():
        adaptive = adaptive_counts(network.demand(image), mask, mean_symbols, exponent)
    return torch.where((rand(batch) < UNIFORM_SHARE).to(image.device)[:, None, None], counts, adaptive)


def simulate(
    network: JsccNetwork,
    image: Float[Tensor, "b 3 h w"],
    counts: Int64[Tensor, "b h16 w16"],
    mask: Float[Tensor, "b 1 h16 w16"],
    state: channel.ChannelState,
    generator: torch.Generator,
) -> Decoded:
    """Sends a batch through the symbol channel as a codec does and decodes it."""
    device = image.device
    snr_db, hint_db, noise_var = state.snr_db.to(device), state.hint_db.to(device), state.noise_var.to(device)
    sent = network.transmit(image, counts, mask, hint_db)
    spread = torch.where(state.noise_var.isinf(), 0.0, state.noise_var).sqrt() * 0.5**0.5
    randn = partial(torch.randn, spread.shape, generator=generator, device=generator.device)
    noise = torch.complex(*(spread * randn() for _ in range(2))).to(device)
    received = rotate(sent.symbols, counts) / sent.power.sqrt()[:, None, None, None] + noise
    symbols, noise_var = rotate_back(received, noise_var, counts)
    return network.receive(symbols, noise_var, sent.power, counts, mask, snr_db, hint_db)


def weighted_mse(image: Tensor, target: Tensor, mask: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b"]:
    """Mean squared error per picture with the region of interest counted `1 + ROI_LOSS_WEIGHT` times."""
    weight = 1 + ROI_LOSS_WEIGHT * functional.interpolate(mask, scale_factor=16, mode="nearest")
    error = (image - target).square() * weight
    return error.mean(dim=(1, 2, 3)) / weight.mean(dim=(1, 2, 3))


def local_log_rms(error: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h4 w4"]:
    """Log root mean square of an error over 20×20 pixels around each place at 1/4 scale.

    A regression to this learns σ in a few hundred steps; the Gaussian likelihood, ruled by the worst crops, did not.
    """
    power = functional.avg_pool2d(error.square().mean(dim=1, keepdim=True), 4)
    padded = functional.pad(power, (2, 2, 2, 2), mode="reflect")
    return 0.5 * (functional.avg_pool2d(padded, 5, stride=1) + 1e-6).log()


class JsccObjective(nn.Module):
    """Log MSE over random SNR, rate, fading, loss and regions of interest; the prior learns beside it.

    With a perceptual loss the linear basis stays as it is. Its columns for fine detail are so small that the noise of
    that loss's gradient drowns them: within 325 steps at a tenth of the usual learning rate, a change of the basis by
    0.08 % cost 1.2 dB of PSNR at 20 dB and CBR 1/6.

    Args:
        network: is trained.
        lpips_weight: of log LPIPS-Squeeze beside log MSE. Reported metrics use LPIPS-Alex, which training never sees.
        snr_db: trains for this SNR alone, on plain AWGN with perfect knowledge, instead of for all channels.
    """

    def __init__(self, network: JsccNetwork, lpips_weight: float = 0.0, snr_db: float | None = None) -> None:
        super().__init__()
        self.network = network
        self.snr_db = snr_db
        self.lpips_weight = lpips_weight
        self.perceptual = LPIPS("squeeze").eval().requires_grad_(False) if lpips_weight else None
        if lpips_weight:
            network.basis.requires_grad_(False)

    @property
    def trained(self) -> nn.Module:
        """What is checkpointed, averaged and exported."""
        return self.network

    def forward(self, crops: UInt8[Tensor, "b 3 h w"], generator: torch.Generator) -> dict[str, Tensor]:
        """`loss` to minimise and parts of it for the log."""
        image = crops.float() / 255
        sent = _send(self.network, image, generator, self.snr_db)
        total, parts = distortion(sent.base.image, image, sent.mask, self.perceptual, self.lpips_weight)
        prior, prior_parts = _prior_loss(self.network, image, generator)
        return {"loss": total + prior, **parts, **prior_parts}

    def held_out(self, result: Float[Tensor, "b 3 h w"], image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
        """Loss of pictures received from elsewhere."""
        return distortion(result, image, no_mask(image), self.perceptual, self.lpips_weight)[0]


class DenoiserObjective(nn.Module):
    """Log MSE and log LPIPS-Squeeze of x0 predicted at random noise levels.

    Where the JSCC network is trained along, what it sends and leaves out then also serves the refined picture, while a
    term of its own keeps the direct picture good.

    Args:
        network: sends.
        denoiser: is trained.
        scheduler: noise schedule.
        lpips_weight: as for `JsccObjective`, of the refined picture.
        snr_db: as for `JsccObjective`.
        with_network: train the network along, all but its linear basis, instead of leaving it as it is.
    """

    def __init__(
        self,
        network: JsccNetwork,
        denoiser: Denoiser,
        scheduler: DDIMScheduler,
        lpips_weight: float,
        snr_db: float | None = None,
        with_network: bool = False,
    ) -> None:
        super().__init__()
        self.snr_db, self.with_network = snr_db, with_network
        self.parts = nn.ModuleDict({"network": network.requires_grad_(with_network), "denoiser": denoiser})
        network.basis.requires_grad_(False)  # see `JsccObjective`
        self.levels: Tensor
        self.register_buffer("levels", scheduler.alphas_cumprod, persistent=False)
        self.lpips_weight = lpips_weight
        self.perceptual = LPIPS("squeeze").eval().requires_grad_(False)

    @property
    def trained(self) -> nn.Module:
        """What is checkpointed, averaged and exported: both networks."""
        return self.parts

    def forward(self, crops: UInt8[Tensor, "b 3 h w"], generator: torch.Generator) -> dict[str, Tensor]:
        """`loss` to minimise and parts of it for the log."""
        image = crops.float() / 255
        network, denoiser = cast(JsccNetwork, self.parts["network"]), cast(Denoiser, self.parts["denoiser"])
        with torch.set_grad_enabled(self.with_network):
            sent = _send(network, image, generator, self.snr_db)
            direct, direct_parts = distortion(sent.base.image, image, sent.mask, None, 0.0)
            prior, prior_parts = _prior_loss(network, image, generator)
        base = sent.base
        log_sigma = denoiser.log_sigma(base)
        sigma_error = (log_sigma - local_log_rms(image - base.image.detach())).square().mean()
        log_sigma = log_sigma.detach()
        sigma = sigma_map(log_sigma)
        residual = (image - base.image) / sigma
        batch, device = len(image), generator.device
        timestep = torch.randint(TRAIN_STEPS, (batch,), generator=generator, device=device)
        # Few-step sampling spends most of its calls near pure noise, and the first always there.
        first = torch.rand(batch, generator=generator, device=device) < 0.5
        timestep = torch.where(first, TRAIN_STEPS - 1, timestep).to(image.device)
        level = self.levels[timestep]
        amplitude = level[:, None, None, None].sqrt()
        noise = torch.randn(image.shape, generator=generator, device=device).to(image.device)
        noisy = amplitude * residual + (1 - amplitude.square()).sqrt() * noise
        fraction = timestep / TRAIN_STEPS
        rate = rate_map(sent.counts).mean(dim=(1, 2, 3))
        snr_db = sent.state.snr_db.to(image.device)
        estimate = predict(denoiser, noisy, level, fraction, base, log_sigma, snr_db, rate)
        refined = base.image + sigma * estimate
        total, parts = distortion(refined, image, sent.mask, self.perceptual, self.lpips_weight)
        loss = total + direct + SIGMA_WEIGHT * sigma_error + prior
        parts |= {"direct_log_mse": direct_parts["log_mse"], "sigma": sigma_error.detach(), **prior_parts}
        return {"loss": loss, **parts}

    def held_out(self, result: Float[Tensor, "b 3 h w"], image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
        """Loss of pictures received from elsewhere."""
        return distortion(result, image, no_mask(image), self.perceptual, self.lpips_weight)[0]


def no_mask(image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h16 w16"]:
    """The empty region of interest of pictures."""
    return image.new_zeros(len(image), 1, image.shape[-2] // PATCH, image.shape[-1] // PATCH)


@dataclass
class _Sent:
    """A batch sent through the symbol channel, and under which conditions."""

    base: Decoded
    counts: Int64[Tensor, "b h16 w16"]
    mask: Float[Tensor, "b 1 h16 w16"]
    state: channel.ChannelState


def _send(
    network: JsccNetwork, image: Float[Tensor, "b 3 h w"], generator: torch.Generator, snr_db: float | None
) -> _Sent:
    rows, columns = image.shape[-2] // 16, image.shape[-1] // 16
    mask = random_masks(len(image), rows, columns, generator).to(image.device)
    if network.prior is None:
        mask = torch.zeros_like(mask)
    counts = draw_counts(network, image, mask, generator)
    fixed = None if snr_db is None else torch.full((len(image),), snr_db, device=generator.device)
    state = channel.draw((len(image), network.symbol_limit, rows, columns), generator, fixed)
    return _Sent(simulate(network, image, counts, mask, state, generator), counts, mask, state)


def distortion(
    result: Tensor, image: Tensor, mask: Float[Tensor, "b 1 h w"], perceptual: LPIPS | None, lpips_weight: float
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """What a picture is judged by: mean log MSE and log LPIPS-Squeeze over the batch, and both for the log."""
    total = (weighted_mse(result, image, mask) + MSE_FLOOR).log().mean()
    parts = {"log_mse": total.detach()}
    if perceptual is not None:
        lpips = perceptual(result.clamp(0, 1), image)
        total = total + lpips_weight * (lpips + LPIPS_FLOOR).log().mean()
        parts["lpips_squeeze"] = lpips.mean().detach()
    return total, parts


def _prior_loss(
    network: JsccNetwork, image: Float[Tensor, "b 3 h w"], generator: torch.Generator
) -> tuple[Tensor | float, dict[str, Tensor]]:
    if network.prior is None:
        return 0.0, {}
    with torch.no_grad():
        linear = network.basis.analyse(image)
    bits, hyper_bits = network.prior(linear, network.basis.log_scale, generator)
    mean = bits.mean() + hyper_bits
    return PRIOR_WEIGHT * mean, {"bits": mean.detach()}
