"""Sampling with a denoiser whose answer is known, and the small denoiser itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.denoiser import Denoiser
from models.objectives import local_log_rms
from models.sampler import (
    DETAIL_SIGMA,
    TRAIN_STEPS,
    amplified,
    make_scheduler,
    predict,
    sample,
    sigma_map,
    without_grid,
)
from models.transform import Decoded
from tests.models.small import FEATURES, WIDTHS


def base(height: int = 48, width: int = 32, seed: int = 0) -> Decoded:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(2, 3, height, width, generator=generator)
    return Decoded(image, torch.randn(2, FEATURES, height // 4, width // 4, generator=generator))


class Oracle(Denoiser):
    """Answers such that x0 is always `truth`, and keeps the noisy residuals that it was asked about."""

    def __init__(self, truth: Tensor) -> None:
        super().__init__(WIDTHS, features=FEATURES, condition=8)
        self.truth = truth
        self.asked: list[tuple[float, Tensor]] = []

    def forward(
        self, noisy: Tensor, timestep: Tensor, base: Decoded, log_sigma: Tensor, snr_db: Tensor, rate: Tensor
    ) -> Tensor:
        level = make_scheduler().alphas_cumprod[round(timestep[0].item() * TRAIN_STEPS)]
        self.asked.append((timestep[0].item(), noisy / level.sqrt()))
        result: Tensor = (self.truth - noisy) / (1 - level).sqrt()
        return result


def run(denoiser: Denoiser, decoded: Decoded, steps: int, seed: int = 0) -> Tensor:
    snr_db, rate = torch.full((2,), 10.0), torch.full((2,), 0.7)
    generator = torch.Generator().manual_seed(seed)
    return decoded.image + sample(denoiser, make_scheduler(), decoded, snr_db, rate, steps, [generator])


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_oracle_is_reached(steps: int) -> None:
    decoded = base()
    truth = torch.randn(decoded.image.shape, generator=torch.Generator().manual_seed(1))
    oracle = Oracle(truth)
    expected = decoded.image + sigma_map(oracle.log_sigma(decoded)) * truth
    torch.testing.assert_close(run(oracle, decoded, steps), expected)


@torch.no_grad()
def test_at_pure_noise_the_answer_hardly_depends_on_the_noise() -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(WIDTHS, features=FEATURES, condition=8)
    decoded, level = base(), make_scheduler().alphas_cumprod[999].expand(2)
    shared = (level, torch.full((2,), 0.999), decoded, denoiser.log_sigma(decoded), torch.zeros(2), torch.zeros(2))
    one, other = (predict(denoiser, torch.randn(decoded.image.shape), *shared) for _ in range(2))
    assert (one - other).abs().max() < 1e-3


def test_steps_trail_from_pure_noise_along_the_ddim_path() -> None:
    decoded = base()
    truth = torch.randn(decoded.image.shape, generator=torch.Generator().manual_seed(1))
    oracle = Oracle(truth)
    run(oracle, decoded, 4)
    assert [fraction for fraction, _ in oracle.asked] == pytest.approx([0.999, 0.749, 0.499, 0.249])
    noise = torch.randn(decoded.image.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(oracle.asked[0][1], noise)
    # DDIM keeps the direction of the noise: √α·x0 + √(1−α)·ε at every step, but that the first level is not quite 0.
    levels = make_scheduler().alphas_cumprod
    start = levels[999]
    direction = (noise - start.sqrt() * truth) / (1 - start).sqrt()
    for (_, noisy), timestep in zip(oracle.asked, (999, 749, 499, 249), strict=True):
        expected = levels[timestep].sqrt() * truth + (1 - levels[timestep]).sqrt() * direction
        torch.testing.assert_close(noisy, expected, atol=1e-4, rtol=1e-4)


def test_seed_decides_the_picture_and_progress_is_told() -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(WIDTHS, features=FEATURES, condition=8)
    decoded = base()
    torch.manual_seed(5)  # the global generator has no part in it
    one = run(denoiser, decoded, 2)
    torch.manual_seed(6)
    assert torch.equal(run(denoiser, decoded, 2), one)
    assert not torch.equal(run(denoiser, decoded, 2, seed=1), one)
    told: list[tuple[int, int]] = []
    arguments = (torch.zeros(2), torch.zeros(2), 3, [torch.Generator()])
    sample(denoiser, make_scheduler(), decoded, *arguments, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@settings(max_examples=20, deadline=None)
@given(st.floats(0.0, 3.0), st.integers(0, 99))
def test_the_gain_of_fine_detail(gain: float, seed: int) -> None:
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(32.0), indexing="ij")
    # Between a chequerboard and a grid that is the same in all blocks: three of them hold a whole number of waves.
    finest = (torch.cos(5 / 6 * torch.pi * rows) * torch.cos(5 / 6 * torch.pi * columns)).expand(2, 3, 48, 32)
    coarse = (rows / 48 + columns / 16 + seed).expand(2, 3, 48, 32)
    gains = torch.tensor([gain, 1.0]).view(2, 1, 1, 1).expand(2, 1, 3, 2)
    inside = (..., slice(10, -10), slice(10, -10))  # the border's blocks have no neighbours on one side
    # A plane has no fine detail; of such a wave the Gaussian passes `passed`.
    taps = torch.exp(-(torch.arange(-2.0, 3.0) ** 2) / (2 * DETAIL_SIGMA**2))
    passed = ((taps * torch.cos(5 / 6 * torch.pi * torch.arange(-2.0, 3.0))).sum() / taps.sum()) ** 2
    torch.testing.assert_close(amplified(coarse, gains)[inside], coarse[inside], rtol=1e-4, atol=1e-4)
    expected = (gain + (1 - gain) * passed) * finest[0]
    torch.testing.assert_close(amplified(finest, gains)[0][inside], expected[inside], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(amplified(finest, gains)[1][inside], finest[1][inside])


def test_a_pattern_that_comes_back_in_every_block_is_taken_away_and_nothing_else() -> None:
    torch.manual_seed(3)
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(32.0), indexing="ij")
    plane = (rows / 48 - columns / 16).expand(1, 3, 48, 32)
    pattern = torch.randn(1, 3, 4, 4)
    pattern = (pattern - pattern.mean(dim=(2, 3), keepdim=True)).tile(1, 1, 12, 8)
    inside = (..., slice(8, -8), slice(8, -8))  # at the border no mean of a whole block is to be had
    torch.testing.assert_close(without_grid(plane + pattern)[inside], plane[inside])


def test_sigma_map_is_the_standard_deviation_at_full_resolution() -> None:
    expected = torch.full((2, 1, 48, 32), torch.e**-2)
    torch.testing.assert_close(sigma_map(torch.full((2, 1, 12, 8), -2.0)), expected)


def test_local_rms_of_an_error_of_known_size() -> None:
    error = torch.full((2, 3, 48, 32), 0.05)
    error[..., ::2] *= -1
    torch.testing.assert_close(local_log_rms(error).exp(), torch.full((2, 1, 12, 8), 0.05), rtol=1e-3, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("what", ["noisy", "image", "sigma", "features", "timestep", "snr", "rate"])
def test_denoiser_is_conditioned_on_everything(what: str) -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(WIDTHS, features=FEATURES, condition=8)

    def answer(change: str) -> Tensor:
        decoded = base()
        values = {"noisy": decoded.image * 2, "timestep": torch.full((2,), 0.5)}
        values |= {"snr": torch.full((2,), 10.0), "rate": torch.full((2,), 0.5)}
        parts = {"image": decoded.image, "features": decoded.features}
        parts["sigma"] = torch.full((2, 1, decoded.image.shape[2] // 4, decoded.image.shape[3] // 4), -3.0)
        for group in (values, parts):
            if change in group:
                group[change] = group[change] + 0.3
        context = Decoded(parts["image"], parts["features"])
        result: Tensor = denoiser(
            values["noisy"], values["timestep"], context, parts["sigma"], values["snr"], values["rate"]
        )
        return result

    assert answer("nothing").shape == (2, 3, 48, 32)
    assert not torch.equal(answer(what), answer("nothing"))
