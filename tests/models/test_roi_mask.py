import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import UInt8
from PIL import Image

from models.errors import ModelError
from models.roi_mask import load_roi

Rgb = UInt8[np.ndarray, "h w 3"]


def test_a_mask_picture(photo: Rgb, tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    levels = np.tile(np.arange(256, dtype=np.uint8), (192, 1))
    Image.fromarray(levels).save(path)
    mask = load_roi(str(path), photo)
    assert mask.dtype == np.float32 and mask.shape == photo.shape[:2]
    assert np.allclose(mask, levels / 255, atol=1e-6)
    assert mask.min() == 0 and mask.max() <= 1
    Image.fromarray(levels > 127).save(path)
    assert np.array_equal(load_roi(str(path), photo), (levels > 127).astype(np.float32))


def test_a_mask_of_another_size_is_refused_with_both_sizes(photo: Rgb, tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.new("L", (192, 256), 255).save(path)
    with pytest.raises(ModelError, match=r"mask\.png' has 192x256 pixels, the picture 256x192"):
        load_roi(str(path), photo)


def test_a_mask_that_cannot_be_read_is_refused(photo: Rgb, tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    for content in (b"", b"no picture", None):
        if content is not None:
            path.write_bytes(content)
        else:
            path.unlink()
        with pytest.raises(ModelError, match=r"neither auto nor x,y,w,h nor a mask.*mask\.png") as caught:
            load_roi(str(path), photo)
        assert "\n" not in str(caught.value)


@given(data=st.data())
def test_a_box_is_where_it_was_asked_for(photo: Rgb, data: st.DataObject) -> None:
    height, width = photo.shape[:2]
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    w, h = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
    mask = load_roi(f"{x},{y}, {w},{h}", photo)
    rows, columns = np.nonzero(mask)
    assert (rows.min(), columns.min(), rows.max(), columns.max()) == (y, x, y + h - 1, x + w - 1)
    assert mask.sum() == w * h and mask.max() == 1


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        *((box, "four whole numbers") for box in ("1,2,3", "1,2,3,4,5", "1.5,2,3,4", ",,,")),
        *((box, "empty") for box in ("0,0,0,5", "0,0,5,-5")),
        *((box, "outside the picture of 256x192") for box in ("-1,0,5,5", "250,0,7,5", "0,190,5,3")),
    ],
)
def test_a_wrong_box_is_refused(photo: Rgb, box: str, problem: str) -> None:
    with pytest.raises(ModelError, match=problem) as caught:
        load_roi(box, photo)
    assert box in str(caught.value)


def test_auto_finds_a_disc_in_a_meadow() -> None:
    rng = np.random.default_rng(1)
    picture = rng.normal((60, 130, 50), 8, (240, 320, 3))
    rows, columns = np.indices((240, 320))
    disc = (rows - 100) ** 2 + (columns - 190) ** 2 < 45**2
    picture[disc] += (130, -60, 20)
    mask = load_roi("auto", np.clip(picture, 0, 255).astype(np.uint8)) > 0.5
    assert (mask & disc).sum() / (mask | disc).sum() > 0.9


@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 80), width=st.integers(1, 500), deviation=st.sampled_from([0, 3, 80]))
def test_auto_answers_for_every_picture(height: int, width: int, deviation: int) -> None:
    noise = np.random.default_rng(height).normal(128, deviation, (height, width, 3))
    mask = load_roi("auto", np.clip(noise, 0, 255).astype(np.uint8))
    assert mask.shape == (height, width) and mask.dtype == np.float32
    assert mask.min() >= 0 and mask.max() <= 1
    if deviation == 0:
        assert mask.max() == 0  # nothing stands out


def test_auto_agrees_with_people(shared_data: Path) -> None:
    """Intersection over union with ECSSD's masks, beside what a box in the middle, half as wide and high, reaches."""
    overlaps = []
    with tarfile.open(shared_data / "roi-val.tar") as pictures:

        def picture(name: str, mode: str) -> UInt8[np.ndarray, "..."]:
            member = pictures.extractfile(name)
            assert member is not None
            return np.asarray(Image.open(io.BytesIO(member.read())).convert(mode))

        for name in sorted(name for name in pictures.getnames() if name.endswith(".webp"))[::5]:
            people = picture(name.removesuffix(".webp") + "-mask.png", "L") > 127
            photo = picture(name, "RGB")
            height, width = people.shape
            guesses = (
                load_roi(spec, photo) > 0.5
                for spec in ("auto", f"{width // 4},{height // 4},{width // 2},{height // 2}")
            )
            overlaps.append([(people & guess).sum() / (people | guess).sum() for guess in guesses])
    auto, box = np.mean(overlaps, axis=0)
    assert len(overlaps) == 20
    assert auto > box + 0.1
