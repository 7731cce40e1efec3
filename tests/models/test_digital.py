import dataclasses
import io
import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import UInt8
from PIL import Image

from models.digital import FORMATS, MEAN_COLOUR, capacity_bits, digital_reference, restore, unavailable_formats
from models.errors import ModelError
from models.metrics import psnr_db

Rgb = UInt8[np.ndarray, "h w 3"]


@pytest.fixture
def remembers_nothing() -> Iterator[None]:
    unavailable_formats.cache_clear()
    yield
    unavailable_formats.cache_clear()


def encoded(picture: Rgb, name: str, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format=name, quality=quality, **FORMATS[name].options(picture.size // 3))
    return file.getvalue()


def decoded(file: bytes) -> Rgb:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


@pytest.mark.parametrize(("snr", "bits_per_symbol"), [(0.5, math.log2(1.5)), (1, 1), (3, 2), (63, 6)])
def test_capacity_of_the_gaussian_channel(snr: float, bits_per_symbol: float) -> None:
    symbols = 512 * 768 * 3 // 12
    bits = capacity_bits(512, 768, 1 / 12, 10 * math.log10(snr))
    assert bits == pytest.approx(symbols * bits_per_symbol, abs=1)


def test_pillows_own_wheels_write_every_format() -> None:
    assert unavailable_formats() == {}


@settings(max_examples=8, deadline=None)
@given(cbr=st.floats(1 / 400, 1 / 2), snr_db=st.floats(-10, 25))
def test_never_more_bits_than_the_channel_carries(photo: Rgb, cbr: float, snr_db: float) -> None:
    picture = photo[:96, 60:160]
    result = digital_reference(picture, cbr, snr_db)
    assert 8 * result.bytes <= result.bits_available == capacity_bits(96, 100, cbr, snr_db)
    assert result.image.shape == picture.shape
    assert psnr_db(picture, result.image) > 10


def test_quality_rises_with_snr_and_bandwidth(photo: Rgb) -> None:
    by_snr = [psnr_db(photo, digital_reference(photo, 1 / 12, snr_db).image) for snr_db in (-5.0, 0.0, 10.0, 20.0)]
    by_cbr = [psnr_db(photo, digital_reference(photo, cbr, 10.0).image) for cbr in (1 / 200, 1 / 48, 1 / 12, 1 / 3)]
    for worse, better in [*itertools.pairwise(by_snr), *itertools.pairwise(by_cbr)]:
        assert better > worse + 1


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_alone_is_better(photo: Rgb, name: str) -> None:
    result = digital_reference(photo, 1 / 12, 10.0)
    of_format = [encoded(photo, name, quality) for quality in range(1, 91, 3)]
    fitting = [file for file in of_format if 8 * len(FORMATS[name].strip(file)) <= result.bits_available]
    assert fitting
    assert psnr_db(photo, result.image) >= max(psnr_db(photo, decoded(file)) for file in fitting)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (97, 64), (192, 256)])
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_not_counted_can_be_put_back(photo: Rgb, name: str, size: tuple[int, int]) -> None:
    """The counted bytes alone hold the picture: its container is built anew around them."""
    picture = photo[: size[0], : size[1]]
    for quality in (FORMATS[name].lowest, 50, 90):
        file = encoded(picture, name, quality)
        stream = FORMATS[name].strip(file)
        assert len(stream) < len(file) - 17
        assert np.array_equal(restore(stream, name, 1.0, *size), decoded(file))


@pytest.mark.parametrize("cbr", [1 / 400, 1 / 100, 1 / 12])
def test_a_receiver_has_the_picture_that_was_chosen(photo: Rgb, cbr: float) -> None:
    result = digital_reference(photo, cbr, 5.0)
    assert len(result.stream) == result.bytes
    assert np.array_equal(restore(result.stream, result.format, result.scale, *photo.shape[:2]), result.image)


def test_a_mean_colour_comes_back() -> None:
    picture = np.full((10, 10, 3), (200, 17, 90), dtype=np.uint8)
    result = digital_reference(picture, 24 / 300, 0.0)
    assert result.format == MEAN_COLOUR
    assert np.array_equal(restore(result.stream, result.format, result.scale, 10, 10), result.image)
    with pytest.raises(ModelError, match="3 bytes"):
        restore(b"ab", MEAN_COLOUR, 0.0, 10, 10)


@pytest.mark.parametrize("name", FORMATS)
def test_a_stream_that_is_no_picture_is_refused_in_one_line(photo: Rgb, name: str) -> None:
    stream = FORMATS[name].strip(encoded(photo, name, 50))
    wrong = [(b"", 256), (bytes(range(200)), 256)] + [(stream, 255)] * (name != "AVIF")  # which has its size outside
    for damaged, width in wrong:
        with pytest.raises(ModelError) as caught:
            restore(damaged, name, 1.0, 192, width)
        assert "\n" not in str(caught.value)


def test_a_smaller_picture_where_the_full_size_is_too_coarse(photo: Rgb) -> None:
    result = digital_reference(photo, 1 / 100, 5.0)
    assert 0 < result.scale < 1
    assert psnr_db(photo, result.image) > psnr_db(photo, np.broadcast_to(photo.mean((0, 1)), photo.shape).astype("u1"))


@pytest.mark.parametrize(("bits", "error"), [(7, 128), (8, 33), (16, 5), (24, 0.5), (30, 0.5)])
def test_one_colour_is_the_last_resort(bits: int, error: float) -> None:
    picture = np.full((10, 10, 3), (200, 17, 90), dtype=np.uint8)
    result = digital_reference(picture, bits / 300, 10 * math.log10(1))  # one bit per symbol
    assert result.format == "mean colour" and 8 * result.bytes <= result.bits_available == bits
    assert np.abs(result.image.astype(int) - picture).max() <= error


def test_one_pixel() -> None:
    picture = np.array([[[9, 99, 199]]], dtype=np.uint8)
    assert digital_reference(picture, 1 / 12, 10.0).image.shape == (1, 1, 3)
    assert np.array_equal(digital_reference(picture, 10.0, 10.0).image, picture)


@pytest.mark.usefixtures("remembers_nothing")
def test_a_format_that_cannot_be_written_is_named_and_left_out(photo: Rgb, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = dataclasses.replace(FORMATS["AVIF"], options=lambda pixels: {"codec": "none such"})
    monkeypatch.setitem(FORMATS, "AVIF", broken)
    reasons = unavailable_formats()
    assert list(reasons) == ["AVIF"] and "cannot write AVIF" in reasons["AVIF"]
    assert digital_reference(photo, 1 / 12, 10.0).format == "WebP"


@pytest.mark.parametrize(
    ("cbr", "snr_db", "named"),
    [
        *((cbr, 10.0, "cbr") for cbr in (0.0, -1.0, math.nan, math.inf)),
        *((0.1, snr_db, "SNR") for snr_db in (math.nan, -math.inf, math.inf, 4000.0)),
    ],
)
def test_impossible_channels_are_refused(photo: Rgb, cbr: float, snr_db: float, named: str) -> None:
    with pytest.raises(ModelError, match=named):
        digital_reference(photo, cbr, snr_db)
