"""Encoded pictures in a pipe, received images in files, both as PDUs."""

import io
import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgraphs import exchange
from flowgraphs.exchange import Outgoing, read_image, write_image
from flowgraphs.pdu import image_to_pdu, pdu_to_image, pdu_to_picture, picture_to_pdu
from sdr.errors import SdrError
from sdr.receive import ReceivedImage
from tests.flowgraphs.helpers import outgoing


def received(number: int = 1, side: bytes | None = b"side\0information") -> ReceivedImage:
    sent = outgoing(number, count=500)
    noise_var = np.full(500, 0.1, np.float32)
    noise_var[::7] = np.inf
    return ReceivedImage(sent.symbols, noise_var, side, 12.5, -1234.5, 0.7, 7, number, 3, 1, 4, 1 << 40)


def same(first: object, second: object) -> bool:
    kind = type(first)
    assert kind is type(second) and kind in (Outgoing, ReceivedImage)
    return all(np.array_equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(kind))


def test_a_pipe_gives_back_what_was_put_into_it_and_then_none() -> None:
    pipe, items = io.BytesIO(), [outgoing(number) for number in range(3)]
    for item in items:
        exchange.put(pipe, item)
    pipe.seek(0)
    assert all(same(exchange.get(pipe), item) for item in items)
    assert exchange.get(pipe) is None


@settings(max_examples=30)
@given(st.data())
def test_a_pipe_that_breaks_has_ended_and_one_of_something_else_is_an_error(data: st.DataObject) -> None:
    pipe = io.BytesIO()
    exchange.put(pipe, outgoing(1, count=20))
    whole = pipe.getvalue()
    assert exchange.get(io.BytesIO(whole[: data.draw(st.integers(0, len(whole) - 1))])) is None
    garbage = data.draw(st.binary(min_size=1, max_size=100))
    with pytest.raises(SdrError, match="not an \\.npz file"):
        exchange.get(io.BytesIO(len(garbage).to_bytes(8, "little") + garbage))


@pytest.mark.parametrize("side", [None, b"side\0information"])
def test_files_and_pdus_give_back_the_image(tmp_path: Path, side: bytes | None) -> None:
    image = received(side=side)
    write_image(tmp_path / "image.npz", image)
    assert same(read_image(tmp_path / "image.npz"), image)
    assert os.listdir(tmp_path) == ["image.npz"]
    assert same(pdu_to_image(image_to_pdu(image)), image)


def test_a_picture_survives_as_a_pdu() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    back, numbers = pdu_to_picture(picture_to_pdu(picture[:, ::1], {"name": "ä.png", "snr_db": 1.5}))
    assert np.array_equal(back, picture) and numbers == {"name": "ä.png", "snr_db": 1.5}


def test_damaged_and_foreign_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "image.npz"
    write_image(path, received())
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\x93NUMPY", whole.replace(b"NUMPY", b"NUMPX")):
        path.write_bytes(content)
        with pytest.raises(SdrError, match=r"^[^\n]*not an \.npz file[^\n]*$"):
            read_image(path)
    np.savez(path, symbols=np.array([{}], object))
    with pytest.raises(SdrError, match=r"not an \.npz file"):
        read_image(path)
    np.savez(path, symbols=np.ones(3))
    with pytest.raises(SdrError, match="'symbols' is missing or of another type"):
        read_image(path)
    with pytest.raises(SdrError, match="cannot read"):
        read_image(tmp_path)
    with pytest.raises(SdrError, match="cannot write"):
        write_image(tmp_path / "none" / "image.npz", replace(received(), side=None))
