"""Regions of interest: from a mask picture, a box, or found in the picture itself."""

import re
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, UInt8
from PIL import Image
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import shortest_path

from models.errors import ModelError
from models.image import load_image

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)

# Of `salient_region`. The sigmas in CIELAB units and of the sides are those of the paper or near them.
_WORKING_SIDE = 400  # pixels
_REGIONS = 300
_COMPACTNESS = 40.0
_SIGMA_PATH = 5.0
_SIGMA_COLOUR = 7.0
_SIGMA_PLACE = 0.25  # of the longer side
_BACKGROUND_WEIGHT = 5.0


def load_roi(spec: str, image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
    """The region of interest of `image` that `spec` asks for, as float32[h, w] weights from 0 to 1.

    Args:
        spec: `x,y,w,h`, a box in pixels whose top left corner is x to the right and y down; `auto`, see
            `salient_region`; or the name of a mask picture of the same size, whose luminance counts: white 1, black 0.
        image: uint8[h, w, 3] RGB.

    Raises:
        ModelError: a box that is malformed, empty or not inside the picture; a mask that cannot be read or has
            another size.
    """
    height, width = image.shape[:2]
    if spec == "auto":
        return salient_region(image)
    if re.fullmatch(r"[-+.\d\s]*(,[-+.\d\s]*)+", spec):
        return _box(spec, height, width)
    try:
        mask = load_image(spec)
    except ModelError as error:
        raise ModelError(f"region of interest is neither auto nor x,y,w,h nor a mask: {error}") from None
    if mask.shape != image.shape:
        has = f"{mask.shape[1]}x{mask.shape[0]}"
        raise ModelError(f"mask {spec!r} has {has} pixels, the picture {width}x{height}: they must have one size")
    return np.clip(mask.astype(np.float32) / 255 @ _LUMA, 0, 1)


def _box(spec: str, height: int, width: int) -> Float32[np.ndarray, "h w"]:
    try:
        x, y, box_width, box_height = (int(number) for number in spec.split(","))
    except ValueError:
        raise ModelError(f"region of interest {spec!r} is not four whole numbers of pixels x,y,w,h") from None
    if box_width < 1 or box_height < 1:
        raise ModelError(f"region of interest {spec!r} is empty: width and height must be at least 1")
    if x < 0 or y < 0 or x + box_width > width or y + box_height > height:
        raise ModelError(f"region of interest {spec!r} reaches outside the picture of {width}x{height} pixels")
    mask = np.zeros((height, width), dtype=np.float32)
    mask[y : y + box_height, x : x + box_width] = 1
    return mask


def salient_region(image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
    """What stands out from the background: float32[h, w], 1 inside, 0 outside, soft only along its edge.

    Saliency by robust background detection: Zhu, Liang, Wei and Sun, "Saliency Optimization from Robust Background
    Detection", CVPR 2014, on SLIC superpixels, cut by Otsu's threshold. Regions that are connected to the picture's
    border through similar colours are background; contrast against them makes foreground; a quadratic cost smooths
    both. Empty for a picture without contrast.
    """
    from skimage.filters import threshold_otsu  # only here: these imports take a second
    from skimage.segmentation import slic

    picture = Image.fromarray(image)
    small = picture.copy()
    small.thumbnail((_WORKING_SIDE, _WORKING_SIDE), Image.Resampling.BOX)
    pixels = np.asarray(small)
    labels = slic(pixels, n_segments=_REGIONS, compactness=_COMPACTNESS, start_label=0)
    saliency = _background_optimised(pixels, labels)[labels]
    if np.ptp(saliency) == 0:
        return np.zeros(image.shape[:2], dtype=np.float32)
    otsu: Callable[[np.ndarray], float] = threshold_otsu
    mask = Image.fromarray((255 * (saliency > otsu(saliency))).astype(np.uint8))
    return np.asarray(mask.resize(picture.size, Image.Resampling.BILINEAR), dtype=np.float32) / 255


def _background_optimised(
    pixels: UInt8[np.ndarray, "h w 3"], labels: Int[np.ndarray, "h w"]
) -> Float64[np.ndarray, "k"]:
    """Saliency of each of k superpixels; equations numbered as in the paper."""
    from skimage.color import rgb2lab

    count = int(labels.max()) + 1
    height, width = labels.shape
    rows, columns = np.indices(labels.shape) / max(height, width)
    colours = _means(np.asarray(rgb2lab(pixels)), labels, count)
    places = _means(np.stack([rows, columns], axis=-1), labels, count)
    contrast = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    nearness = np.exp(-np.square(places[:, None] - places[None]).sum(axis=-1) / (2 * _SIGMA_PLACE**2))

    touching = np.zeros((count, count), dtype=bool)
    for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        touching[one, other] = touching[other, one] = True
    np.fill_diagonal(touching, False)
    border = np.zeros(count, dtype=bool)
    border[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    linked = touching | (border[:, None] & border[None])  # an object that the border cuts must not split it
    np.fill_diagonal(linked, False)

    background = _boundary_background(contrast, touching, linked, border)
    foreground = _stretched((contrast * nearness) @ background)  # eq. 5: contrast weighted by the background
    neighbours = linked | ((touching.astype(np.int64) @ touching) > 0)  # neighbours' neighbours smooth too
    np.fill_diagonal(neighbours, False)
    smoothness = np.where(neighbours, np.exp(-np.square(contrast) / (2 * _SIGMA_COLOUR**2)) + 0.1, 0.0)
    # eq. 9: sum bg s² + sum fg (s - 1)² + sum smoothness (s_i - s_j)², whose minimum is a linear system
    laplacian = np.diag(smoothness.sum(axis=1)) - smoothness
    system = laplacian + np.diag(_BACKGROUND_WEIGHT * background + foreground + 1e-9)
    return np.linalg.solve(system, foreground)


def _boundary_background(
    contrast: Float64[np.ndarray, "k k"],
    touching: Bool[np.ndarray, "k k"],
    linked: Bool[np.ndarray, "k k"],
    border: Bool[np.ndarray, "k"],
) -> Float64[np.ndarray, "k"]:
    """Probability of background from boundary connectivity, eqs. 1 to 4 and 6 of the paper."""
    closest = np.where(touching, contrast, np.inf).min(axis=1)
    noise = float(closest[np.isfinite(closest)].mean()) if touching.any() else 0.0  # steps this small are no edges
    first, second = np.nonzero(linked)
    steps = np.maximum(contrast[first, second] - noise, 0) + 1e-6  # a sparse matrix drops zeros
    paths = shortest_path(csr_matrix((steps, (first, second)), shape=contrast.shape), directed=False)
    similarity = np.exp(-np.square(paths) / (2 * _SIGMA_PATH**2))
    connectivity = similarity[:, border].sum(axis=1) / np.sqrt(similarity.sum(axis=1))
    background: np.ndarray = 1 - np.exp(-np.square(connectivity) / 2)
    return background


def _means(values: Float[np.ndarray, "h w c"], labels: Int[np.ndarray, "h w"], count: int) -> Float[np.ndarray, "k c"]:
    sizes = np.bincount(labels.ravel(), minlength=count)
    sums = [np.bincount(labels.ravel(), values[..., c].ravel(), count) for c in range(values.shape[-1])]
    return np.stack(sums, axis=-1) / sizes[:, None]


def _stretched(values: Float64[np.ndarray, "k"]) -> Float64[np.ndarray, "k"]:
    """To 0...1; zeros where the values differ by no more than rounding errors."""
    span = np.ptp(values)
    return (values - values.min()) / span if span > 1e-6 else np.zeros_like(values)
