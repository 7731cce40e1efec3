"""Noise profiles against ones that are known."""

import numpy as np
import pytest

from sdr import residual

CARRIERS = 176
FREEDOM = np.where(np.arange(CARRIERS) % 11 == 5, 36.0, 6.0) * 0.97
"""Pilots are known in every symbol, the others in the preamble and the header."""


def profiles(centre: float) -> dict[str, np.ndarray]:
    distance = np.arange(CARRIERS) - centre
    return {
        "tone": 1 + 5e3 * np.sinc(distance) ** 2,
        "noise over three carriers": 1 + 1e3 * np.mean([np.sinc(distance + step) ** 2 for step in (-1, 0, 1)], axis=0),
        "half of the band": np.where(distance < 0, 1.0, 4.0),
        "sharp edges": np.where(np.abs(distance) < 6, 100.0, 1.0),
    }


def draw(variance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Energy of complex Gaussian residuals."""
    return np.asarray(variance * rng.gamma(FREEDOM))


def profile(energy: np.ndarray, freedom: np.ndarray = FREEDOM, *, draft: bool = False) -> np.ndarray:
    """Of one packet."""
    return np.asarray(residual.profile(energy[None], freedom[None], draft=draft)[0])


def loss(variance: np.ndarray, told: np.ndarray) -> float:
    """Log-likelihood that a Gaussian of another variance gives away, in nat per symbol."""
    return float(np.mean(np.log(told / variance) + variance / told - 1))


def test_white_noise_keeps_one_variance() -> None:
    rng = np.random.default_rng(0)
    energy = np.stack([draw(np.ones(CARRIERS), rng) for _ in range(1000)])
    told = residual.profile(energy, np.broadcast_to(FREEDOM, energy.shape))
    assert np.count_nonzero(np.ptp(told, axis=1)) <= 5
    assert np.mean(told) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", list(profiles(0.0)))
def test_interference_is_traced(name: str) -> None:
    """A variance per carrier from 6 symbols alone would give away 1/(2·6) = 0.08 nat and more, one for all 0.5 to 3."""
    rng, losses, drafts = np.random.default_rng(1), [], []
    for _ in range(20):
        variance = profiles(rng.uniform(20, 150))[name]
        energy = draw(variance, rng)
        told, draft = profile(energy), profile(energy, draft=True)
        losses.append(loss(variance, told))
        drafts.append(loss(variance, draft))
    assert np.mean(losses) < 0.03
    assert np.mean(losses) < np.mean(drafts) < 0.5


def test_the_level_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    energy = draw(profiles(80.3)["tone"], rng)
    reference = profile(energy)
    for scale in (1e-12, 1e12):
        assert np.allclose(profile(scale * energy), scale * reference, rtol=1e-6)


def test_packets_do_not_heed_each_other() -> None:
    rng = np.random.default_rng(4)
    energy = np.stack([draw(variance, rng) for variance in (np.ones(CARRIERS), *profiles(80.3).values())])
    together = residual.profile(energy, np.broadcast_to(FREEDOM, energy.shape))
    assert np.array_equal(together, [profile(one) for one in energy])
    assert list(np.ptp(together, axis=1) > 0) == [False, True, True, True, True]


def test_carriers_without_data_borrow_from_their_neighbours() -> None:
    rng = np.random.default_rng(3)
    freedom = FREEDOM.copy()
    freedom[[40, 41, 100]] = 0
    energy = np.where(np.arange(CARRIERS) < 88, 1.0, 50.0) * rng.gamma(np.maximum(freedom, 1e-3))
    energy[[40, 41, 100]] = 0
    told = profile(energy, freedom)
    assert np.all(np.abs(10 * np.log10(told[[40, 41, 100]] / [1, 1, 50])) < 2)


def test_no_noise_at_all_is_one_variance() -> None:
    assert not profile(np.zeros(CARRIERS)).any()
