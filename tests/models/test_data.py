"""Training pictures: where they come from, and that a step number alone decides a batch."""

import gzip
import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from models.data import CropBatches, EncodedPicture, decode, read_encoded
from models.errors import ModelError
from tests.models.small import picture


def encode(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures in two folders, a mask and a text beside them."""
    root = tmp_path / "pictures"
    (root / "deeper").mkdir(parents=True)
    for index, name in enumerate(("b.png", "deeper/c.PNG", "a.png")):
        (root / name).write_bytes(encode(picture(40, 50, index)))
    (root / "a-mask.png").write_bytes(encode(picture(40, 50, 9)))
    (root / "notes.txt").write_text("no picture")
    return root


def pack_folder(folder: Path, target: Path) -> Path:
    with tarfile.open(target, "w:gz" if target.suffix == ".gz" else "w") as archive:
        archive.add(folder, "pictures")
    return target


def test_folders_are_read_in_order_of_name_without_masks(folder: Path) -> None:
    found = read_encoded([folder])
    assert [Path(item.name).name for item in found] == ["a.png", "b.png", "c.PNG"]
    assert np.array_equal(np.asarray(decode(found[0])), picture(40, 50, 2))


@pytest.mark.parametrize("name", ["shard.tar", "shard.tar.gz"])
def test_tar_shards_hold_the_same_pictures(name: str, folder: Path) -> None:
    shard = pack_folder(folder, folder.parent / name)
    assert [item.data for item in read_encoded([shard])] == [item.data for item in read_encoded([folder])]
    assert len(read_encoded([shard, folder])) == 6


def test_sources_without_pictures_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    for name in ("empty", "empty.tar", "missing"):
        with pytest.raises(ModelError, match=f"{name}: no pictures found") as caught:
            read_encoded([folder, tmp_path / name])
        assert "\n" not in str(caught.value)


def test_damaged_shards_are_named(folder: Path, tmp_path: Path) -> None:
    whole = pack_folder(folder, tmp_path / "whole.tar").read_bytes()
    squeezed = gzip.compress(whole)
    damaged = bytearray(squeezed)
    damaged[20:70] = bytes(50)
    bad = {"noise.tar": bytes(range(256)) * 40, "cut.tar": whole[: len(whole) // 3], "empty.tar": b""}
    bad |= {"cut.tar.gz": squeezed[: len(squeezed) // 2], "damaged.tar.gz": bytes(damaged)}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=f"{name}: not a readable tar file") as caught:
            read_encoded([tmp_path / name])
        assert "\n" not in str(caught.value)


def test_damaged_pictures_are_named() -> None:
    whole = encode(picture(40, 50))
    for data in (b"", b"text", whole[: len(whole) // 2]):
        with pytest.raises(ModelError, match=r"^training picture x\.png cannot be read") as caught:
            decode(EncodedPicture("x.png", data))
        assert "\n" not in str(caught.value)


def test_greyscale_and_transparency_become_rgb() -> None:
    for mode in ("L", "RGBA", "P"):
        stream = io.BytesIO()
        Image.new(mode, (20, 20)).save(stream, "PNG")
        assert decode(EncodedPicture("x.png", stream.getvalue())).mode == "RGB"


def pictures(count: int = 5) -> list[EncodedPicture]:
    """Each of one colour, its number."""
    return [EncodedPicture(str(n), encode(np.full((60, 80, 3), 10 * n, np.uint8))) for n in range(count)]


def test_step_decides_the_batch() -> None:
    one, two = (CropBatches(pictures(), 4, 32, 20, seed=3) for _ in range(2))
    assert len(one) == 20
    batch = one[7]
    assert batch.shape == (4, 3, 32, 32)
    assert batch.dtype == torch.uint8
    _ = two[2], two[19]  # whatever was asked before
    assert torch.equal(two[7], batch)
    assert not torch.equal(CropBatches(pictures(), 4, 32, 20, seed=4)[7], batch)


def test_workers_and_the_starting_step_change_nothing() -> None:
    batches = CropBatches(pictures(), 4, 32, 8, seed=0)
    expected = [batches[step] for step in range(3, 8)]
    for workers in (0, 2):
        loader = DataLoader(batches, batch_size=None, sampler=range(3, 8), num_workers=workers)
        assert all(torch.equal(*pair) for pair in zip(loader, expected, strict=True))


def test_every_epoch_shows_every_picture_once_in_a_new_order() -> None:
    batches = CropBatches(pictures(5), 2, 16, 20, seed=0)  # two pictures a step: epochs end inside steps
    seen = [int(crop[0, 0, 0]) // 10 for step in range(20) for crop in batches[step]]
    epochs = [seen[start : start + 5] for start in range(0, 40, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 3


def test_crops_are_pieces_of_the_picture_flipped_and_shrunk_at_times() -> None:
    """A ramp to the right: its slope tells the scale, its sign the flip."""
    ramp = np.repeat(np.repeat(np.arange(160, dtype=np.uint8)[None, :, None], 160, axis=0), 3, axis=2)
    batches = CropBatches([EncodedPicture("ramp", encode(ramp))], 4, 64, 60, seed=0)
    crops = torch.cat([batches[step] for step in range(60)]).float()
    slopes = (crops[:, 0, 32, 48] - crops[:, 0, 32, 16]) / 32
    assert 0.35 < (slopes < 0).float().mean() < 0.65
    scales = slopes.abs()
    assert 0.4 < ((scales - 1).abs() < 0.04).float().mean() < 0.65
    assert scales.max() < 2.05
    assert scales.min() > 0.95


def test_pictures_smaller_than_a_crop_are_enlarged() -> None:
    batches = CropBatches([EncodedPicture("x", encode(picture(20, 12)))], 2, 32, 1, seed=0)
    assert batches[0].shape == (2, 3, 32, 32)


def test_picture_that_changes_on_disk_does_not_matter(folder: Path) -> None:
    found = read_encoded([folder])
    shutil.rmtree(folder)
    assert CropBatches(found, 2, 16, 1, seed=0)[0].shape == (2, 3, 16, 16)
