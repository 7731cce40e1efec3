"""The whole chain with a codec whose answer is known: what crosses it must be exactly what was sent."""

from collections.abc import Callable

import numpy as np
import pytest

from flowgraphs.errors import LinkError
from flowgraphs.link import decode, loopback
from models.codec import Encoded
from sdr.channel import Channel
from sdr.framing import side_repetition, side_symbols
from sdr.waveform import DEFAULT


class Echo:
    """Sends random symbols and notes what it was given to decode."""

    name = "echo"
    parameters = 0
    digest = ""
    device = "cpu"

    def __init__(self) -> None:
        self.encoded: Encoded | None = None

    def encode(
        self,
        image: np.ndarray,
        *,
        cbr: float,
        snr_hint_db: float,
        mask: np.ndarray | None,
        side_symbols: Callable[[int], int],
    ) -> Encoded:
        side = b"side information"
        count = int(cbr * image.size) - side_symbols(len(side))
        rng = np.random.default_rng(1)
        symbols = (rng.standard_normal(count) + 1j * rng.standard_normal(count)).astype(np.complex64)
        symbols /= np.sqrt(np.mean(np.abs(symbols) ** 2))
        self.encoded = Encoded(symbols, side)
        return self.encoded

    def decode(
        self,
        symbols: np.ndarray,
        noise_var: np.ndarray,
        snr_db: float,
        side: bytes,
        *,
        steps: int | None = None,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        assert self.encoded is not None and side == self.encoded.side
        self.error = symbols - self.encoded.symbols
        self.noise_var, self.snr_db = noise_var, snr_db
        return np.zeros((1, 1, 3), np.uint8)


IMAGE = np.zeros((200, 300, 3), np.uint8)


def test_symbol_error_is_the_channel_noise_and_is_reported() -> None:
    codec = Echo()
    for snr_db in (0.0, 10.0, 20.0):
        passage = loopback(codec, IMAGE, DEFAULT, Channel("awgn", snr_db, cfo_hz=7000.0), cbr=1 / 12, seed=3)
        decode(codec, passage.received)
        measured = np.mean(np.abs(codec.error) ** 2)
        assert 10 * np.log10(measured) == pytest.approx(-snr_db, abs=1.0)
        assert 10 * np.log10(np.mean(codec.noise_var)) == pytest.approx(10 * np.log10(measured), abs=0.5)
        assert codec.snr_db == pytest.approx(snr_db, abs=0.7)


def test_an_ideal_channel_returns_the_symbols() -> None:
    codec = Echo()
    decode(codec, loopback(codec, IMAGE, DEFAULT, Channel("ideal"), cbr=1 / 12).received)
    assert np.mean(np.abs(codec.error) ** 2) < 1e-4


def test_bandwidth_ratios_count_what_they_say() -> None:
    passage = loopback(Echo(), IMAGE, DEFAULT, Channel("awgn", 5.0), cbr=1 / 24)
    sent = passage.sent
    side = side_symbols(len(sent.encoded.side), side_repetition(5.0, len(sent.encoded.side)))
    assert sent.cbr_payload * IMAGE.size == pytest.approx(len(sent.encoded.symbols))
    assert sent.cbr * IMAGE.size == pytest.approx(len(sent.encoded.symbols) + side)
    assert sent.cbr == pytest.approx(1 / 24, rel=0.001)
    assert sent.cbr_total * IMAGE.size == pytest.approx(sent.transmission.channel_uses)
    assert sent.cbr_total > sent.cbr


def test_lost_packets_become_erasures_and_the_rest_stays_in_place() -> None:
    codec = Echo()
    passage = loopback(codec, IMAGE, DEFAULT, Channel("awgn", 20.0, loss=0.25), cbr=1 / 6, seed=1)
    decode(codec, passage.received)
    erased = np.isinf(codec.noise_var)
    lost = 1 - passage.received.packets_received / passage.received.packets_expected
    assert lost > 0 and np.mean(erased) == pytest.approx(lost, abs=0.02)
    assert np.mean(np.abs(codec.error[~erased]) ** 2) < 0.02


def test_the_channel_is_the_same_for_every_codec_of_a_seed() -> None:
    first, second = (loopback(Echo(), IMAGE, DEFAULT, Channel("rayleigh", 15.0), cbr=1 / 12, seed=8) for _ in range(2))
    assert np.array_equal(first.received.symbols, second.received.symbols)
    other = loopback(Echo(), IMAGE, DEFAULT, Channel("rayleigh", 15.0), cbr=1 / 12, seed=9)
    assert not np.array_equal(first.received.noise_var, other.received.noise_var)


def test_silence_is_a_link_error() -> None:
    with pytest.raises(LinkError, match="no packet"):
        loopback(Echo(), IMAGE, DEFAULT, Channel("awgn", 10.0, loss=1.0), cbr=1 / 12)
