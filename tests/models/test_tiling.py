"""Large pictures by tiles: as if they had been done at once."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from models import tiling
from models.denoiser import Denoiser
from models.pipeline import JsccCodec
from models.tiling import in_tiles
from models.transform import PATCH, Analysis, Decoded, Synthesis
from tests.models.small import FEATURES, WIDTHS, picture, small_codec

CONDITION = torch.zeros(1, 8)


def blur(fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
    """Looks 2 positions far at the scale of the grid and half a position at twice that; gives back scales 1 and 4."""
    wide = functional.avg_pool2d(coarse, 5, stride=1, padding=2)
    narrow = functional.avg_pool2d(fine, 3, stride=1, padding=1)
    both = wide + functional.avg_pool2d(narrow, 2)
    return both, functional.interpolate(both, scale_factor=4, mode="nearest")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 12), st.integers(0, 1000))
def test_tiles_make_up_the_whole(rows: int, columns: int, tile: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    fine = torch.randn(2, 3, 2 * rows, 2 * columns, generator=generator)
    coarse = torch.randn(2, 3, rows, columns, generator=generator)
    windows: list[torch.Size] = []

    def recorded(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        windows.append(inputs[1].shape)
        return blur(*inputs)

    whole, tiled = blur(fine, coarse), in_tiles(recorded, [fine, coarse], (rows, columns), reach=3, tile=tile)
    for one, other in zip(whole, tiled, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    assert max(max(window[-2:]) for window in windows) <= tile + 2 * 3
    assert len(windows) == -(-rows // tile) * -(-columns // tile)


def analyse(x: Tensor) -> Tensor:
    network = Analysis(WIDTHS, 8, depth=2)
    image = functional.interpolate(x, scale_factor=PATCH, mode="nearest").repeat(1, 3, 1, 1)
    result: Tensor = network(image, CONDITION)
    return result


def synthesise(x: Tensor) -> Tensor:
    network = Synthesis(WIDTHS, 8)
    image = functional.interpolate(x, scale_factor=PATCH, mode="nearest").repeat(1, 3, 1, 1)
    decoded: Decoded = network(x.repeat(1, WIDTHS[2], 1, 1), image, x, x, CONDITION)
    return decoded.image


def denoise(x: Tensor) -> Tensor:
    network = Denoiser(WIDTHS, features=FEATURES, condition=8)
    image, quarter = (functional.interpolate(x, scale_factor=s, mode="nearest") for s in (PATCH, PATCH // 4))
    image, features = image.repeat(1, 3, 1, 1), quarter.repeat(1, FEATURES, 1, 1)
    scalars = [torch.zeros(1) for _ in range(2)]
    result: Tensor = network(image, torch.full((1,), 0.5), Decoded(image, features), quarter, *scalars)
    return result


@torch.no_grad()
@pytest.mark.parametrize(
    ("function", "reach"),
    [(analyse, Analysis(WIDTHS, 8, depth=2).reach), (synthesise, Synthesis.reach), (denoise, Denoiser.reach)],
    ids=["analysis", "synthesis", "denoiser"],
)
def test_networks_see_as_far_as_they_say_and_no_farther(function: Callable[[Tensor], Tensor], reach: int) -> None:
    """What is not a number makes everything so that depends on it."""
    size = 2 * reach + 1
    for distance, tainted in ((reach, True), (reach + 1, False)):
        grid = torch.zeros(1, 1, size, 2 * size)
        grid[..., size + distance :] = torch.nan
        output = function(grid)
        scale = output.shape[-1] // (2 * size)
        assert output[..., : (size - distance) * scale].isfinite().all()
        assert output[..., size * scale : (size + 1) * scale].isnan().any() == tainted


@pytest.fixture(scope="module")
def codec() -> JsccCodec:
    return small_codec(components=64)


def received(codec: JsccCodec, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(symbols, picture after two denoising steps)."""
    encoded = codec.encode(image, cbr=1 / 24, snr_hint_db=10.0, mask=None, side_symbols=lambda count: 8 * count)
    noise_var = np.full(len(encoded.symbols), 0.1, np.float32)
    return encoded.symbols, codec.decode(encoded.symbols, noise_var, 10.0, encoded.side, steps=2)


def test_codec_is_the_same_by_tiles_and_shows_no_seam(codec: JsccCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(300, 440)
    symbols, whole = received(codec, image)
    monkeypatch.setattr(tiling, "TILE", 7)
    calls: list[Tensor] = []
    assert codec.denoiser is not None
    hook = codec.denoiser.register_forward_hook(lambda _, inputs, output: calls.append(output))
    tiled_symbols, tiled = received(codec, image)
    hook.remove()
    assert len(calls) == 2 * 3 * 4  # steps, rows of tiles, columns of tiles
    np.testing.assert_allclose(tiled_symbols, symbols, atol=1e-4)
    assert np.abs(tiled.astype(int) - whole).max() <= 1  # values of 255
    # Steps from pixel to pixel across the borders of tiles are what they are without tiles.
    for axis, positions in ((0, 19), (1, 28)):
        borders = [PATCH * (positions * index // -(-positions // 7)) for index in range(1, -(-positions // 7))]
        across, before = (
            np.abs(np.diff(pixels.astype(float), axis=axis)).take([b - 1 for b in borders], axis=axis).mean()
            for pixels in (tiled, whole)
        )
        assert across == pytest.approx(before, rel=1e-3)
