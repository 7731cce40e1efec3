"""Pictures as the networks take them and give them back."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional


def to_tensor(
    image: UInt8[np.ndarray, "h w 3"], multiple: int, device: torch.device | str
) -> Float[Tensor, "1 3 h2 w2"]:
    """A batch of one in 0…1, whose border is repeated until both sides are multiples of `multiple`."""
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float().div_(255)
    bottom, right = (-side % multiple for side in image.shape[:2])
    if bottom or right:
        pixels = functional.pad(pixels, (0, right, 0, bottom), mode="replicate")
    return pixels.to(device)


def from_tensor(
    pixels: Float[Tensor, "1 3 h2 w2"], height: int, width: int, grey: bool = False
) -> UInt8[np.ndarray, "h w 3"]:
    """Inverse of `to_tensor`; clipped and rounded. `grey`: with the mean of the channels in all three."""
    picture = pixels[0, :, :height, :width].clamp(0, 1).mul_(255)
    if grey:
        picture = picture.mean(dim=0, keepdim=True)
    result: np.ndarray = picture.round_().byte().expand(3, -1, -1).permute(1, 2, 0).cpu().numpy()
    return result
