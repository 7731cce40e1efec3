import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import UInt8
from PIL import Image

from models.errors import ModelError
from models.image import default_photo, is_grey, load_image, save_image

Rgb = UInt8[np.ndarray, "h w 3"]
ROTATED_CLOCKWISE = 6  # EXIF: the camera was turned; show it turned clockwise by 90 degrees


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_image(path)
    message = str(caught.value)
    assert path.name in message and "\n" not in message
    return message


def test_what_is_saved_is_loaded(photo: Rgb, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    save_image(path, photo)
    assert np.array_equal(load_image(path), photo)
    assert [entry.name for entry in tmp_path.iterdir()] == ["picture.png"]


def test_an_interrupted_save_leaves_the_old_picture(
    photo: Rgb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "picture.png"
    save_image(path, photo)

    def full_disk(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(ModelError, match=r"picture\.png.*No space left"):
        save_image(path, 255 - photo)
    assert np.array_equal(load_image(path), photo)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_does_not_exist_cannot_be_written_to(photo: Rgb, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be written"):
        save_image(tmp_path / "nowhere" / "picture.png", photo)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "TIFF", "BMP", "PPM", "GIF", "TGA", "JPEG2000"])
def test_usual_formats(photo: Rgb, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "picture"  # the content decides, not the name
    Image.fromarray(photo).save(path, format=kind)
    loaded = load_image(path)
    assert loaded.shape == photo.shape
    assert np.abs(loaded.astype(int) - photo).mean() < 6


def test_one_pixel(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    Image.new("RGB", (1, 1), (1, 2, 3)).save(path)
    assert load_image(path).tolist() == [[[1, 2, 3]]]


def test_greyscale_and_bilevel_become_rgb(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    Image.new("L", (3, 2), 77).save(path)
    assert np.array_equal(load_image(path), np.full((2, 3, 3), 77))
    Image.new("1", (3, 2), 1).save(path)
    assert np.array_equal(load_image(path), np.full((2, 3, 3), 255))
    assert is_grey(load_image(path)) and not is_grey(load_image(path) - np.array([0, 0, 1], np.uint8))


def test_transparency_is_composited_over_white(tmp_path: Path) -> None:
    path = tmp_path / "clear.png"
    picture = Image.new("RGBA", (3, 1))
    picture.putdata([(0, 0, 0, 0), (0, 0, 0, 255), (200, 0, 0, 51)])
    picture.save(path)
    assert load_image(path)[0].tolist() == [[255, 255, 255], [0, 0, 0], [244, 204, 204]]
    Image.new("LA", (1, 1), (0, 0)).save(path)
    assert load_image(path)[0, 0].tolist() == [255, 255, 255]


def test_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putdata([0, 1])
    picture.save(path, transparency=1)
    assert load_image(path)[0].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_cmyk(tmp_path: Path) -> None:
    path = tmp_path / "print.tif"
    Image.new("CMYK", (1, 1), (0, 255, 255, 0)).save(path)
    assert load_image(path)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("kind", "dtype"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("PPM", "<u2")])
def test_16_bit_is_rounded_to_8(tmp_path: Path, kind: str, dtype: str) -> None:
    path = tmp_path / "deep"
    wide = np.array([[0, 128, 129, 257, 32896, 65535]], dtype=dtype)
    Image.fromarray(wide).save(path, format=kind)
    assert load_image(path)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_16_bit_rgb(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    rows = b"\0" + struct.pack(">3H", 0x0000, 0x8080, 0xFFFF)
    path.write_bytes(png(1, 1, depth=16, colour=2, data=zlib.compress(rows)))
    assert load_image(path)[0, 0].tolist() == [0, 128, 255]


def test_floating_point_has_no_defined_white(tmp_path: Path) -> None:
    path = tmp_path / "float.tif"
    Image.new("F", (4, 4), 0.5).save(path)
    assert "8 or 16 bits" in refusal(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_rotation_is_applied(photo: Rgb, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "turned"
    exif = Image.Exif()
    exif[0x0112] = ROTATED_CLOCKWISE
    Image.fromarray(photo).save(path, format=kind, exif=exif)
    loaded = load_image(path)
    assert loaded.shape == (photo.shape[1], photo.shape[0], 3)
    assert np.abs(loaded.astype(int) - np.rot90(photo, -1)).mean() < 6


def test_garbled_exif_is_ignored(photo: Rgb, tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    Image.fromarray(photo).save(path, exif=b"Exif\0\0nonsense")
    assert np.array_equal(load_image(path), photo)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animated_is_refused(photo: Rgb, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "moving"
    frames = [Image.fromarray(np.roll(photo, shift, axis=1)) for shift in (0, 20, 40)]
    frames[0].save(path, format=kind, save_all=True, append_images=frames[1:])
    assert "3 frames or pages: extract the one" in refusal(path)


def test_a_cameras_mpo_is_its_photograph(photo: Rgb, tmp_path: Path) -> None:
    path = tmp_path / "camera.jpg"
    preview = Image.fromarray(photo[::4, ::4])
    Image.fromarray(photo).save(path, format="MPO", save_all=True, append_images=[preview])
    assert load_image(path).shape == photo.shape


def test_missing_empty_folder_and_no_picture(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nothing.png")
    assert "is not a file" in refusal(tmp_path)
    empty = tmp_path / "empty.png"
    empty.touch()
    assert "is empty" in refusal(empty)
    text = tmp_path / "text.png"
    text.write_text("not a picture at all\n" * 100)
    assert "not a picture of a kind that can be read" in refusal(text)
    script = tmp_path / "drawing.eps"  # Pillow would start Ghostscript
    script.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    assert "not a picture of a kind that can be read" in refusal(script)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(["JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP"]), share=st.floats(0.0, 0.95))
def test_truncated_is_refused_wherever_it_ends(
    tmp_path_factory: pytest.TempPathFactory, photo: Rgb, kind: str, share: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "truncated"
    whole = io.BytesIO()
    Image.fromarray(photo[:64, :64]).save(whole, format=kind)
    path.write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * share)])
    refusal(path)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(["JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF"]), seed=st.integers(0, 2**32 - 1))
def test_altered_bytes_make_a_picture_or_one_clear_line(
    tmp_path_factory: pytest.TempPathFactory, photo: Rgb, kind: str, seed: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "altered"
    whole = io.BytesIO()
    Image.fromarray(photo[:64, :64]).save(whole, format=kind)
    data = np.frombuffer(whole.getvalue(), dtype=np.uint8).copy()
    rng = np.random.default_rng(seed)
    where = rng.integers(0, min(len(data), 600), 4)  # mostly headers: that is where decoders trip
    data[where] = rng.integers(0, 256, 4)
    path.write_bytes(data.tobytes())
    try:
        assert load_image(path).ndim == 3
    except ModelError as error:
        assert "altered" in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("side", [8001, 9000, 14000, 60000])  # Pillow warns from 9500 and refuses from 13400
def test_too_large_is_refused_from_the_header(tmp_path: Path, side: int) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(png(side, side, depth=8, colour=2, data=b""))  # no pixels: decoding would complain of that
    assert "more than 64 million" in refusal(path)


def test_the_default_photograph() -> None:
    picture, name = default_photo()
    assert picture.shape == (512, 512, 3) and "astronaut" in name
    assert picture.std() > 50


def png(width: int, height: int, *, depth: int, colour: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
