"""The digital link with a real code: what arrives is what was sent, or nothing."""

import itertools
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgraphs import link
from flowgraphs.digital import DigitalLink
from flowgraphs.errors import LinkError
from flowgraphs.modes import MODES, Mode, choose, demodulate, modulate
from models.codec import GREY, Codec, Encoded
from models.digital import best_within
from models.errors import ModelError
from models.metrics import psnr_db
from models.registry import load_codec
from sdr.channel import Channel
from sdr.waveform import DEFAULT

SIDE = struct.Struct(">BHHBBI")


@pytest.fixture(scope="module")
def codec() -> DigitalLink:
    return DigitalLink()


def cost(side_bytes: int) -> int:
    return 16 * (side_bytes + 4) + 12


def encode(codec: Codec, image: np.ndarray, hint_db: float = 10.0, cbr: float = 1 / 12, **changes: Any) -> Encoded:
    arguments: dict[str, Any] = {"mask": None, "side_symbols": cost}
    return codec.encode(image, cbr=cbr, snr_hint_db=hint_db, **arguments | changes)


def through_noise(symbols: np.ndarray, snr_db: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng, variance = np.random.default_rng(seed), 10 ** (-snr_db / 10)
    noise = rng.standard_normal((2, len(symbols))) * (variance / 2) ** 0.5
    return (symbols + noise[0] + 1j * noise[1]).astype(np.complex64), np.full(len(symbols), variance, np.float32)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_every_mode_carries_its_bytes_at_its_snr_and_not_much_below(mode: Mode) -> None:
    symbols = int(20.5 * mode.code.k / mode.rate / mode.bits)
    data = np.random.default_rng(0).bytes(mode.data_bytes(symbols))
    sent = modulate(data, mode, symbols)
    assert len(sent) == symbols and mode.blocks(symbols) == 20
    assert np.mean(np.abs(sent) ** 2) == pytest.approx(1, abs=0.05)
    assert demodulate(*through_noise(sent, mode.least_snr_db), mode)[: len(data)] == data
    assert demodulate(*through_noise(sent, mode.least_snr_db - 3), mode)[: len(data)] != data


def test_no_mode_beats_capacity_and_each_gains_on_the_one_before() -> None:
    for mode in MODES:
        assert mode.bits * mode.rate < np.log2(1 + 10 ** (mode.least_snr_db / 10))
    for slower, faster in itertools.pairwise(MODES):
        assert slower.least_snr_db < faster.least_snr_db and slower.bits * slower.rate < faster.bits * faster.rate


def test_the_fastest_mode_that_the_snr_carries() -> None:
    for mode in MODES:
        assert choose(mode.least_snr_db) == mode
        assert choose(mode.least_snr_db - 1e-6) == MODES[max(MODES.index(mode) - 1, 0)]
    assert choose(-10.0) == MODES[0] and choose(40.0) == MODES[-1]


def test_a_codec_but_for_the_cliff(codec: DigitalLink) -> None:
    assert isinstance(codec, Codec)
    assert isinstance(load_codec("flowgraphs/digital.py:load"), Codec)


@pytest.mark.parametrize("cbr", [1 / 48, 1 / 24, 1 / 12, 1 / 6])
def test_the_budget_is_met_at_unit_power(codec: DigitalLink, photo: np.ndarray, cbr: float) -> None:
    encoded = encode(codec, photo, cbr=cbr)
    assert len(encoded.symbols) + cost(len(encoded.side)) == int(cbr * photo.size)
    assert encoded.symbols.dtype == np.complex64
    assert np.mean(np.abs(encoded.symbols) ** 2) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("hint_db", [0.0, 10.0, 20.0])
def test_what_arrives_is_the_file_that_was_chosen(codec: DigitalLink, photo: np.ndarray, hint_db: float) -> None:
    encoded = encode(codec, photo, hint_db)
    arrived = codec.decode(*through_noise(encoded.symbols, hint_db), hint_db, encoded.side)
    bits = 8 * (choose(hint_db).data_bytes(len(encoded.symbols)) - 4)
    assert np.array_equal(arrived, best_within(photo, bits).image)


def test_the_cliff(codec: DigitalLink, photo: np.ndarray) -> None:
    """Better channels than the hint bring nothing, worse ones lose everything."""
    hint_db = MODES[4].least_snr_db
    encoded = encode(codec, photo, hint_db)
    at, above = (codec.decode(*through_noise(encoded.symbols, s), s, encoded.side) for s in (hint_db, hint_db + 15))
    assert np.array_equal(at, above)
    with pytest.raises(LinkError, match="could not correct") as caught:
        codec.decode(*through_noise(encoded.symbols, hint_db - 3), hint_db - 3, encoded.side)
    assert "\n" not in str(caught.value)


def test_the_same_arguments_give_the_same_symbols(codec: DigitalLink, photo: np.ndarray) -> None:
    one, other = encode(codec, photo), encode(DigitalLink(), photo)
    assert np.array_equal(one.symbols, other.symbols) and one.side == other.side


def test_over_the_modem(codec: DigitalLink, photo: np.ndarray) -> None:
    """The waveform, packets, header and side information of every other codec; losses spread over all blocks."""
    for channel in (Channel(snr_db=10.0), Channel(snr_db=22.0, loss=0.1)):
        passage = link.loopback(codec, photo, DEFAULT, channel, cbr=1 / 24, snr_hint_db=10.0, seed=3)
        picture = link.decode(codec, passage.received)
        assert psnr_db(photo, picture) > 25
        assert 0.98 / 24 < passage.sent.cbr <= 1 / 24
    with pytest.raises(LinkError, match="could not correct"):
        passage = link.loopback(codec, photo, DEFAULT, Channel(snr_db=6.0), cbr=1 / 24, snr_hint_db=10.0, seed=3)
        link.decode(codec, passage.received)


def test_erased_symbols_are_not_looked_at_and_few_are_made_good(codec: DigitalLink, photo: np.ndarray) -> None:
    encoded = encode(codec, photo, 4.0)
    received, noise_var = through_noise(encoded.symbols, 12.0)
    whole = codec.decode(received, noise_var, 12.0, encoded.side)
    gone = len(received) // 8
    noise_var[:gone], received[:gone] = np.inf, 1e6
    assert np.array_equal(codec.decode(received, noise_var, 12.0, encoded.side), whole)
    noise_var[: 7 * gone] = np.inf
    with pytest.raises(LinkError):
        codec.decode(received, noise_var, 12.0, encoded.side)
    noise_var[:] = np.inf
    assert (codec.decode(received, noise_var, 12.0, encoded.side) == GREY).all()


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_side_information_of_any_kind_is_an_error_or_a_picture(
    codec: DigitalLink, photo: np.ndarray, data: st.DataObject
) -> None:
    encoded = encode(codec, photo[:48, :48], cbr=1 / 6, side_symbols=lambda _: 0)
    side = bytearray(encoded.side)
    if data.draw(st.booleans()):
        side = bytearray(data.draw(st.binary(max_size=SIDE.size + 2)))
    for place in data.draw(st.lists(st.integers(0, len(side) - 1), max_size=2)) if side else ():
        side[place] = data.draw(st.integers(0, 255))
    symbols = encoded.symbols
    try:
        arrived = codec.decode(symbols, np.full(len(symbols), 0.01, np.float32), 20.0, bytes(side))
    except (LinkError, ModelError) as error:
        assert "\n" not in str(error)
    else:
        assert arrived.dtype == np.uint8


def test_what_does_not_fit_is_refused(codec: DigitalLink, photo: np.ndarray) -> None:
    with pytest.raises(ModelError, match="no LDPC block"):
        encode(codec, photo[:32, :32], cbr=1 / 48)
    with pytest.raises(ModelError, match="CBR"):
        encode(codec, photo, cbr=0.5)
    encoded = encode(codec, photo)
    other = bytes((encoded.side[0] ^ 1, *encoded.side[1:]))
    with pytest.raises(ModelError, match="other codes or modes"):
        codec.decode(*through_noise(encoded.symbols, 10.0), 10.0, other)
    with pytest.raises(ModelError, match="must agree"):
        codec.decode(encoded.symbols, np.ones(3, np.float32), 10.0, encoded.side)
