"""Strong symbols mixed with weak ones: without losses nothing changes, and with them it is the weak that are lost."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.diversity import rotate, rotate_back
from models.modulation import sent_mask
from models.pipeline import JsccCodec
from tests.models.small import picture, small_codec
from tests.models.test_pipeline import encode

LIMIT = 160
Grids = list[list[int]]
counts_grids: st.SearchStrategy[Grids] = st.lists(
    st.lists(st.integers(1, LIMIT), min_size=3, max_size=3), min_size=1, max_size=4
)


def gaussian(counts: torch.Tensor, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    real, imag = (torch.randn((1, LIMIT, *counts.shape[1:]), generator=generator) for _ in range(2))
    symbols: torch.Tensor = torch.complex(real, imag) * 0.5**0.5
    return symbols


def variances(counts: torch.Tensor, value: float) -> torch.Tensor:
    """inf where nothing is sent."""
    return torch.full((1, LIMIT, *counts.shape[1:]), value).masked_fill(~sent_mask(counts, LIMIT), torch.inf)


@settings(max_examples=50, deadline=None)
@given(counts_grids, st.sampled_from([0.0, 0.1, 10.0]))
def test_white_noise_finds_what_it_would_without(rows: Grids, noise: float) -> None:
    counts = torch.tensor(rows)[None]
    symbols, sent = gaussian(counts), sent_mask(counts, LIMIT)
    mixed = rotate(symbols, counts)
    torch.testing.assert_close(mixed[sent].abs().square().sum(), symbols[sent].abs().square().sum())
    back, left = rotate_back(mixed, variances(counts, noise), counts)
    torch.testing.assert_close(back[sent], symbols[sent], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(left[sent], torch.full_like(left[sent], max(noise, 1e-5)), rtol=1e-4, atol=0)
    assert left[~sent].isinf().all()


def test_first_goes_with_last_and_the_middle_alone() -> None:
    counts = torch.full((1, 1, 3), 5)
    symbols = gaussian(counts)
    mixed = rotate(symbols, counts)
    torch.testing.assert_close(mixed[:, 1], (symbols[:, 1] + symbols[:, 3]) * 0.5**0.5)
    torch.testing.assert_close(mixed[:, 3], (symbols[:, 1] - symbols[:, 3]) * 0.5**0.5)
    assert torch.equal(mixed[:, 2], symbols[:, 2]) and torch.equal(mixed[:, 5:], symbols[:, 5:])


def strong_and_weak(counts: torch.Tensor) -> torch.Tensor:
    """Power 4 in the first half of a position, 0.25 in the last."""
    symbols = gaussian(counts)
    return symbols * torch.where(torch.arange(LIMIT) < 10, 2.0, 0.5)[None, :, None, None]


@pytest.mark.parametrize("lost", [0, 19])
def test_of_half_a_pair_the_strong_symbol_is_left(lost: int) -> None:
    counts = torch.full((1, 60, 60), 20)
    symbols, noise_var = strong_and_weak(counts), variances(counts, 0.1)
    noise_var[:, lost, ::2] = torch.inf
    received = rotate(symbols, counts) + 0.1**0.5 * gaussian(counts, 1)
    back, left = rotate_back(torch.where(noise_var.isinf(), torch.nan, received), noise_var, counts)
    # √2 × what is left of the pair: twice its noise, and the partner.
    assert left[:, 0, ::2].unique().item() == pytest.approx(0.2 + 0.25, rel=0.1)
    assert left[:, 19, ::2].unique().item() == pytest.approx(0.2 + 4, rel=0.1)
    untouched = torch.arange(1, 19)
    torch.testing.assert_close(left[:, untouched], torch.full((1, 18, 60, 60), 0.1), rtol=1e-4, atol=0)
    assert ((back - symbols)[:, 0, ::2].abs().square().mean() / left[0, 0, 0, 0]).item() == pytest.approx(1, abs=0.1)


def test_noise_that_is_left_in_a_fade_is_as_large_as_stated() -> None:
    counts = torch.full((1, 60, 60), 20)
    symbols = strong_and_weak(counts)
    noise_var = 0.1 / (gaussian(counts, 2).abs().square() + 1e-3)
    received = rotate(symbols, counts) + noise_var.sqrt() * gaussian(counts, 1)
    back, left = rotate_back(received, noise_var, counts)
    error = ((back - symbols).abs().square() / left)[:, :20].mean(dim=(0, 2, 3))
    torch.testing.assert_close(error, torch.ones_like(error), atol=0.1, rtol=0)
    plain = noise_var[:, :10].reciprocal().mean()
    assert left[:, :10].reciprocal().log().mean() > noise_var[:, :10].reciprocal().log().mean()
    assert left[:, :10].reciprocal().mean() < plain  # fewer very good ones, but fewer bad ones, too


def test_both_halves_lost_is_lost_and_nothing_is_nan() -> None:
    counts = torch.full((1, 1, 3), 20)
    lost = torch.full((1, LIMIT, 1, 3), torch.inf)
    back, left = rotate_back(torch.full_like(gaussian(counts), torch.nan), lost, counts)
    assert left.isinf().all() and not back.isnan().any()


def test_a_codec_that_loses_its_first_symbols_still_has_the_picture() -> None:
    codec: JsccCodec = small_codec()
    image = picture(64, 64)[:, :30]  # the smooth part
    symbols, side = encode(codec, image, cbr=1 / 5)
    noise_var = np.full(len(symbols), 1e-3, dtype=np.float32)
    whole = codec.decode(symbols, noise_var, 30.0, side, steps=0).astype(float)
    noise_var[: 4 * 2] = np.inf  # of every position the first
    received = codec.decode(symbols, noise_var, 30.0, side, steps=0).astype(float)
    assert np.mean((received - whole) ** 2) < 0.05 * image.astype(float).var()
