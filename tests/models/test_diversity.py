"""The strongest symbols travel twice: no energy and no information is lost on the way, and no loss takes them whole."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.diversity import FREE, SHARE, combine, copies, repeat
from models.modulation import sent_mask
from models.pipeline import JsccCodec
from tests.models.small import picture, small_codec
from tests.models.test_pipeline import encode

LIMIT = 160
Grids = list[list[int]]
counts_grids: st.SearchStrategy[Grids] = st.lists(
    st.lists(st.integers(1, LIMIT), min_size=3, max_size=3), min_size=1, max_size=4
)


def symbols_like(counts: torch.Tensor, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    real, imag = (torch.randn((1, LIMIT, *counts.shape[1:]), generator=generator) for _ in range(2))
    return torch.complex(real, imag)


def test_positions_with_few_symbols_have_none_to_spare() -> None:
    counts = torch.arange(1, LIMIT + 1)
    twice = copies(counts[:, None, None])[:, 0, 0]
    assert (twice[counts < FREE + SHARE] == 0).all()
    assert (twice.diff() >= 0).all() and twice[-1] == (LIMIT - FREE) // SHARE
    assert (2 * twice <= counts).all()  # every copy has an original


@settings(max_examples=50, deadline=None)
@given(counts_grids)
def test_white_noise_finds_what_one_copy_of_all_the_energy_would(rows: Grids) -> None:
    counts = torch.tensor(rows)[None]
    different = sent_mask(counts - copies(counts), LIMIT)
    symbols = symbols_like(counts)
    sent = repeat(symbols, counts)
    on_air = sent_mask(counts, LIMIT)
    torch.testing.assert_close(sent[on_air].abs().square().sum(), symbols[different].abs().square().sum())
    noise_var = torch.full(sent.shape, 0.25)
    back, left = combine(sent, noise_var, counts)
    torch.testing.assert_close(back[different], symbols[different])
    torch.testing.assert_close(left[different], noise_var[different])
    assert left[~different].isinf().all()


def test_noise_that_is_left_is_as_large_as_stated() -> None:
    counts = torch.full((1, 60, 60), 48)
    symbols = symbols_like(counts)
    noise_var = 0.1 * symbols_like(counts, 1).abs().square() + 0.02
    noise = noise_var.sqrt() * 0.5**0.5 * symbols_like(counts, 2)
    back, left = combine(repeat(symbols, counts) + noise, noise_var, counts)
    different = sent_mask(counts - copies(counts), LIMIT)
    error = ((back - symbols).abs().square() / left)[different].view(48 - 2, -1).mean(dim=1)
    torch.testing.assert_close(error, torch.ones_like(error), atol=0.08, rtol=0)


def test_a_lost_copy_costs_3_db_and_both_the_symbol() -> None:
    counts = torch.full((1, 1, 3), 48)
    symbols = symbols_like(counts)
    sent, noise_var = repeat(symbols, counts), torch.full((1, LIMIT, 1, 3), 0.1)
    noise_var[0, 0, 0, 0] = noise_var[0, 46, 0, 1] = torch.inf  # the first copy, the second
    noise_var[0, (0, 46), 0, 2] = torch.inf
    back, left = combine(torch.where(noise_var.isinf(), torch.nan, sent), noise_var, counts)
    torch.testing.assert_close(back[0, 0, 0, :2], symbols[0, 0, 0, :2])
    assert left[0, 0, 0].tolist() == pytest.approx([0.2, 0.2, np.inf])
    assert left[0, 1, 0].tolist() == pytest.approx([0.1] * 3)


def test_an_ideal_channel_leaves_finite_symbols() -> None:
    counts = torch.full((1, 1, 3), 48)
    symbols = symbols_like(counts)
    back, _ = combine(repeat(symbols, counts), torch.zeros(1, LIMIT, 1, 3), counts)
    torch.testing.assert_close(back[:, :46], symbols[:, :46])


def test_a_codec_that_loses_the_first_symbols_still_has_the_picture() -> None:
    codec: JsccCodec = small_codec()
    image = picture(64, 64)[:, :30]  # the smooth part
    symbols, side = encode(codec, image, cbr=1 / 5)
    positions = 4 * 2
    variances = np.full(len(symbols), 1e-3, dtype=np.float32)
    errors = {}
    for name, lost in (("first", slice(0, positions)), ("second", slice(positions, 2 * positions))):
        noise_var = variances.copy()
        noise_var[lost] = np.inf
        received = codec.decode(symbols, noise_var, 30.0, side, steps=0)
        errors[name] = np.mean((received.astype(float) - image) ** 2)
    whole = np.mean((codec.decode(symbols, variances, 30.0, side, steps=0).astype(float) - image) ** 2)
    assert max(errors.values()) < whole + 0.1 * image.astype(float).var()
