"""One picture through one channel with one method, and everything that is measured on what arrives."""

import json
import math
import time
import zlib
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Complex64, Float32, UInt8

from flowgraphs import link
from flowgraphs.errors import LinkError
from models.codec import Codec, Encoded, parse_cbr
from models.digital import digital_reference
from models.errors import ModelError
from models.image import load_image
from models.metrics import lpips, ms_ssim, psnr_db, texture_distance
from models.registry import load_codec
from models.transform import PATCH
from sdr.channel import Channel
from sdr.framing import side_repetition, side_symbols
from sdr.waveform import DEFAULT

RADIO = Channel(cfo_hz=12e3, sfo_ppm=5.0)
"""The whole chain: white noise, carrier and clock offset, packets whose timing is not known."""
SMALLEST_CROP = 64  # pixels a side of a region of interest as LPIPS sees it


@dataclass(frozen=True, order=True)
class Trial:
    """What is sent, and how it is received.

    Attributes:
        model: role of the weights, or "digital".
        picture: file name.
        steps: of the denoiser; None for the model's own choice, 0 for the direct decoder.
        channel: "symbol", noise on the symbols themselves, or "radio", modulated and received.
        hint_db: what the sender is told of the SNR; None for the truth. `told_db` is the same at the receiver.
        loss: share of the symbols that never come.
        roi: whether the picture's mask is sent along; None where there is no mask.
    """

    model: str
    picture: str
    snr_db: float
    cbr: str
    steps: int | None = None
    channel: str = "symbol"
    hint_db: float | None = None
    told_db: float | None = None
    loss: float = 0.0
    roi: bool | None = None

    @property
    def passage(self) -> "Trial":
        """The same up to the decoder's input: trials that share it are encoded and received once."""
        return replace(self, steps=None)

    def key(self, weights: str, picture: str) -> str:
        """Identity of a result: the trial, the hash of its weights and that of the picture."""
        return json.dumps({**asdict(self), "weights": weights, "sha256": picture}, sort_keys=True)


@dataclass(frozen=True)
class Sources:
    """Where models and pictures are: `models` by role, `folder` of the pictures, `masked` of those with masks."""

    models: dict[str, str]
    folder: Path
    masked: Path | None = None

    def path(self, trial: Trial) -> Path:
        """The picture's file."""
        folder = self.folder if trial.roi is None else self.masked
        if folder is None:
            raise ModelError("no folder of pictures with masks was named")
        return folder / trial.picture


@dataclass(frozen=True, eq=False)
class _Arrived:
    symbols: Complex64[np.ndarray, "n"]
    noise_var: Float32[np.ndarray, "n"]
    snr_db: float
    side: bytes
    cbr: float


def run(trials: list[Trial], sources: Sources) -> list[dict[str, Any]]:
    """Measures of trials that share a `passage`; {"error": …} where no picture arrives."""
    path = sources.path(trials[0])
    image = load_image(path)
    mask = _mask(path) if trials[0].roi is not None else None
    results: list[dict[str, Any]] = []
    arrived: _Arrived | None = None
    for trial in trials:
        try:
            if trial.model == "digital":
                found = digital_reference(image, parse_cbr(trial.cbr), trial.snr_db)
                received, facts = found.image, {"format": found.format, "cbr": parse_cbr(trial.cbr)}
            else:
                codec = _codec(sources.models[trial.model])
                arrived = arrived or _pass(codec, image, mask if trial.roi else None, trial)
                begun = time.process_time()  # of all threads: other programs do not count
                received = _decode(codec, arrived, trial)
                facts = {"cbr": arrived.cbr, "decode_core_ms": 1e3 * (time.process_time() - begun)}
            results.append({**measure(image, received, mask), **facts})
        except (ModelError, LinkError) as error:
            results.append({"error": str(error)})
    return results


def receive(trial: Trial, sources: Sources) -> UInt8[np.ndarray, "h w 3"]:
    """The picture alone, to look at.

    Raises:
        ModelError, LinkError: none arrives.
    """
    image = load_image(sources.path(trial))
    if trial.model == "digital":
        return digital_reference(image, parse_cbr(trial.cbr), trial.snr_db).image
    codec = _codec(sources.models[trial.model])
    return _decode(codec, _pass(codec, image, None, trial), trial)


def _decode(codec: Codec, arrived: _Arrived, trial: Trial) -> UInt8[np.ndarray, "h w 3"]:
    return codec.decode(arrived.symbols, arrived.noise_var, arrived.snr_db, arrived.side, steps=trial.steps)


def measure(
    image: UInt8[np.ndarray, "h w 3"], received: UInt8[np.ndarray, "h w 3"], mask: Float32[np.ndarray, "h w"] | None
) -> dict[str, float]:
    """All measures of a received picture; with a mask, also inside it."""
    values = {"psnr_db": min(psnr_db(image, received), 100.0), "ms_ssim": ms_ssim(image, received)}
    values |= {"lpips": lpips(image, received), "texture": texture_distance(image, received)}
    values["seam"] = seam(image, received)
    if mask is not None and mask.any():
        error = (image.astype(np.float32) - received)[mask > 0.5]
        values["psnr_inside_db"] = 10 * math.log10(255**2 / max(float(np.square(error).mean()), 1e-6))
        box = crop_box(mask > 0.5)
        values["lpips_inside"] = lpips(np.ascontiguousarray(image[box]), np.ascontiguousarray(received[box]))
    return values


def seam(image: UInt8[np.ndarray, "h w 3"], received: UInt8[np.ndarray, "h w 3"]) -> float:
    """How much more the error jumps across the edges of the 16×16 positions than elsewhere: 1 where none shows."""
    error = received.astype(np.float32) - image
    jumps = [np.square(np.diff(error, axis=axis)).mean(axis=(1 - axis, 2)) for axis in (0, 1)]
    edges = [np.arange(len(jump)) % PATCH == PATCH - 1 for jump in jumps]
    across = np.concatenate([jump[edge] for jump, edge in zip(jumps, edges, strict=True)])
    within = np.concatenate([jump[~edge] for jump, edge in zip(jumps, edges, strict=True)])
    return float(across.mean() / max(within.mean(), 1e-9)) if len(across) else 1.0


def crop_box(inside: Bool[np.ndarray, "h w"]) -> tuple[slice, slice]:
    """The smallest box around a region, widened to `SMALLEST_CROP` pixels where the picture allows."""
    box = []
    for axis, side in enumerate(inside.shape):
        places = np.flatnonzero(inside.any(axis=1 - axis))
        first, last = int(places[0]), int(places[-1]) + 1
        short = max(0, SMALLEST_CROP - (last - first))
        first = max(0, min(first - short // 2, side - max(last - first, SMALLEST_CROP)))
        box.append(slice(first, min(side, max(last, first + SMALLEST_CROP))))
    return box[0], box[1]


def mask_path(picture: Path) -> Path:
    """NAME-mask.png beside NAME.*."""
    return picture.with_name(f"{picture.stem}-mask.png")


def _mask(picture: Path) -> Float32[np.ndarray, "h w"]:
    return (load_image(mask_path(picture))[..., 0] > 127).astype(np.float32)


@lru_cache(maxsize=3)
def _codec(model: str) -> Codec:
    return load_codec(model)


def _pass(
    codec: Codec, image: UInt8[np.ndarray, "h w 3"], mask: Float32[np.ndarray, "h w"] | None, trial: Trial
) -> _Arrived:
    hint = trial.snr_db if trial.hint_db is None else trial.hint_db
    seed = zlib.crc32(trial.picture.encode())  # the same noise for every method
    if trial.channel == "radio":
        channel = replace(RADIO, snr_db=trial.snr_db)
        cbr = parse_cbr(trial.cbr)
        passage = link.loopback(codec, image, DEFAULT, channel, cbr=cbr, snr_hint_db=hint, mask=mask, seed=seed)
        received = passage.received
        if received.side is None:
            raise LinkError("the side information was lost")
        return _Arrived(received.symbols, received.noise_var, received.snr_db, received.side, passage.sent.cbr)
    encoded = link.encode(codec, image, cbr=parse_cbr(trial.cbr), snr_hint_db=hint, mask=mask)
    symbols, noise_var = symbol_channel(encoded, trial, np.random.default_rng(seed))
    told = trial.snr_db if trial.told_db is None else trial.told_db
    spent = len(encoded.symbols) + side_symbols(len(encoded.side), side_repetition(hint, len(encoded.side)))
    return _Arrived(symbols, noise_var, told, encoded.side, spent / image.size)


def symbol_channel(
    encoded: Encoded, trial: Trial, rng: np.random.Generator
) -> tuple[Complex64[np.ndarray, "n"], Float32[np.ndarray, "n"]]:
    """Symbols with white noise and losses, and their variances as a receiver that believes `told_db` states them."""
    count, told = len(encoded.symbols), trial.snr_db if trial.told_db is None else trial.told_db
    noise = rng.standard_normal((2, count)) * (10 ** (-trial.snr_db / 10) / 2) ** 0.5
    lost = rng.random(count) < trial.loss
    symbols = np.where(lost, 0, encoded.symbols + noise[0] + 1j * noise[1]).astype(np.complex64)
    return symbols, np.where(lost, np.inf, 10 ** (-told / 10)).astype(np.float32)


def prepare(threads: int) -> None:
    """Of a worker process."""
    torch.set_num_threads(threads)
