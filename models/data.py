"""Training pictures: folders and tar shards → random crops, reproducible from (seed, step) alone.

Since a batch depends on nothing but its step number, training resumes exactly without saving the loader's state.
"""

import io
import lzma
import os
import tarfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from models.errors import ModelError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff"}


class EncodedPicture(NamedTuple):
    """A picture as its file holds it."""

    name: str
    data: bytes


def read_encoded(sources: list[Path]) -> list[EncodedPicture]:
    """The encoded pictures of folders (recursively) and tar files, in sorted order; `*-mask.png` are left out.

    Raises:
        ModelError: a source is missing, holds no picture, or is not a whole tar file.
    """
    pictures: list[EncodedPicture] = []
    for source in sources:
        before = len(pictures)
        if source.is_dir():
            paths = sorted(path for path in source.rglob("*") if _is_picture(path.name))
            pictures.extend(EncodedPicture(str(path), path.read_bytes()) for path in paths)
        elif source.is_file():
            pictures.extend(_read_tar(source))
        if len(pictures) == before:
            raise ModelError(
                f"{source}: no pictures found; name a folder or a tar file of {', '.join(sorted(SUFFIXES))}"
            )
    return pictures


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES and not name.endswith("-mask.png")


def _read_tar(path: Path) -> Iterator[EncodedPicture]:
    try:
        with tarfile.open(path) as archive:
            members = sorted((m for m in archive if m.isfile() and _is_picture(m.name)), key=lambda m: m.name)
            for member in members:
                handle = archive.extractfile(member)
                if handle is not None:
                    yield EncodedPicture(f"{path}:{member.name}", handle.read())
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:  # the tar or its compression
        detail = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
        raise ModelError(f"{path}: not a readable tar file ({detail})") from error


def decode(picture: EncodedPicture) -> Image.Image:
    """RGB picture of an encoded one.

    Raises:
        ModelError: damaged or of a kind that Pillow can't read.
    """
    with _opened(picture) as image:
        return image.convert("RGB")


def picture_size(picture: EncodedPicture) -> tuple[int, int]:
    """(width, height) from the header alone.

    Raises:
        ModelError: damaged or of a kind that Pillow can't read.
    """
    with _opened(picture) as image:
        return image.size


@contextmanager
def _opened(picture: EncodedPicture) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(picture.data)) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        detail = "not a picture" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        raise ModelError(f"training picture {picture.name} cannot be read ({detail}): remove it") from error


class CropBatches(Dataset[Tensor]):
    """Item `step` is a process's share of the batch of that step: uint8 [crops, 3, size, size].

    Half of the crops are flipped, and half are scaled by 0.5…1 where the picture is large enough, at random. Which
    crops there are depends on the seed and the step alone; a process decodes its own and reads headers of the others.

    Args:
        pictures: encoded pictures.
        batch: crops per step over all processes, each of another picture.
        size: side of a crop, pixels.
        steps: number of steps.
        seed: of the order and the crops.
        rank, world: this process and the number of them; its share is every `world`-th crop from `rank` on.
    """

    def __init__(
        self,
        pictures: list[EncodedPicture],
        batch: int,
        size: int,
        steps: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.pictures, self.batch, self.size, self.steps, self.seed = pictures, batch, size, steps, seed
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> UInt8[Tensor, "b 3 s s"]:
        rng = np.random.default_rng((self.seed, step))
        epoch, offset = divmod(step * self.batch, len(self.pictures))
        crops: list[np.ndarray] = []
        for index in range(self.batch):
            wrap, position = divmod(offset + index, len(self.pictures))
            order = np.random.default_rng((self.seed, 1, epoch + wrap)).permutation(len(self.pictures))
            picture = self.pictures[order[position]]
            box, flip = self._draw(picture_size(picture), rng)
            if index % self.world == self.rank:
                crops.append(self._cut(decode(picture), box, flip))
        return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()

    def _draw(self, sides: tuple[int, int], rng: np.random.Generator) -> tuple[tuple[int, int, int, int], bool]:
        source = self.size  # half of the crops keep the picture's own resolution, the others shrink it by up to 2
        if rng.random() < 0.5:
            source = int(self.size * rng.uniform(1, 2))
        source = min(source, *sides)
        left, top = (int(rng.integers(side - source + 1)) for side in sides)
        return (left, top, left + source, top + source), bool(rng.random() < 0.5)

    def _cut(self, picture: Image.Image, box: tuple[int, int, int, int], flip: bool) -> np.ndarray:
        crop = np.asarray(picture.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box))
        return crop[:, ::-1] if flip else crop


def prefetch(batches: CropBatches, first: int, last: int, waits: list[float], pin: bool = False) -> Iterator[Tensor]:
    """The batches of the steps `first` to `last` − 1, decoded ahead of time by worker processes.

    Appends to `waits` the seconds that each batch was waited for; the first, before which the workers start, is left
    out. A process of a training takes its share of the cores, up to sixteen. What is `pin`ned reaches a GPU while it
    works.

    Raises:
        ModelError: a picture that cannot be read.
    """
    workers = min(16, max(1, (os.cpu_count() or 1) // batches.world - 1))
    steps = range(first, last)
    loader = DataLoader(batches, batch_size=None, sampler=steps, num_workers=workers, prefetch_factor=4, pin_memory=pin)
    loaded = iter(loader)
    try:
        for step in steps:
            begun = time.monotonic()
            crops = next(loaded)
            if step > first:
                waits.append(time.monotonic() - begun)
            yield crops
    except ModelError as error:  # DataLoader puts its worker's traceback before the message
        raise ModelError(str(error).strip().splitlines()[-1].partition("ModelError: ")[2]) from error
