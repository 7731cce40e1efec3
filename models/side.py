"""Side information: what must arrive exactly, in as few bytes as can be. Every byte of it is charged to the CBR.

Layout: model id (1 byte), height and width (LEB128), power gain (1), SNR hint (1), flags (1), then the range-coded
rate map and region of interest on groups of positions. Flags: bits 0–1 group size 0 none, 1…3 = 2, 4, 8 positions per
side; bit 2 region of interest present; bits 3–4 spread of the rate map's prediction error.
"""

from dataclasses import dataclass, replace

import constriction
import numpy as np
from jaxtyping import Bool, Int32

from models.errors import ModelError
from models.image import MAX_PIXELS
from models.rate import LEVELS
from models.transform import PATCH

GROUP_SIZES = (0, 2, 4, 8)
_SPREADS = (0.35, 0.7, 1.2, 2.2)  # scale of the Laplace distribution, in levels
_INSIDE = (0.03, 0.5, 0.95)  # probability that a group is inside, given how many of its two neighbours are
_HINT_STEP_DB = 0.25
_HINT_LEAST_DB = -16.0


@dataclass(frozen=True)
class Side:
    """Contents of the side information.

    `levels` int32[rows, columns] indices into `LEVELS` and `roi` bool[rows, columns], on groups of `group`×`group`
    positions; `levels` is None for a uniform rate, `roi` None without a region of interest.
    """

    model_id: int
    height: int
    width: int
    gain: int
    hint_db: float
    group: int = 0
    levels: Int32[np.ndarray, "r c"] | None = None
    roi: Bool[np.ndarray, "r c"] | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Latent positions (rows, columns) of the padded picture."""
        return -(-self.height // PATCH), -(-self.width // PATCH)


def group_grid(grid: tuple[int, int], group: int) -> tuple[int, int]:
    """Groups (rows, columns) that cover a grid of positions."""
    return -(-grid[0] // group), -(-grid[1] // group)


def round_hint(hint_db: float) -> float:
    """The SNR hint as the receiver will read it."""
    return _hint_from(_hint_code(hint_db))


def pack(side: Side) -> bytes:
    """Serialises `side`; where there is a rate map, with the spread that codes it shortest."""
    if side.levels is None and side.roi is None:
        return _header(side, 0)
    spreads = range(len(_SPREADS)) if side.levels is not None else range(1)
    return min((_header(side, spread) + _encode_maps(side, spread) for spread in spreads), key=len)


def unpack(data: bytes) -> Side:
    """Inverse of `pack`.

    Raises:
        ModelError: `data` is not side information: too short, sizes out of range, maps that do not decode.
    """
    try:
        model_id, position = data[0], 1
        height, position = _read_varint(data, position)
        width, position = _read_varint(data, position)
        gain, hint, flags = data[position : position + 3]
    except (IndexError, ValueError):
        raise ModelError(f"side information of {len(data)} bytes is cut short") from None
    if not (height and width and height * width <= MAX_PIXELS) or flags >> 5:
        raise ModelError(f"side information is damaged: it asks for a picture of {width}×{height} pixels")
    group = GROUP_SIZES[flags & 3]
    side = Side(model_id, height, width, gain, _hint_from(hint), group)
    if not group:
        return side
    return _decode_maps(side, data[position + 3 :], has_roi=bool(flags & 4), spread=flags >> 3 & 3)


def _header(side: Side, spread: int) -> bytes:
    flags = GROUP_SIZES.index(side.group) | (side.roi is not None) << 2 | spread << 3
    sizes = _varint(side.height) + _varint(side.width)
    return bytes((side.model_id,)) + sizes + bytes((side.gain, _hint_code(side.hint_db), flags))


def _hint_code(hint_db: float) -> int:
    return int(np.clip(round((hint_db - _HINT_LEAST_DB) / _HINT_STEP_DB), 0, 255))


def _hint_from(code: int) -> float:
    return _HINT_LEAST_DB + code * _HINT_STEP_DB


def _varint(value: int) -> bytes:
    result = bytearray()
    while value >= 0x80:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*result, value))


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 28, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("varint too long")


def _neighbours(values: np.ndarray, row: int, column: int, start: float) -> float:
    """Mean of the left and upper neighbours, of the one that there is, or `start`."""
    known = ([values[row, column - 1]] if column else []) + ([values[row - 1, column]] if row else [])
    return float(sum(known)) / len(known) if known else start


def _laplace() -> "constriction.stream.model.QuantizedLaplace":
    return constriction.stream.model.QuantizedLaplace(0, len(LEVELS) - 1)


def _bernoulli() -> "constriction.stream.model.Bernoulli":
    return constriction.stream.model.Bernoulli(perfect=False)


def _inside(neighbours: float) -> float:
    return _INSIDE[round(2 * neighbours)]


def _encode_maps(side: Side, spread: int) -> bytes:
    encoder = constriction.stream.queue.RangeEncoder()
    rows, columns = group_grid(side.grid, side.group)
    cells = [(row, column) for row in range(rows) for column in range(columns)]
    if side.levels is not None:
        means = np.array([_neighbours(side.levels, *cell, len(LEVELS) / 2) for cell in cells])
        scales = np.full(len(cells), _SPREADS[spread])
        encoder.encode(side.levels.astype(np.int32).ravel(), _laplace(), means, scales)
    if side.roi is not None:
        inside = np.array([_inside(_neighbours(side.roi, *cell, 0.0)) for cell in cells])
        encoder.encode(side.roi.astype(np.int32).ravel(), _bernoulli(), inside)
    words = encoder.get_compressed()
    data: bytes = words.astype(">u4").tobytes()
    while data and _same(side, data[:-1], spread):  # the coder seals whole words; most of the last is not needed
        data = data[:-1]
    return data


def _same(side: Side, data: bytes, spread: int) -> bool:
    try:
        decoded = _decode_maps(side, data, side.roi is not None, spread)
    except ModelError:
        return False
    return np.array_equal(decoded.levels, side.levels) and (side.roi is None or np.array_equal(decoded.roi, side.roi))


def _decode_maps(side: Side, data: bytes, has_roi: bool, spread: int) -> Side:
    rows, columns = group_grid(side.grid, side.group)
    padded = data + bytes(-len(data) % 4 + 4)
    decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(padded, dtype=">u4").astype(np.uint32))
    levels = np.zeros((rows, columns), dtype=np.int32)
    roi = np.zeros((rows, columns), dtype=bool)
    try:
        laplace, bernoulli = _laplace(), _bernoulli()
        for row, column in np.ndindex(rows, columns):
            mean = _neighbours(levels, row, column, len(LEVELS) / 2)
            levels[row, column] = decoder.decode(laplace, np.array([mean]), np.array([_SPREADS[spread]]))[0]
        if has_roi:
            for row, column in np.ndindex(rows, columns):
                inside = np.array([_inside(_neighbours(roi, row, column, 0.0))])
                roi[row, column] = decoder.decode(bernoulli, inside)[0]
    except (AssertionError, ValueError) as error:
        raise ModelError("side information is damaged: its rate map does not decode") from error
    return replace(side, levels=levels, roi=roi if has_roi else None)
