"""The latent transform, its fusion with a region of interest, and the order of the symbols."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from models.modulation import (
    GAIN_STEP_DB,
    byte_to_gain,
    from_stream,
    gain_to_byte,
    sent_mask,
    to_complex,
    to_reals,
    to_stream,
)
from models.roi import RoiWeighting
from models.transform import PATCH, LinearBasis
from tests.models.small import picture_blocks


def mosaic(blocks: np.ndarray, rows: int) -> torch.Tensor:
    """[1, 3, h, w] with `blocks` (pixel_unshuffle order) as its 16×16 blocks."""
    grid = torch.from_numpy(blocks).T.reshape(1, 3 * PATCH * PATCH, rows, -1)
    return functional.pixel_shuffle(grid, PATCH)


@pytest.mark.parametrize("components", [1, 16, 64])
def test_principal_components_lose_exactly_the_other_eigenvalues(components: int) -> None:
    blocks = picture_blocks(np.random.default_rng(1), 4)
    basis = LinearBasis(components)
    basis.initialise(blocks)
    image = mosaic(blocks, 20)
    error = (basis.synthesise(basis.analyse(image)) - image).square().mean().item()
    colours = blocks.reshape(len(blocks), 3, -1)
    centred = (colours - colours.mean(axis=(0, 2), keepdims=True)).reshape(len(blocks), -1).astype(np.float64)
    singular = np.linalg.svd(centred, compute_uv=False)
    assert error == pytest.approx((singular[components:] ** 2).sum() / centred.size, rel=1e-3)


def test_coefficients_have_unit_variance_and_are_uncorrelated() -> None:
    blocks = picture_blocks(np.random.default_rng(1), 4)
    basis = LinearBasis(16)
    basis.initialise(blocks)
    coefficients = basis.analyse(mosaic(blocks, 20)).flatten(2)[0]
    covariance = (coefficients @ coefficients.T / coefficients.shape[1]).detach()
    torch.testing.assert_close(covariance, torch.eye(16), atol=2e-3, rtol=0)
    assert (basis.log_scale.diff() <= 0).all()  # the strongest come first


@pytest.mark.parametrize("initialised", [False, True])
def test_analysis_inverts_synthesis(initialised: bool) -> None:
    basis = LinearBasis(32)
    if initialised:
        basis.initialise(picture_blocks(np.random.default_rng(2), 4))
    linear = torch.randn(2, 32, 3, 5, generator=torch.Generator().manual_seed(0))
    image = basis.synthesise(linear)
    assert image.shape == (2, 3, 3 * PATCH, 5 * PATCH)
    torch.testing.assert_close(basis.analyse(image), linear, atol=2e-3, rtol=0)


def test_blocks_do_not_see_each_other() -> None:
    basis = LinearBasis(32)
    image = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    changed = image.clone()
    changed[:, :, 16:32, 32:48] = 0
    different = (basis.analyse(image) != basis.analyse(changed)).any(dim=1)[0]
    assert different.nonzero().tolist() == [[1, 2]]


def test_roi_weight_is_one_outside_and_grows_with_the_mask() -> None:
    weighting = RoiWeighting(8)
    with torch.no_grad():
        weighting.weight.copy_(torch.linspace(-20, 5, 8))  # whatever was learned
    assert torch.equal(weighting(torch.zeros(1, 1, 2, 3)), torch.ones(1, 8, 2, 3))
    factors = weighting(torch.linspace(0, 1, 5).reshape(1, 1, 1, 5))[0, :, 0].detach()
    assert (factors.diff(dim=1) >= 0).all()
    assert (factors[-1].diff() > 0.1).all()
    # At first: +3.5 dB of power.
    assert 20 * RoiWeighting(1)(torch.ones(1, 1, 1, 1)).log10().item() == pytest.approx(3.5, abs=0.2)


counts_grids = st.integers(1, 6).flatmap(
    lambda columns: st.lists(st.lists(st.integers(1, 9), min_size=columns, max_size=columns), min_size=1, max_size=6)
)


@settings(max_examples=50, deadline=None)
@given(counts_grids)
def test_stream_is_in_importance_order_and_comes_back(rows: list[list[int]]) -> None:
    counts = torch.tensor(rows)
    sent = sent_mask(counts[None], 9)[0]
    assert torch.equal(sent.sum(dim=0), counts)
    order = torch.arange(9)[:, None, None].expand(sent.shape)
    symbols = torch.complex(order.float(), torch.rand(sent.shape, generator=torch.Generator().manual_seed(1)))
    stream = to_stream(symbols, sent)
    assert len(stream) == counts.sum()
    # A position's first symbols are its most important ones, and they all come before any position's second.
    assert (stream.real.diff() >= 0).all()
    back = from_stream(stream, sent, 7.0)
    assert torch.equal(back[sent], symbols[sent])
    assert (back[~sent] == 7).all()


def test_pairs_of_reals_are_symbols_of_the_same_power() -> None:
    reals = torch.randn(2, 10, 3, 4, generator=torch.Generator().manual_seed(0))
    symbols = to_complex(reals)
    assert symbols.shape == (2, 5, 3, 4)
    torch.testing.assert_close(to_reals(symbols), reals)
    torch.testing.assert_close(symbols.abs().square().mean(), reals.square().mean())
    torch.testing.assert_close(symbols[:, 1].real * 2**0.5, reals[:, 2])


@given(st.floats(-31.9, 31.7))
def test_gain_byte_is_within_half_a_step(decibels: float) -> None:
    code = gain_to_byte(10 ** (decibels / 10))
    assert 0 <= code <= 255
    assert 10 * np.log10(byte_to_gain(code)) == pytest.approx(decibels, abs=GAIN_STEP_DB / 2 + 1e-4)


def test_gain_byte_saturates() -> None:
    assert [gain_to_byte(power) for power in (0.0, 1e-30, 1e30, 1.0)] == [0, 0, 255, 128]
