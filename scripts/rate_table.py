"""Measures the mean LPIPS-Alex of a model over SNR and CBR, on held-out pictures.

    python scripts/rate_table.py models/weights/lrisc --pictures held_out/ --limit 12

Writes the table into codec.json of the folder, from which a sender with `--feedback` chooses its rate, and how many
bits the prior gives to a position of these pictures. Run it after scripts/choose.py, whose choices it measures with.
Never run it on pictures that results are reported on. Ideal symbol channel, the sender's hint is the true SNR. Small
pictures are put together as there.
"""

import sys
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script sees its own folder only

import numpy as np
import typer
from jaxtyping import UInt8
from rich.progress import track

from flowgraphs import link
from models.codec import Codec, parse_cbr
from models.data import decode, read_encoded
from models.errors import ModelError
from models.metrics import lpips
from models.pipeline import JsccCodec
from models.registry import load_codec
from models.weights import Quality, write_quality
from scripts.choose import sheets

SNRS_DB, CBRS = (0.0, 5.0, 10.0, 15.0, 20.0), ("1/48", "1/32", "1/24", "1/16", "1/12", "1/8", "1/6")


def lpips_at(codec: Codec, image: UInt8[np.ndarray, "h w 3"], snr_db: float, cbr: float, seed: int) -> float:
    """LPIPS of one picture through white noise on its symbols. Raises ModelError, as `Codec.encode`."""
    encoded = link.encode(codec, image, cbr=cbr, snr_hint_db=snr_db, mask=None)
    noise = np.random.default_rng(seed).standard_normal((2, len(encoded.symbols)))
    variance = 10 ** (-snr_db / 10)
    symbols = (encoded.symbols + (variance / 2) ** 0.5 * (noise[0] + 1j * noise[1])).astype(np.complex64)
    noise_var = np.full(len(symbols), variance, np.float32)
    return lpips(image, codec.decode(symbols, noise_var, snr_db, encoded.side))


def main(
    model: Annotated[Path, typer.Argument(help="Folder of weights; its codec.json is changed.")],
    pictures: Annotated[list[Path], typer.Option(help="Folder or tar file of held-out pictures; may be repeated.")],
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many pictures only.")] = None,
) -> None:
    """Measure the quality of a model over SNR and CBR, on held-out pictures."""
    try:
        codec = load_codec(str(model))
        images = sheets([np.asarray(decode(encoded)) for encoded in read_encoded(pictures)[:limit]])
        table = []
        for snr_db, cbr in track([(snr, parse_cbr(cbr)) for snr in SNRS_DB for cbr in CBRS]):
            measured = [lpips_at(codec, image, snr_db, cbr, seed) for seed, image in enumerate(images)]
            table.append(Quality(snr_db, cbr, round(float(np.mean(measured)), 5)))
        bits = float(np.mean([codec.bits(image) for image in images])) if isinstance(codec, JsccCodec) else 0.0
        write_quality(model, table, round(bits, 2))
    except ModelError as error:
        print(f"rate_table: {error}", file=sys.stderr)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
