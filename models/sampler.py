"""Deterministic few-step sampling of the residual with a diffusers scheduler (DDIM, Song et al. 2021, η = 0)."""

from collections.abc import Callable

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.denoiser import Denoiser
from models.transform import Decoded

TRAIN_STEPS = 1000


def make_scheduler() -> DDIMScheduler:
    """Cosine noise schedule (Nichol and Dhariwal 2021), x0 prediction, last step at x0 itself."""
    return DDIMScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        timestep_spacing="trailing",
        clip_sample=False,
    )


def sigma_map(base: Decoded) -> Float[Tensor, "b 1 h w"]:
    """Predicted standard deviation of the coarse picture's error at full resolution."""
    return functional.interpolate(base.log_sigma, scale_factor=4, mode="bilinear", align_corners=False).exp()


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    scheduler: DDIMScheduler,
    base: Decoded,
    snr_db: Float[Tensor, "b"],
    rate: Float[Tensor, "b"],
    steps: int,
    generator: torch.Generator,
    progress: Callable[[int, int], None] | None = None,
) -> Float[Tensor, "b 3 h w"]:
    """Refines `base.image` in `steps` denoiser calls; the same generator state gives the same picture.

    Args:
        progress: called with (steps done, steps).
    """
    scheduler.set_timesteps(steps)
    residual = torch.randn(base.image.shape, generator=generator).to(base.image)
    for done, timestep in enumerate(scheduler.timesteps.tolist(), start=1):
        fraction = torch.full_like(snr_db, timestep / TRAIN_STEPS)
        estimate = denoiser(residual, fraction, base, snr_db, rate)
        residual = scheduler.step(estimate, timestep, residual).prev_sample
        if progress is not None:
            progress(done, steps)
    return base.image + sigma_map(base) * residual
