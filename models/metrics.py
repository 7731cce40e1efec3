"""How good a received picture is: PSNR, MS-SSIM and LPIPS-Alex against the original, all on 8-bit RGB."""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from models.errors import ModelError
from models.lpips import BACKBONES, LPIPS, lpips_unavailable

_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # table 1 of the paper, finest scale first
_MS_SSIM_SIDES = (11, 22, 44, 99, 176)  # pixels: the shorter side from which torchmetrics takes 1, 2, ... 5 scales


@dataclass(frozen=True)
class Quality:
    """Measures of one picture against its original.

    `psnr_db` is infinite for identical pictures, which JSON has no number for: writers turn it into null themselves.
    Where LPIPS cannot be computed `lpips` is None and `lpips_missing` says why.
    """

    psnr_db: float
    ms_ssim: float
    lpips: float | None
    lpips_missing: str | None = None


def quality(reference: UInt8[np.ndarray, "h w 3"], test: UInt8[np.ndarray, "h2 w2 3"]) -> Quality:
    """PSNR, MS-SSIM and LPIPS of `test` against `reference`, both uint8[h, w, 3] RGB of one size.

    Raises:
        ModelError: the sizes differ.
    """
    missing = _lpips_missing(reference)
    distance = lpips(reference, test) if missing is None else None
    return Quality(psnr_db(reference, test), ms_ssim(reference, test), distance, missing)


def psnr_db(reference: UInt8[np.ndarray, "h w 3"], test: UInt8[np.ndarray, "h2 w2 3"]) -> float:
    """10 log10(255² / MSE) in dB, the error averaged over pixels and colours; infinite for identical pictures.

    Raises:
        ModelError: the sizes differ.
    """
    _same_size(reference, test)
    difference = reference.astype(np.float32) - test.astype(np.float32)
    mse = float(np.mean(np.square(difference), dtype=np.float64))
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def ms_ssim(reference: UInt8[np.ndarray, "h w 3"], test: UInt8[np.ndarray, "h2 w2 3"]) -> float:
    """Multi-scale structural similarity, at most 1, the mean over the three colours.

    Wang, Simoncelli and Bovik, "Multi-scale structural similarity for image quality assessment", Asilomar 2003; the
    colours are taken one by one as in TensorFlow and CompressAI. Under 176 pixels on the shorter side the coarsest
    scales are left out and the remaining weights renormalised to sum 1: 4 scales from 99 pixels, 3 from 44, 2 from 22.
    Under 11 pixels the borders are repeated until the window fits.

    Raises:
        ModelError: the sizes differ.
    """
    # Imported here because it takes two seconds, which sending and receiving without a reference need not wait for.
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as similarity

    _same_size(reference, test)
    height, width = reference.shape[:2]
    scales = max(1, sum(min(height, width) >= side for side in _MS_SSIM_SIDES))
    weights = tuple(weight / sum(_MS_SSIM_WEIGHTS[:scales]) for weight in _MS_SSIM_WEIGHTS[:scales])
    padding = [(0, max(0, _MS_SSIM_SIDES[0] - side)) for side in (height, width)]
    per_colour = []
    for colour in range(3):
        x, y = (
            torch.from_numpy(np.pad(picture[:, :, colour], padding, mode="edge")[None, None].astype(np.float32))
            for picture in (reference, test)
        )
        per_colour.append(float(similarity(y, x, data_range=255.0, betas=weights)))
    return sum(per_colour) / 3


def lpips(reference: UInt8[np.ndarray, "h w 3"], test: UInt8[np.ndarray, "h2 w2 3"]) -> float:
    """LPIPS v0.1 on AlexNet features, on the CPU; 0 for identical pictures. See `models.lpips`.

    Raises:
        ModelError: the sizes differ, a side is under 31 pixels, or the backbone cannot be had.
    """
    _same_size(reference, test)
    with torch.inference_mode():
        return float(_alex()(_unit_range(reference), _unit_range(test)))


@functools.cache
def _alex() -> LPIPS:
    return LPIPS("alex")


def _lpips_missing(reference: UInt8[np.ndarray, "h w 3"]) -> str | None:
    smallest = BACKBONES["alex"].smallest
    if min(reference.shape[:2]) < smallest:
        return f"LPIPS needs pictures of at least {smallest} pixels a side"
    return lpips_unavailable("alex")


def _unit_range(picture: UInt8[np.ndarray, "h w 3"]) -> Float32[Tensor, "1 3 h w"]:
    return torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)[None]


def _same_size(reference: UInt8[np.ndarray, "h w 3"], test: UInt8[np.ndarray, "h2 w2 3"]) -> None:
    if reference.shape != test.shape:
        (h, w), (h2, w2) = reference.shape[:2], test.shape[:2]
        raise ModelError(f"pictures of {w}x{h} and {w2}x{h2} pixels cannot be compared: they must have one size")
