"""Messages survive the wire, and nothing else does."""

import struct
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import protocol
from models.protocol import (
    VERSION,
    Batch,
    Beat,
    Bye,
    Failure,
    Full,
    Job,
    Message,
    Picture,
    Ping,
    Pong,
    ProtocolError,
    Ready,
    Refusal,
    VersionError,
    decode,
    encode,
)

NUMBER = st.integers(0, (1 << 64) - 1)
SMALL = st.integers(0, (1 << 32) - 1)
TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N")), max_size=100)
IDS = st.lists(NUMBER, max_size=20).map(tuple)


def jobs(count: int, number: int, steps: int | None, seed: int, snr_db: float, side: bytes) -> Job:
    rng = np.random.default_rng(count)
    symbols = (rng.normal(size=count) + 1j * rng.normal(size=count)).astype(np.complex64)
    noise_var = rng.choice([0.1, np.inf], size=count).astype(np.float32)
    return Job(number, steps, seed, snr_db, symbols, noise_var, side)


MESSAGES = st.one_of(
    st.builds(Ping, TEXT, st.sampled_from([b"", bytes(range(32))]), IDS),
    st.builds(Pong, TEXT, SMALL, SMALL, SMALL, NUMBER, NUMBER, IDS),
    st.builds(Refusal, TEXT),
    st.builds(
        jobs,
        st.integers(0, 50),
        NUMBER,
        st.none() | st.integers(0, 1000),
        NUMBER,
        st.floats(allow_nan=False),
        st.binary(max_size=50),
    ),
    st.builds(
        lambda number, height, width: Picture(number, np.full((height, width, 3), number % 256, np.uint8)),
        NUMBER,
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    st.builds(Failure, NUMBER, TEXT),
    st.builds(Full, NUMBER),
    st.just(Bye()),
    st.builds(Batch, SMALL),
    st.builds(Ready, SMALL),
    st.just(Beat()),
)


def assert_same(ours: Message, theirs: Message) -> None:
    assert type(ours) is type(theirs)
    for field in fields(ours):
        mine, other = getattr(ours, field.name), getattr(theirs, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == other.dtype and np.array_equal(mine, other)
        else:
            assert mine == other


@given(MESSAGES)
def test_every_message_survives(message: Message) -> None:
    assert_same(message, decode(encode(message)))


@given(st.lists(st.binary(max_size=64), max_size=6))
def test_foreign_frames_are_refused_and_nothing_else_is_raised(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        decode(frames)


@given(MESSAGES, st.data())
def test_damaged_messages_are_read_as_a_message_or_refused(message: Message, data: st.DataObject) -> None:
    frames = [bytearray(frame) for frame in encode(message)]
    for _ in range(data.draw(st.integers(1, 4))):
        frame = frames[data.draw(st.integers(0, len(frames) - 1))]
        if frame and data.draw(st.booleans()):
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
        else:
            del frame[data.draw(st.integers(0, len(frame))) :]
    frames = frames[: data.draw(st.integers(0, len(frames)))] + [bytearray()] * data.draw(st.integers(0, 1))
    try:
        decoded = decode([bytes(frame) for frame in frames])
    except ProtocolError:
        return
    assert_same(decoded, decode(encode(decoded)))


def test_another_version_is_told_apart_from_noise() -> None:
    frames = encode(Bye())
    frames[0] = frames[0][:4] + bytes((VERSION + 1,)) + frames[0][5:] + b"fields that version 1 does not know"
    with pytest.raises(VersionError, match=f"speaks version {VERSION + 1} of the protocol, this one version {VERSION}"):
        decode(frames)


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    job, picture = jobs(40, 1, None, 0, 10.0, b"side"), Picture(1, np.zeros((4, 5, 3), np.uint8))
    frames, pixels = encode(job), encode(picture)
    monkeypatch.setattr(protocol, "MAX_SYMBOLS", 39)
    monkeypatch.setattr(protocol, "MAX_PIXELS", 19)
    for oversized in (frames, pixels):
        with pytest.raises(ProtocolError, match="malformed"):
            decode(oversized)
    with pytest.raises(ProtocolError, match="too many"):
        encode(job)


def test_a_picture_larger_than_its_pixels_is_refused_without_making_room_for_it() -> None:
    head, pixels = encode(Picture(1, np.zeros((4, 5, 3), np.uint8)))
    huge = head[:-8] + struct.pack("<II", 8000, 8000)
    with pytest.raises(ProtocolError, match="malformed Picture"):
        decode([huge, pixels])


def test_text_for_people_is_one_printable_line() -> None:
    reason = decode([encode(Refusal(""))[0], b"\x1b[2Jred\nalert\xff"])
    assert isinstance(reason, Refusal) and reason.reason == "[2Jredalert�"


def test_jobs_that_no_service_takes_are_refused_before_they_are_sent() -> None:
    short = Job(1, None, 0, 1.0, np.zeros(3, np.complex64), np.zeros(2, np.float32), b"")
    with pytest.raises(ProtocolError, match="3 symbols came with 2 noise variances"):
        encode(short)
    with pytest.raises(ProtocolError, match="seed -1"):
        encode(jobs(3, 1, None, -1, 1.0, b""))
