"""Sampling with a denoiser whose answer is known, and the small denoiser itself."""

import pytest
import torch
from torch import Tensor

from models.denoiser import Denoiser
from models.sampler import make_scheduler, sample, sigma_map
from models.transform import Decoded
from tests.models.small import WIDTHS


def base(height: int = 48, width: int = 32, seed: int = 0) -> Decoded:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(2, 3, height, width, generator=generator)
    log_sigma = -1 - torch.rand(2, 1, height // 4, width // 4, generator=generator)
    return Decoded(image, log_sigma, torch.randn(2, WIDTHS[0], height // 4, width // 4, generator=generator))


class Oracle(Denoiser):
    """Always answers `truth`, and keeps what it was asked."""

    def __init__(self, truth: Tensor) -> None:
        super().__init__(WIDTHS, features=WIDTHS[0], condition=8)
        self.truth = truth
        self.asked: list[tuple[float, Tensor]] = []

    def forward(self, noisy: Tensor, timestep: Tensor, base: Decoded, snr_db: Tensor, rate: Tensor) -> Tensor:
        self.asked.append((timestep[0].item(), noisy))
        return self.truth


def run(denoiser: Denoiser, decoded: Decoded, steps: int, seed: int = 0) -> Tensor:
    snr_db, rate = torch.full((2,), 10.0), torch.full((2,), 0.7)
    generator = torch.Generator().manual_seed(seed)
    return sample(denoiser, make_scheduler(), decoded, snr_db, rate, steps, generator)


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_oracle_is_reached_exactly(steps: int) -> None:
    decoded = base()
    truth = torch.randn(decoded.image.shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(run(Oracle(truth), decoded, steps), decoded.image + sigma_map(decoded) * truth)


def test_steps_trail_from_pure_noise_along_the_ddim_path() -> None:
    decoded = base()
    truth = torch.randn(decoded.image.shape, generator=torch.Generator().manual_seed(1))
    oracle = Oracle(truth)
    run(oracle, decoded, 4)
    assert [fraction for fraction, _ in oracle.asked] == pytest.approx([0.999, 0.749, 0.499, 0.249])
    noise = torch.randn(decoded.image.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(oracle.asked[0][1], noise)
    # DDIM keeps the direction of the noise: √α·x0 + √(1−α)·ε at every step, but that the first level is not quite 0.
    levels = make_scheduler().alphas_cumprod
    start = levels[999]
    direction = (noise - start.sqrt() * truth) / (1 - start).sqrt()
    for (_, noisy), timestep in zip(oracle.asked, (999, 749, 499, 249), strict=True):
        expected = levels[timestep].sqrt() * truth + (1 - levels[timestep]).sqrt() * direction
        torch.testing.assert_close(noisy, expected, atol=1e-4, rtol=1e-4)


def test_seed_decides_the_picture_and_progress_is_told() -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(WIDTHS, features=WIDTHS[0], condition=8)
    decoded = base()
    torch.manual_seed(5)  # the global generator has no part in it
    one = run(denoiser, decoded, 2)
    torch.manual_seed(6)
    assert torch.equal(run(denoiser, decoded, 2), one)
    assert not torch.equal(run(denoiser, decoded, 2, seed=1), one)
    told: list[tuple[int, int]] = []
    arguments = (torch.zeros(2), torch.zeros(2), 3, torch.Generator())
    sample(denoiser, make_scheduler(), decoded, *arguments, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_sigma_map_is_the_standard_deviation_at_full_resolution() -> None:
    decoded = base()
    decoded.log_sigma.fill_(-2.0)
    torch.testing.assert_close(sigma_map(decoded), torch.full((2, 1, 48, 32), torch.e**-2))


@torch.no_grad()
@pytest.mark.parametrize("what", ["noisy", "image", "sigma", "features", "timestep", "snr", "rate"])
def test_denoiser_is_conditioned_on_everything(what: str) -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(WIDTHS, features=WIDTHS[0], condition=8)

    def answer(change: str) -> Tensor:
        decoded = base()
        values = {"noisy": decoded.image * 2, "timestep": torch.full((2,), 0.5)}
        values |= {"snr": torch.full((2,), 10.0), "rate": torch.full((2,), 0.5)}
        parts = {"image": decoded.image, "sigma": decoded.log_sigma, "features": decoded.features}
        for group in (values, parts):
            if change in group:
                group[change] = group[change] + 0.3
        context = Decoded(parts["image"], parts["sigma"], parts["features"])
        result: Tensor = denoiser(values["noisy"], values["timestep"], context, values["snr"], values["rate"])
        return result

    assert answer("nothing").shape == (2, 3, 48, 32)
    assert not torch.allclose(answer(what), answer("nothing"), atol=1e-6)
