"""Side information: what must arrive exactly, in as few bytes as can be. Every byte of it is charged to the CBR.

Layout: model id (1 byte), height and width (LEB128), power gain (1), SNR hint (1), flags (1), then the range-coded
region of interest and rate map on groups of positions. SNR hint: bits 0–6 half dB above −16 dB; bit 7 a grey picture.
Flags: bits 0–1 group size 0 none, 1…3 = 2, 4, 8 positions per side; bit 2 region of interest present; bits 3–4 spread
of the rate map's prediction error; bits 5–7 weight of the region of interest in eighths, 0 for eight.
"""

from dataclasses import dataclass, replace
from typing import Any

import constriction
import numpy as np
from jaxtyping import Bool, Int32

from models.codec import LONGEST_SIDE
from models.errors import ModelError
from models.image import MAX_PIXELS
from models.rate import LEVELS
from models.transform import PATCH

GROUP_SIZES = (0, 2, 4, 8)
_SPREADS = (0.35, 0.7, 1.2, 2.2)  # scale of the Laplace distribution, in levels
_FIRST_LEVEL = float(len(LEVELS) // 2)  # expected where there are no neighbours
_ROI_JUMP = 4  # levels from one side of the edge of a region of interest to the other, with `rate.ROI_GAIN`
_INSIDE = (0.03, 0.5, 0.95)  # probability that a group is inside, given how many of its two neighbours are
_HINT_STEP_DB = 0.5
_HINT_LEAST_DB = -16.0
_HINT_CODES = 128


@dataclass(frozen=True)
class Side:
    """Contents of the side information.

    `levels` int32[rows, columns] indices into `LEVELS` and `roi` bool[rows, columns], on groups of `group`×`group`
    positions; `levels` is None for a uniform rate (and then `group` 0), `roi` None without a region of interest, which
    takes a rate map to have an effect. `roi_eighths` 1…8: its weight in the latent, 8 as trained. `grey`: the three
    channels are equal.
    """

    model_id: int
    height: int
    width: int
    gain: int
    hint_db: float
    group: int = 0
    levels: Int32[np.ndarray, "r c"] | None = None
    roi: Bool[np.ndarray, "r c"] | None = None
    roi_eighths: int = 8
    grey: bool = False

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
    if side.levels is None:
        return _header(side, 0)
    return min((_header(side, spread) + _encode_maps(side, spread) for spread in range(len(_SPREADS))), key=len)


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
    if not (height and width and height * width <= MAX_PIXELS and max(height, width) <= LONGEST_SIDE):
        raise ModelError(f"side information is damaged: it asks for a picture of {width}×{height} pixels")
    if flags >> 5 and not (flags & 3 and flags & 4):
        raise ModelError(f"side information is damaged or of a newer version: its flags are {flags:#x}")
    group = GROUP_SIZES[flags & 3]
    side = Side(model_id, height, width, gain, _hint_from(hint % _HINT_CODES), group, grey=hint >= _HINT_CODES)
    if not group:
        if len(data) > position + 3:
            raise ModelError("side information is damaged: there are bytes after its end")
        return side
    decoded = _decode_maps(side, data[position + 3 :], has_roi=bool(flags & 4), spread=flags >> 3 & 3)
    return replace(decoded, roi_eighths=flags >> 5 or 8)


def _header(side: Side, spread: int) -> bytes:
    weight = side.roi_eighths % 8 if side.roi is not None else 0
    flags = GROUP_SIZES.index(side.group) | (side.roi is not None) << 2 | spread << 3 | weight << 5
    sizes = _varint(side.height) + _varint(side.width)
    hint = _hint_code(side.hint_db) + _HINT_CODES * side.grey
    return bytes((side.model_id,)) + sizes + bytes((side.gain, hint, flags))


def _hint_code(hint_db: float) -> int:
    return int(np.clip(round((hint_db - _HINT_LEAST_DB) / _HINT_STEP_DB), 0, _HINT_CODES - 1))


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


def _level_models(spread: int) -> dict[float, Any]:
    """Distribution of a level for every mean of its neighbours."""
    top = len(LEVELS) - 1
    laplace, scale = constriction.stream.model.QuantizedLaplace, _SPREADS[spread]
    return {half / 2: laplace(0, top, half / 2, scale) for half in range(2 * top + 1)}


def _roi_models() -> dict[float, Any]:
    """Distribution of a group's being inside, for every mean of its neighbours."""
    return {half / 2: constriction.stream.model.Bernoulli(p, perfect=False) for half, p in enumerate(_INSIDE)}


def _neighbour_means(values: np.ndarray, start: float) -> np.ndarray:
    """Mean of the left and upper neighbours of every value, of the one that there is, or `start`."""
    means = np.full(values.shape, start)
    means[0, 1:], means[1:, 0] = values[0, :-1], values[:-1, 0]
    means[1:, 1:] = (values[1:, :-1].astype(float) + values[:-1, 1:]) / 2
    return means


def _expected_levels(levels: Int32[np.ndarray, "r c"], roi: Bool[np.ndarray, "r c"] | None) -> np.ndarray:
    """What a level is by its neighbours; one on the other side of the edge of a region counts `_ROI_JUMP` more or less.

    The shares of rate inside and outside are far apart, and the region has been sent before.
    """
    jumps = np.zeros(levels.shape, np.int32) if roi is None else _ROI_JUMP * roi.astype(np.int32)
    return np.asarray(np.clip(_neighbour_means(levels - jumps, _FIRST_LEVEL) + jumps, 0, len(LEVELS) - 1))


def _decode_map(
    decoder: Any, jumps: list[list[int]], models: dict[float, Any], start: float, top: int
) -> list[list[int]]:
    """Values in reading order, each given what its neighbours say. Lists, because elements of arrays are slow."""
    values: list[list[int]] = []  # less their jumps
    for row, line_jumps in enumerate(jumps):
        line: list[int] = []
        for column, jump in enumerate(line_jumps):
            beside = [line[-1]] if column else []
            beside += [values[-1][column]] if row else []
            mean = sum(beside) / len(beside) if beside else start
            line.append(decoder.decode(models[min(max(mean + jump, 0.0), float(top))]) - jump)
        values.append(line)
    return [[value + jump for value, jump in zip(*lines, strict=True)] for lines in zip(values, jumps, strict=True)]


def _encode_maps(side: Side, spread: int) -> bytes:
    encoder = constriction.stream.queue.RangeEncoder()
    assert side.levels is not None
    maps = [] if side.roi is None else [(side.roi, _neighbour_means(side.roi, 0.0), _roi_models())]
    for values, means, models in [*maps, (side.levels, _expected_levels(side.levels, side.roi), _level_models(spread))]:
        for value, mean in zip(values.ravel().tolist(), means.ravel().tolist(), strict=True):
            encoder.encode(int(value), models[mean])
    words: np.ndarray = encoder.get_compressed()
    data: bytes = words.astype(">u4").tobytes()
    while data and _same(side, data[:-1], spread):  # the coder seals whole words; most of the last is not needed
        data = data[:-1]
    return data


def _same(side: Side, data: bytes, spread: int) -> bool:
    try:
        decoded = _decode_maps(side, data, side.roi is not None, spread)
    except ModelError:
        return False
    pairs = ((decoded.levels, side.levels), (decoded.roi, side.roi))
    return all(theirs is None or np.array_equal(ours, theirs) for ours, theirs in pairs if ours is not None)


def _decode_maps(side: Side, data: bytes, has_roi: bool, spread: int) -> Side:
    rows, columns = group_grid(side.grid, side.group)
    padded = data + bytes(-len(data) % 4 + 4)
    decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(padded, dtype=">u4").astype(np.uint32))

    jumps, roi, top = [[0] * columns for _ in range(rows)], None, len(LEVELS) - 1
    try:
        if has_roi:
            inside = _decode_map(decoder, jumps, _roi_models(), 0.0, 1)
            roi, jumps = np.array(inside, dtype=bool), [[_ROI_JUMP * value for value in line] for line in inside]
        levels = np.array(_decode_map(decoder, jumps, _level_models(spread), _FIRST_LEVEL, top), dtype=np.int32)
    except (AssertionError, ValueError) as error:
        raise ModelError("side information is damaged: its rate map does not decode") from error
    return replace(side, levels=levels, roi=roi)
