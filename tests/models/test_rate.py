"""Adaptive rate: budget, order, the remainder that costs no side information, and the prior that asks for it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.rate import LEVELS, Prior, _gaussian_bits, allocate, quantise, spread_remainder
from models.transform import LinearBasis
from tests.models.small import picture, picture_blocks


def test_levels_stand_for_the_rates_nearest_to_them() -> None:
    levels = torch.tensor(LEVELS, dtype=torch.float32)
    assert torch.equal(quantise(levels, levels), torch.arange(len(LEVELS)))
    assert quantise(torch.tensor([0.0, 1e9, 40.0, 38.0]), levels).tolist() == [0, len(LEVELS) - 1, 6, 5]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 5000), st.sampled_from([1, 2, 4])), min_size=1, max_size=40),
    st.floats(0.5, 200),
)
def test_allocation_keeps_the_budget_and_the_order_of_demand(groups: list[tuple[float, int]], mean: float) -> None:
    demand, positions = (torch.tensor([column], dtype=torch.float32) for column in zip(*groups, strict=True))
    budget = mean * positions.sum(dim=1)
    index = allocate(demand, positions, budget)
    spent = (torch.tensor(LEVELS)[index] * positions).sum()
    assert spent <= max(budget.item(), LEVELS[0] * positions.sum().item())
    ordered = index[0][demand[0].argsort()]
    assert (ordered.diff() >= 0).all()
    if mean >= LEVELS[-1]:
        assert (index == len(LEVELS) - 1).all()
    # Nor is it thrifty: one level more for everybody would not fit.
    raised = torch.tensor(LEVELS)[(index + 1).clamp_max(len(LEVELS) - 1)]
    if (index < len(LEVELS) - 1).all():
        assert (raised * positions).sum() > budget.item() * 0.999


def test_every_picture_of_a_batch_has_its_own_budget() -> None:
    demand = torch.tensor([[10.0, 20.0, 40.0]] * 2)
    index = allocate(demand, torch.ones(2, 3), torch.tensor([60.0, 300.0]))
    low, high = torch.tensor(LEVELS)[index].sum(dim=1).tolist()
    assert 48 <= low <= 60
    assert 240 <= high <= 300


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=30), st.data())
def test_remainder_is_spread_exactly(counts: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(len(counts), 12 * len(counts)))
    before = torch.tensor([counts])
    after = spread_remainder(before, torch.tensor([total]), 12)
    assert after.sum() == total
    assert after.min() >= 1
    assert after.max() <= 12
    assert before.tolist() == [counts]  # a copy
    change = after - before
    assert (change * (1 if total >= sum(counts) else -1) >= 0).all()
    if after.min() > 1 and after.max() < 12:  # evenly, unless the limits stand in the way
        assert change.max() - change.min() <= 1
        assert (change[0].abs().diff() <= 0).all()  # earliest positions first


@pytest.mark.parametrize("total", [2, 37])
def test_remainder_that_does_not_fit(total: int) -> None:
    with pytest.raises(ValueError, match=f"{total} symbols do not fit 3 latent positions of 1 to 12"):
        spread_remainder(torch.tensor([[4, 4, 4]]), torch.tensor([total]), 12)


@pytest.mark.parametrize("scale", [3.0, 20.0])
def test_bits_of_a_gaussian_are_its_entropy(scale: float) -> None:
    values = (scale * torch.randn(50_000, generator=torch.Generator().manual_seed(0))).round()
    entropy = math.log2(scale * math.sqrt(2 * math.pi * math.e))
    assert _gaussian_bits(values, torch.tensor(scale)).mean().item() == pytest.approx(entropy, abs=0.02)
    # Any other scale costs the divergence: log2 r + (1/r² − 1)/(2 ln 2) for a scale r times too large.
    wrong = _gaussian_bits(values, torch.tensor(2 * scale)).mean().item()
    assert wrong - entropy == pytest.approx(1 - 0.75 / (2 * math.log(2)), abs=0.03)


@pytest.fixture(scope="module")
def basis() -> LinearBasis:
    basis = LinearBasis(32)
    basis.initialise(picture_blocks(np.random.default_rng(0)))
    return basis


def as_batch(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


@torch.no_grad()
def test_flat_positions_cost_less_than_busy_ones(basis: LinearBasis) -> None:
    torch.manual_seed(0)
    prior = Prior(32)
    pixels = np.full((80, 112, 3), 120, dtype=np.uint8)
    pixels[:, 48:] = np.random.default_rng(0).integers(0, 256, (80, 64, 3), dtype=np.uint8)
    bits, hyper_bits = prior(basis.analyse(as_batch(pixels)), basis.log_scale)
    assert bits.shape == (1, 5, 7)  # odd sizes too
    assert bits[:, :, :3].max() < bits[:, :, 3:].min()
    assert 0 < hyper_bits < math.inf


def test_prior_learns_and_is_pure_without_noise(basis: LinearBasis) -> None:
    torch.manual_seed(0)
    prior = Prior(32)
    linear = basis.analyse(as_batch(picture(160, 160, 5))).detach()
    optimizer = torch.optim.Adam(prior.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    before = prior(linear, basis.log_scale)[0].mean().item()
    prior.train()  # must make no difference to what follows: only `noise` does
    for _ in range(40):
        bits, hyper_bits = prior(linear, basis.log_scale, generator)
        optimizer.zero_grad()
        (bits.mean() + hyper_bits).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in prior.parameters())
        optimizer.step()
    after, again = (prior(linear, basis.log_scale)[0] for _ in range(2))
    assert torch.equal(after, again)
    assert after.mean().item() < 0.85 * before
    one, two, other = (prior(linear, basis.log_scale, torch.Generator().manual_seed(s))[0] for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
