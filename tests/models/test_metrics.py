import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import UInt8
from PIL import Image, ImageFilter
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from models.errors import ModelError
from models.metrics import ms_ssim, psnr_db, quality, texture_distance

Rgb = UInt8[np.ndarray, "h w 3"]


def noisy(picture: Rgb, deviation: float, seed: int = 0) -> Rgb:
    noise = np.random.default_rng(seed).normal(0, deviation, picture.shape)
    noisy_picture: Rgb = np.clip(np.round(picture + noise), 0, 255).astype(np.uint8)
    return noisy_picture


@given(error=st.integers(1, 255))
def test_psnr_of_a_constant_error(error: int) -> None:
    black = np.zeros((4, 5, 3), dtype=np.uint8)
    assert psnr_db(black, black + np.uint8(error)) == pytest.approx(20 * math.log10(255 / error))


def test_psnr_of_noise_follows_its_variance() -> None:
    grey = np.full((200, 200, 3), 128, dtype=np.uint8)
    # Rounding adds 1/12; 120,000 samples estimate the variance within 0.5 % with room to spare.
    expected = 10 * math.log10(255**2 / (10**2 + 1 / 12))
    assert psnr_db(grey, noisy(grey, 10)) == pytest.approx(expected, abs=0.05)


def test_psnr_of_one_wrong_colour_of_one_pixel() -> None:
    black = np.zeros((10, 10, 3), dtype=np.uint8)
    touched = black.copy()
    touched[0, 0, 0] = 255
    assert psnr_db(black, touched) == pytest.approx(10 * math.log10(300))


def test_identical_pictures(photo: Rgb) -> None:
    assert psnr_db(photo, photo) == math.inf
    assert ms_ssim(photo, photo) == pytest.approx(1, abs=1e-12)


def test_five_scales_agree_with_torchmetrics(photo: Rgb) -> None:
    test = noisy(photo, 12)
    x, y = (torch.from_numpy(z.astype(np.float32)).permute(2, 0, 1)[:, None] for z in (photo, test))
    expected = multiscale_structural_similarity_index_measure(y, x, data_range=255.0)
    assert ms_ssim(photo, test) == pytest.approx(float(expected), abs=1e-4)


def test_one_scale_is_plain_ssim(photo: Rgb) -> None:
    small, test = photo[:21, :40], noisy(photo, 15)[:21, :40]
    ssim: Callable[..., float] = structural_similarity  # scikit-image is untyped
    expected = ssim(
        small, test, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2
    )
    assert ms_ssim(small, test) == pytest.approx(expected, abs=1e-9)


@pytest.mark.usefixtures("alexnet")
def test_more_noise_is_worse_by_every_measure(photo: Rgb) -> None:
    measured = [quality(photo, noisy(photo, deviation)) for deviation in (2, 5, 10, 20, 40)]
    for better, worse in itertools.pairwise(measured):
        assert better.psnr_db > worse.psnr_db
        assert better.ms_ssim > worse.ms_ssim
        assert better.lpips is not None and worse.lpips is not None and better.lpips < worse.lpips


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 200), width=st.integers(1, 200))
def test_every_size_has_a_quality(photo: Rgb, height: int, width: int) -> None:
    tall = np.concatenate([photo, photo[::-1]])[:height, :width]
    found = quality(tall, noisy(tall, 10))
    assert 20 < found.psnr_db < 60  # few pixels, few samples of the noise
    assert 0 <= found.ms_ssim <= 1 + 1e-12
    if min(height, width) < 31:
        assert found.lpips is None and "31 pixels" in str(found.lpips_missing)
    assert ms_ssim(tall, tall) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("side", [10, 11, 21, 22, 43, 44, 87, 88, 175, 176])  # where the number of scales changes
def test_ms_ssim_has_no_gap_between_sizes(photo: Rgb, side: int) -> None:
    picture = photo[:side, :side]
    assert 0.2 < ms_ssim(picture, noisy(picture, 10)) < 1


def test_the_negative_of_a_picture_has_no_similarity(photo: Rgb) -> None:
    assert ms_ssim(photo, 255 - photo) == 0


def test_pictures_of_two_sizes_cannot_be_compared(photo: Rgb) -> None:
    for measure in (quality, psnr_db, ms_ssim):
        with pytest.raises(ModelError, match="256x192 and 255x192"):
            measure(photo, photo[:, :-1])


@pytest.mark.usefixtures("alexnet")
def test_texture_distance_sees_what_textures_there_are_not_where(photo: Rgb) -> None:
    assert texture_distance(photo, photo) == pytest.approx(0, abs=1e-3)
    smeared = np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(1)))
    lost = [texture_distance(photo, noisy(photo, deviation)) for deviation in (2, 8, 20)]
    assert lost == sorted(lost) and lost[0] > 0.01
    assert texture_distance(photo[:, 8:], photo[:, :-8]) < 0.2 * texture_distance(photo, smeared)
    assert texture_distance(photo, smeared) == pytest.approx(texture_distance(smeared, photo), rel=1e-6)
    with pytest.raises(ModelError, match="one size"):
        texture_distance(photo, photo[1:])
    with pytest.raises(ModelError, match="31 pixels"):
        texture_distance(photo[:20], photo[:20])
