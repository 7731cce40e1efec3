"""The comparison sheet: everything that belongs on it is on it."""

import math

import numpy as np

from calibration.compare import quality_json
from calibration.report import Panel, describe, sheet
from models.metrics import Quality


def test_pictures_stand_at_their_places_unchanged() -> None:
    pictures = [np.full((300, 400, 3), value, np.uint8) for value in (40, 90, 160, 220)]
    canvas = sheet([Panel(picture, "title", "details") for picture in pictures], "heading")
    for picture in pictures:
        assert (canvas == picture[0, 0]).all(axis=2).sum() >= 300 * 400


def test_the_region_of_interest_is_outlined_not_covered() -> None:
    picture = np.full((300, 400, 3), 100, np.uint8)
    roi = np.zeros((300, 400), np.float32)
    roi[50:150, 100:300] = 1
    plain, marked = (sheet([Panel(picture, "", "", mask)], "") for mask in (None, roi))
    changed = int((plain != marked).any(axis=2).sum())
    outline = 100 * 200 - 96 * 196
    assert changed == outline


def test_large_and_tiny_pictures_and_missing_ones_fit() -> None:
    for size in ((2000, 100), (1, 1), (5, 3000)):
        picture = np.zeros((*size, 3), np.uint8)
        canvas = sheet([Panel(picture, "a", "b"), Panel(None, "lost", describe(None))], "heading")
        assert canvas.shape[0] < 2500 and canvas.shape[1] < 2500


def test_captions_leave_out_what_is_missing() -> None:
    assert describe(Quality(30.0, 0.9, 0.1)) == "PSNR 30.0 dB · MS-SSIM 0.900 · LPIPS 0.100"
    assert "LPIPS" not in describe(Quality(30.0, 0.9, None, "offline"))
    assert describe(None) == "not received"


def test_json_has_no_infinity_and_says_why_lpips_is_missing() -> None:
    assert quality_json(None) is None
    values = quality_json(Quality(math.inf, 1.0, None, "offline"))
    assert values == {"psnr_db": None, "ms_ssim": 1.0, "lpips": None, "lpips_missing": "offline"}
