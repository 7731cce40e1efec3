"""Large pictures in pieces: a network that sees only so far needs no more than a window of the picture at a time.

Every tile is computed with as much of its surroundings as the network can see, and only the tile itself is kept. The
result is that of the whole picture at once, up to the rounding of sums, so that there are no seams to blend.
"""

import ctypes
import math
import sys
from collections.abc import Callable, Iterator, Sequence

from jaxtyping import Float
from torch import Tensor

TILE = 96  # latent positions per side, 1536 pixels; what is not larger is not divided

Span = tuple[int, int]


def in_tiles(
    function: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Float[Tensor, "b _ _ _"]],
    grid: tuple[int, int],
    reach: int,
    tile: int | None = None,
) -> tuple[Tensor, ...]:
    """`function(*inputs)`, computed by windows where the picture is larger than a tile.

    Args:
        function: maps of a window → maps of the same window, each at any whole multiple of the grid's resolution.
        inputs: maps [b, c, s·rows, s·columns] of the whole picture, each of its own whole scale s.
        grid: latent positions (rows, columns) of the picture.
        reach: positions around a place that its output depends on.
        tile: largest tile, positions per side; `TILE` unless given.
    """
    rows, columns = grid
    tile = TILE if tile is None else tile
    if max(grid) <= tile:
        return function(*inputs)
    outputs: tuple[Tensor, ...] = ()
    for vertical in _spans(rows, tile):
        for horizontal in _spans(columns, tile):
            (top, bottom), (left, right) = (_widened(vertical, rows, reach), _widened(horizontal, columns, reach))
            scales = [x.shape[-1] // columns for x in inputs]
            windows = (x[..., top * s : bottom * s, left * s : right * s] for x, s in zip(inputs, scales, strict=True))
            results = function(*windows)
            scales = [result.shape[-1] // (right - left) for result in results]
            if not outputs:
                shapes = [(*r.shape[:-2], rows * s, columns * s) for r, s in zip(results, scales, strict=True)]
                outputs = tuple(r.new_empty(shape) for r, shape in zip(results, shapes, strict=True))
            for output, result, s in zip(outputs, results, scales, strict=True):
                target = output[..., _scaled(vertical, 0, s), _scaled(horizontal, 0, s)]
                target.copy_(result[..., _scaled(vertical, top, s), _scaled(horizontal, left, s)])
            del results, result
            _give_back()
    return outputs


def _give_back() -> None:
    """Returns freed memory to the system, which glibc keeps otherwise: 1 GB more for 12 million pixels."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _spans(length: int, tile: int) -> Iterator[Span]:
    """As few pieces of at most `tile` as will do, about equally long."""
    count = math.ceil(length / tile)
    for index in range(count):
        yield length * index // count, length * (index + 1) // count


def _widened(span: Span, length: int, reach: int) -> Span:
    """Where the picture ends, so does the window: the convolutions pad there as they do in the whole picture."""
    return max(0, span[0] - reach), min(length, span[1] + reach)


def _scaled(span: Span, origin: int, scale: int) -> slice:
    return slice((span[0] - origin) * scale, (span[1] - origin) * scale)
