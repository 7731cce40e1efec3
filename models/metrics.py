"""How good a received picture is: PSNR, MS-SSIM and LPIPS-Alex against the original, all on 8-bit RGB."""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from scipy import ndimage
from torch import Tensor

from models.errors import ModelError
from models.lpips import BACKBONES, LPIPS, lpips_unavailable

_SSIM_WINDOW = 11  # pixels; Gaussian, sigma 1.5
_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # table 1 of the paper, finest scale first


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
    colours are taken one by one as in TensorFlow and CompressAI. Five scales need a shorter side of 176 pixels; every
    halving below that leaves out the coarsest one, and the remaining weights are renormalised to sum 1. Under 11
    pixels the borders are repeated until the window fits.

    Raises:
        ModelError: the sizes differ.
    """
    _same_size(reference, test)
    return float(np.mean([_ms_ssim_of_one_colour(reference[..., c], test[..., c]) for c in range(3)]))


def _ms_ssim_of_one_colour(reference: UInt8[np.ndarray, "h w"], test: UInt8[np.ndarray, "h w"]) -> float:
    scales = max(1, sum(min(reference.shape) >= _SSIM_WINDOW << scale for scale in range(5)))
    weights = np.array(_MS_SSIM_WEIGHTS[:scales])
    padding = [(0, max(0, _SSIM_WINDOW - side)) for side in reference.shape]
    # float64, because the variance of a bright flat area is a small difference of large numbers.
    x, y = (np.pad(picture, padding, mode="edge").astype(np.float64) for picture in (reference, test))
    factors = []
    for scale in range(scales):
        if scale > 0:
            x, y = _halved(x), _halved(y)
        luminance, contrast_structure = _ssim_maps(x, y)
        last = scale == scales - 1
        factors.append(np.mean(luminance * contrast_structure if last else contrast_structure))
    # A negative factor (anticorrelated pictures) has no real power; it counts as no similarity at all.
    return float(np.prod(np.maximum(factors, 0) ** (weights / weights.sum())))


def _ssim_maps(
    x: Float64[np.ndarray, "h w"], y: Float64[np.ndarray, "h w"]
) -> tuple[Float64[np.ndarray, "i j"], Float64[np.ndarray, "i j"]]:
    """l(x, y) and c(x, y)·s(x, y) wherever the window fits into the picture; constants for 8 bits."""
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = (_windowed(z) for z in (x, y, x * x, y * y, x * y))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    covariance = mean_xy - mean_x * mean_y
    variances = (mean_xx - mean_x**2) + (mean_yy - mean_y**2)
    return luminance, (2 * covariance + c2) / (variances + c2)


def _windowed(z: Float64[np.ndarray, "h w"]) -> Float64[np.ndarray, "i j"]:
    radius = _SSIM_WINDOW // 2
    blurred: np.ndarray = ndimage.gaussian_filter(z, sigma=1.5, radius=radius)
    return blurred[radius:-radius, radius:-radius]


def _halved(z: Float64[np.ndarray, "h w"]) -> Float64[np.ndarray, "i j"]:
    height, width = (side // 2 for side in z.shape)
    halved: np.ndarray = z[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3))
    return halved


def lpips(reference: UInt8[np.ndarray, "h w 3"], test: UInt8[np.ndarray, "h2 w2 3"]) -> float:
    """LPIPS v0.1 on AlexNet features, on the CPU; 0 for identical pictures. See `models.lpips`.

    Raises:
        ModelError: the sizes differ, a side is under 31 pixels, or the backbone cannot be had.
    """
    _same_size(reference, test)
    with torch.inference_mode():
        return float(_alex()(_unit_range(reference), _unit_range(test)))


def texture_distance(reference: UInt8[np.ndarray, "h w 3"], test: UInt8[np.ndarray, "h2 w2 3"]) -> float:
    """Fréchet distance between the features that occur in two pictures, wherever they occur; 0 for identical ones.

    The single-image FID of Shaham, Dekel and Michaeli, "SinGAN", ICCV 2019 (arXiv 1905.01164), section 3, on the second
    layer of AlexNet in place of Inception's: a distance of distributions within a picture, which lost or smeared
    texture raises and texture that merely lies elsewhere does not. No training here has seen it.

    Raises:
        ModelError: the sizes differ, a side is under 31 pixels, or the backbone cannot be had.
    """
    _same_size(reference, test)
    if (missing := _lpips_missing(reference)) is not None:
        raise ModelError(missing)
    (mean, covariance), (other_mean, other_covariance) = (_texture(picture) for picture in (reference, test))
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ other_covariance @ root)
    spread = np.trace(covariance) + np.trace(other_covariance) - 2 * np.sqrt(cross.clip(0)).sum()
    return max(0.0, float(np.square(mean - other_mean).sum() + spread))


def _texture(picture: UInt8[np.ndarray, "h w 3"]) -> tuple[Float64[np.ndarray, "c"], Float64[np.ndarray, "c c"]]:
    """Mean and covariance over the picture of AlexNet's second layer."""
    net = _alex()
    with torch.inference_mode():
        scaled = (2.0 * _unit_range(picture) - 1.0 - net.shift) / net.scale
        features = net.features[: BACKBONES["alex"].taps[1] + 1](scaled)[0].flatten(1).double().numpy()
    return features.mean(axis=1), np.atleast_2d(np.cov(features, bias=True))


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
