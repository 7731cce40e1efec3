"""Small networks with random weights and synthetic pictures: what holds for any weights is tested on these."""

import hashlib

import numpy as np
import torch
from torch.nn import functional

from models.denoiser import Denoiser
from models.network import JsccNetwork
from models.pipeline import JsccCodec
from models.transform import CONTEXT, PATCH
from models.weights import Card

WIDTHS = (16, 24, 32)
FEATURES = WIDTHS[0] + CONTEXT  # of `Decoded`


def small_network(components: int = 64, adaptive: bool = True, seed: int = 0) -> JsccNetwork:
    torch.manual_seed(seed)
    network: JsccNetwork = JsccNetwork(WIDTHS, components, 1, 1, condition=16, adaptive=adaptive)
    network.initialise(picture_blocks(np.random.default_rng(seed)))
    network.eval()
    return network


def small_codec(adaptive: bool = True, seed: int = 0, components: int = 320) -> JsccCodec:
    """320 components carry the whole range of CBR."""
    card = Card(f"small-{adaptive}", 2, {"jscc": hashlib.sha256(bytes([adaptive, seed])).hexdigest()})
    network = small_network(components, adaptive, seed)
    denoiser = Denoiser(WIDTHS, features=FEATURES, condition=16) if adaptive else None
    return JsccCodec(card, network, denoiser)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8[h, w, 3]: smooth left, busy right, so that it is worth while to share the rate out."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((1, 3, height // 24 + 2, width // 24 + 2)))
    smooth = functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[0].numpy()
    busy = rng.normal(0, 0.25, (3, height, width)) * (np.arange(width) > width / 2)
    pixels: np.ndarray = np.clip((smooth + busy) * 255, 0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def picture_blocks(rng: np.random.Generator, count: int = 6) -> np.ndarray:
    """float32[n, 768] of values 0…1, as `LinearBasis.initialise` takes them."""
    pictures = np.stack([picture(160, 160, int(rng.integers(1 << 30))) for _ in range(count)])
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    return functional.pixel_unshuffle(pixels, PATCH).permute(0, 2, 3, 1).reshape(-1, 3 * PATCH * PATCH).numpy()
