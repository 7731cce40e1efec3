"""Chooses denoising steps, their gain of detail and the unevenness of the rate at each operating point.

    python scripts/choose.py models/weights/lrisc --pictures held_out/

Six pictures of one size become one, three beside each other in two rows: a small picture cannot afford the side
information of an uneven rate and goes without, so that it says nothing about which is best for those that can.

Writes the choices into codec.json of the folder, from where encoder and decoder take them unless told otherwise. At
each SNR and CBR it takes the lowest LPIPS-Alex among the numbers of steps, gains and exponents whose PSNR stays within
1 dB of the best that the direct decoder reaches, and of those within 1 % of it the fewest steps. Never run it on
pictures that results are reported on. Ideal symbol channel.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script sees its own folder only

import numpy as np
import torch
import typer
from rich.progress import track

from flowgraphs import link
from models.codec import parse_cbr
from models.data import decode, read_encoded
from models.errors import ModelError
from models.metrics import lpips, psnr_db
from models.pipeline import JsccCodec
from models.sampler import amplified
from models.tensors import from_tensor
from models.weights import Choice, write_choices

SNRS_DB, CBRS = (0.0, 5.0, 10.0, 15.0, 20.0), ("1/48", "1/24", "1/12", "1/6")
STEPS, EXPONENTS, DETAIL_GAINS = (0, 1), (0.4, 0.7, 1.0), (0.8, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0)
COLUMNS, ROWS = 3, 2  # of a sheet
PSNR_ALLOWED_DB = 1.0  # below the best direct picture: half a dB of room to what is asked
TIE = 0.01


@dataclass(frozen=True)
class Outcome:
    """Means over the pictures of one way to run an operating point."""

    steps: int
    detail_gain: float
    exponent: float
    psnr_db: float
    lpips: float


def best(outcomes: list[Outcome]) -> Outcome:
    """The choice among all ways, as told above."""
    floor = max(o.psnr_db for o in outcomes if o.steps == 0) - PSNR_ALLOWED_DB
    allowed = [o for o in outcomes if o.psnr_db >= floor]
    lowest = min(o.lpips for o in allowed)
    return min((o for o in allowed if o.lpips <= lowest * (1 + TIE)), key=lambda o: (o.steps, o.lpips))


def sheets(images: list[np.ndarray]) -> list[np.ndarray]:
    """Neighbours of one size put together, as many as a sheet holds; all others as they are."""
    count, result = COLUMNS * ROWS, []
    while images:
        if len(images) >= count and len({image.shape for image in images[:count]}) == 1:
            rows = [np.hstack(images[row : row + COLUMNS]) for row in range(0, count, COLUMNS)]
            result.append(np.vstack(rows))
            images = images[count:]
        else:
            result.append(images[0])
            images = images[1:]
    return result


def outcomes_at(codec: JsccCodec, images: list[np.ndarray], snr_db: float, cbr: float) -> list[Outcome]:
    """Every combination of steps, gain and exponent at one operating point."""
    card, found = codec.card, []
    exponents = EXPONENTS if codec.network.prior is not None else (1.0,)
    for exponent in exponents:
        codec.card = replace(card, choices=(Choice(snr_db, cbr, 0, exponent),))
        numbers: dict[tuple[int, float], list[tuple[float, float]]] = {}
        for index, image in enumerate(images):
            encoded = link.encode(codec, image, cbr=cbr, snr_hint_db=snr_db, mask=None)
            noise = np.random.default_rng(index).standard_normal((2, len(encoded.symbols)))
            variance = 10 ** (-snr_db / 10)
            symbols = (encoded.symbols + (variance / 2) ** 0.5 * (noise[0] + 1j * noise[1])).astype(np.complex64)
            for steps in STEPS if codec.denoiser is not None else (0,):
                noise_var = np.full(len(symbols), variance, np.float32)
                item = codec.read(symbols, noise_var, snr_db, encoded.side, steps=steps)
                even = torch.ones_like(item.detail_gain)
                direct, change = codec.refine([item])
                for gain in DETAIL_GAINS if change is not None else (1.0,):
                    pixels = direct if change is None else direct + amplified(change, gain * even)
                    received = from_tensor(pixels, image.shape[0], image.shape[1])
                    numbers.setdefault((steps, gain), []).append((psnr_db(image, received), lpips(image, received)))
        found += [Outcome(*way, exponent, *map(float, np.mean(values, axis=0))) for way, values in numbers.items()]
    codec.card = card
    return found


def main(
    model: Annotated[Path, typer.Argument(help="Folder of weights; its codec.json is changed.")],
    pictures: Annotated[list[Path], typer.Option(help="Folder or tar file of held-out pictures; may be repeated.")],
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many pictures only.")] = None,
) -> None:
    """Choose denoising steps, their gain of detail and the unevenness of the rate at each operating point."""
    try:
        codec = JsccCodec.from_pretrained(model)
        images = sheets([np.asarray(decode(encoded)) for encoded in read_encoded(pictures)[:limit]])
        choices = []
        for snr_db, cbr in track([(snr, cbr) for snr in SNRS_DB for cbr in CBRS]):
            chosen = best(outcomes_at(codec, images, snr_db, parse_cbr(cbr)))
            print(f"{snr_db:g} dB, CBR {cbr}: {chosen}")
            choices.append(Choice(snr_db, parse_cbr(cbr), chosen.steps, chosen.exponent, chosen.detail_gain))
        write_choices(model, choices)
    except ModelError as error:
        print(f"choose: {error}", file=sys.stderr)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
