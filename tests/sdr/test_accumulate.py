"""The repeat–accumulate code: worked vectors, capacity, erasures, and what is no codeword."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdr import accumulate, fec, sequences


def noisy(coded: np.ndarray, ebn0_db: float, rng: np.random.Generator) -> np.ndarray:
    """LLRs of a codeword of rate 1/4 through white noise."""
    variance = 4 / 2 / 10 ** (ebn0_db / 10)
    received = 1.0 - 2.0 * coded + variance**0.5 * rng.standard_normal(coded.size)
    return np.asarray(2 * received / variance)


def test_known_codeword() -> None:
    """A lone bit turns the running sum over at its place in each of the four orders."""
    order = sequences.permutations("side", 4, 5)
    bits = np.array([0, 0, 1, 0, 0], np.uint8)
    turned = np.zeros(20, np.uint8)
    turned[[5 * row + int(np.flatnonzero(line == 2)[0]) for row, line in enumerate(order)]] = 1
    assert np.array_equal(accumulate.encode(bits), np.cumsum(turned) % 2)


def test_orders_are_part_of_the_air_interface() -> None:
    coded = np.packbits(accumulate.encode(np.unpackbits(np.frombuffer(b"123456789", np.uint8))))
    assert coded.tobytes().hex() == "3e93f0b5f49afe733b1ee2f76859c273908c69f90d48baf1c0c483cdc4e33ad87af420f6"


@given(st.lists(st.integers(0, 1), min_size=1, max_size=900))
def test_noiseless_round_trip(bits: list[int]) -> None:
    sent = np.array(bits, np.uint8)
    assert np.array_equal(accumulate.decode(1.0 - 2.0 * accumulate.encode(sent)), sent)


def test_it_decodes_where_the_code_of_the_header_sent_twice_cannot() -> None:
    """At 2 dB, half a decibel over what 100 bytes need for one failure in 1000."""
    rng, twice = np.random.default_rng(1), 0
    for _ in range(100):
        sent = rng.integers(0, 2, 832).astype(np.uint8)
        assert np.array_equal(accumulate.decode(noisy(accumulate.encode(sent), 2.0, rng)), sent)
        combined = noisy(np.repeat(fec.encode(sent), 2), 2.0, rng).reshape(-1, 2).sum(axis=1)
        twice += not np.array_equal(fec.decode_blocks(combined[None])[0], sent)
    assert twice > 10


@pytest.mark.parametrize(("erased", "decodes"), [(0.6, True), (0.78, False)])
def test_erasures_up_to_near_capacity(erased: float, decodes: bool) -> None:
    """More than three quarters erased is over capacity; the code's threshold is at 70 % (density evolution)."""
    rng = np.random.default_rng(2)
    sent = rng.integers(0, 2, 2000).astype(np.uint8)
    llr = 1.0 - 2.0 * accumulate.encode(sent)
    llr[rng.permutation(llr.size)[: round(erased * llr.size)]] = 0
    assert np.array_equal(accumulate.decode(10 * llr), sent) == decodes


def test_nonsense_is_taken_as_ignorance() -> None:
    rng = np.random.default_rng(3)
    sent = rng.integers(0, 2, 800).astype(np.uint8)
    llr = noisy(accumulate.encode(sent), 4.0, rng)
    llr[100] = np.nan
    llr[200] *= np.inf
    assert np.array_equal(accumulate.decode(llr), sent)


def test_noise_alone_ends_as_well() -> None:
    noise = np.random.default_rng(4).standard_normal(4 * 800)
    assert accumulate.decode(noise).shape == (800,)
