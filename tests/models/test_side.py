"""Side information: round trips, size, and bytes that are anything but side information."""

import contextlib
import functools
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.codec import LONGEST_SIDE
from models.errors import ModelError
from models.image import MAX_PIXELS
from models.rate import LEVELS
from models.side import GROUP_SIZES, Side, group_grid, pack, round_hint, unpack


def random_side(height: int, width: int, group: int, has_roi: bool, wildness: float, seed: int) -> Side:
    """A rate map that wanders by `wildness` levels from group to group."""
    rng = np.random.default_rng(seed)
    hint_db, grey = -16 + 0.5 * (seed % 128), bool(seed % 3 == 0)
    header = Side(seed % 256, height, width, seed * 7 % 256, hint_db, group, grey=grey)
    if not group:
        return header
    shape = group_grid(header.grid, group)
    walk = 5 + wildness * (rng.normal(size=shape).cumsum(axis=0) + rng.normal(size=shape).cumsum(axis=1)) / 2
    levels = np.clip(np.round(walk), 0, len(LEVELS) - 1).astype(np.int32)
    roi = rng.random(shape) < rng.random() if has_roi else None
    return replace(header, levels=levels, roi=roi)


def assert_same(one: Side, two: Side) -> None:
    plain = ("model_id", "height", "width", "gain", "hint_db", "group", "grey")
    assert [getattr(one, name) for name in plain] == [getattr(two, name) for name in plain]
    for first, second in ((one.levels, two.levels), (one.roi, two.roi)):
        assert (first is None) == (second is None)
        if first is not None and second is not None:
            assert np.array_equal(first, second)
            assert first.dtype == second.dtype


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 900),
    st.integers(1, 900),
    st.sampled_from(GROUP_SIZES),
    st.booleans(),
    st.sampled_from([0.0, 0.3, 1.0, 4.0, 30.0]),
    st.integers(0, 10_000),
)
def test_round_trip(height: int, width: int, group: int, has_roi: bool, wildness: float, seed: int) -> None:
    side = random_side(height, width, group, has_roi, wildness, seed)
    assert_same(unpack(pack(side)), side)


@pytest.mark.parametrize("level", [0, len(LEVELS) - 1])
@pytest.mark.parametrize("inside", [None, False, True])
def test_extreme_maps_come_back(level: int, inside: bool | None) -> None:
    """Runs of the coder's first or last interval, whose bytes are all zeros or all ones."""
    shape = (30, 40)
    roi = None if inside is None else np.full(shape, inside)
    side = Side(1, 960, 1280, 2, 3.0, 2, np.full(shape, level, dtype=np.int32), roi)
    assert_same(unpack(pack(side)), side)
    checkers = np.indices(shape).sum(axis=0) % 2
    side = Side(1, 960, 1280, 2, 3.0, 2, (checkers * (len(LEVELS) - 1)).astype(np.int32), checkers.astype(bool))
    assert_same(unpack(pack(side)), side)


@pytest.mark.parametrize(("height", "width"), [(8000, 8000), (LONGEST_SIDE, 976), (1, LONGEST_SIDE)])
def test_largest_pictures_come_back_in_time(height: int, width: int) -> None:
    assert height * width <= MAX_PIXELS
    side = random_side(height, width, 2, True, 1.0, 1)
    data = pack(side)
    begun = time.process_time()
    assert_same(unpack(data), side)
    assert time.process_time() - begun < 1


def test_damaged_header_costs_little() -> None:
    """The largest picture that a header can ask for, with maps of anything."""
    rng = np.random.default_rng(0)
    header = bytearray(pack(random_side(8000, 8000, 2, True, 0.0, 1))[:10])
    for payload in (b"", bytes(4000), b"\xff" * 4000, rng.bytes(60_000)):
        begun = time.process_time()
        with contextlib.suppress(ModelError):
            unpack(bytes(header) + payload)
        assert time.process_time() - begun < 1


def test_uniform_rate_takes_only_the_header() -> None:
    assert len(pack(Side(1, 64, 127, 2, 3.0))) == 6
    assert len(pack(Side(1, 512, 768, 2, 3.0))) == 8
    assert len(pack(Side(1, 8000, 8000, 2, 3.0))) == 8


def test_maps_are_small() -> None:
    """Kodak's size on 2×2 groups: 384 groups, 166 bytes at a fixed length of log2(11) bits."""
    shape = (16, 24)

    def size(levels: np.ndarray, roi: np.ndarray | None = None) -> int:
        return len(pack(Side(1, 512, 768, 2, 3.0, 2, levels.astype(np.int32), roi))) - 8

    rows, columns = np.indices(shape)
    assert size(np.full(shape, 5)) < 25
    assert size(np.round(5 + 4 * np.sin(rows / 6) * np.cos(columns / 8))) < 70
    assert size(np.random.default_rng(0).integers(0, 11, shape)) < 215
    box = (rows >= 4) & (rows < 12) & (columns >= 6) & (columns < 18)
    assert size(5 + 4 * box, box) - size(np.full(shape, 5)) < 25  # the region says where the rate jumps
    assert size(5 + 4 * box, box) < size(5 + 4 * box) + 5


def test_hint_is_what_the_receiver_reads() -> None:
    for hint in (-30.0, -16.0, 0.1, 9.99, 40.0, 99.0):
        side = Side(1, 16, 16, 2, round_hint(hint))
        assert unpack(pack(side)).hint_db == side.hint_db
        if -16 <= hint <= 47:
            assert side.hint_db == pytest.approx(hint, abs=0.25)


@functools.cache
def _sound(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 300, 2).tolist()
    return pack(random_side(height, width, GROUP_SIZES[seed % 4], bool(rng.integers(2)), float(rng.random() * 2), seed))


def _mutations(seed: int) -> bytes:
    """Truncated, extended, flipped and random bytes."""
    rng = np.random.default_rng(seed)
    kind = seed % 4
    if kind == 0:
        return rng.bytes(int(rng.integers(0, 80)))
    data = bytearray(_sound(seed % 41))
    if kind == 1:
        return bytes(data[: int(rng.integers(0, len(data) + 1))])
    if kind == 2:
        return bytes(data) + rng.bytes(int(rng.integers(1, 20)))
    for _ in range(int(rng.integers(1, 4))):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(data)


def test_nothing_but_a_clear_error_from_bytes_of_any_kind() -> None:
    refused = 0
    begun = time.process_time()
    for seed in range(2000):
        try:
            side = unpack(_mutations(seed))
        except ModelError as error:
            refused += 1
            assert "side information" in str(error)
            assert "\n" not in str(error)
        else:
            assert 0 < side.height * side.width <= MAX_PIXELS
            if side.levels is not None:
                assert side.levels.shape == group_grid(side.grid, side.group)
                assert side.levels.min() >= 0
                assert side.levels.max() < len(LEVELS)
    assert 500 < refused < 2000
    assert time.process_time() - begun < 20


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "of 0 bytes is cut short"),
        (pack(Side(1, 300, 300, 2, 3.0))[:-1], "of 7 bytes is cut short"),
        (pack(Side(1, 0, 300, 2, 3.0)), "picture of 300×0 pixels"),
        (pack(Side(1, 8001, 8000, 2, 3.0)), "picture of 8000×8001 pixels"),
        (pack(Side(1, LONGEST_SIDE + 1, 1, 2, 3.0)), "picture of 1×65536 pixels"),
        (b"\x01" + b"\xff" * 30, "cut short"),
        (pack(Side(1, 300, 300, 2, 3.0))[:-1] + b"\x20", "flags are 0x20"),
        (pack(Side(1, 300, 300, 2, 3.0)) + b"\x00", "bytes after its end"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_was_wrong_is_said(data: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        unpack(data)
