"""What the symbols themselves show of the noise puts a wrong estimate right, and leaves a right one alone."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.noise import correction
from tests.models.small import picture, small_codec
from tests.models.test_pipeline import encode


def received(noise_var: np.ndarray, seed: int) -> np.ndarray:
    """complex64 of mean power exactly 1, some symbols much stronger than others, and noise."""
    rng = np.random.default_rng(seed)
    sent = rng.standard_normal((2, len(noise_var))) * np.exp(0.5 * rng.standard_normal(len(noise_var)))
    symbols = sent[0] + 1j * sent[1]
    symbols /= np.sqrt(np.mean(np.abs(symbols) ** 2))
    noise = np.sqrt(np.where(np.isinf(noise_var), 0, noise_var) / 2) * rng.standard_normal((2, len(noise_var)))
    return np.where(np.isinf(noise_var), 0, symbols + noise[0] + 1j * noise[1]).astype(np.complex64)


def after_db(snr_db: float, told_db: float, seed: int = 0, lost: float = 0.0, faded: bool = False) -> float:
    """The SNR that is believed when `told_db` was said."""
    rng = np.random.default_rng(seed + 1000)
    shape = 1 / (0.1 + rng.exponential(size=20_000)) if faded else np.ones(20_000)
    shape = np.where(rng.random(20_000) < lost, np.inf, shape)
    symbols = received(10 ** (-snr_db / 10) * shape, seed)
    factor = correction(symbols, (10 ** (-told_db / 10) * shape).astype(np.float32))
    return told_db - 10 * math.log10(factor)


@settings(max_examples=60, deadline=None)
@given(st.floats(-5, 35), st.sampled_from([0.0, 0.3]), st.booleans(), st.integers(0, 1000))
def test_a_right_estimate_stays(snr_db: float, lost: float, faded: bool, seed: int) -> None:
    assert after_db(snr_db, snr_db, seed, lost, faded) == pytest.approx(snr_db, abs=0.5)


@pytest.mark.parametrize("error_db", [-3.0, 3.0])
@pytest.mark.parametrize(("snr_db", "left_db"), [(-3, 0.2), (0, 0.3), (5, 0.9)])
@pytest.mark.parametrize("faded", [False, True])
def test_a_wrong_estimate_is_put_right_where_noise_shows(
    snr_db: float, left_db: float, error_db: float, faded: bool
) -> None:
    assert after_db(snr_db, snr_db + error_db, faded=faded) == pytest.approx(snr_db, abs=left_db)


def test_what_power_cannot_tell_is_left_to_the_receiver() -> None:
    """At 30 dB noise is a thousandth of what arrives, and a gain wrong by a hundredth would hide it."""
    assert after_db(30.0, 27.0) == pytest.approx(27.0, abs=0.5)
    assert after_db(30.0, 33.0) == pytest.approx(33.0, abs=0.5)


def test_the_fewer_symbols_the_less_is_corrected() -> None:
    noise_var = np.ones(20_000)
    symbols = received(noise_var, 0)
    told = (noise_var / 2).astype(np.float32)
    corrected = [np.log(correction(symbols[:count], told[:count])) for count in (20_000, 20)]
    assert corrected[0] == pytest.approx(np.log(2), abs=0.15)
    assert abs(corrected[1]) < 1.5 * corrected[0]


def test_without_evidence_nothing_changes() -> None:
    assert correction(np.ones(3, np.complex64), np.full(3, np.inf, np.float32)) == 1
    assert correction(np.ones(3, np.complex64), np.zeros(3, np.float32)) == 1


@pytest.mark.parametrize("scale", [0.0, 1e-10, 1e10])
def test_absurd_symbols_change_the_noise_by_a_bounded_factor(scale: float) -> None:
    symbols = (scale * np.ones(100)).astype(np.complex64)
    for noise in (1e-30, 0.1, 1e30):
        assert 0.1 <= correction(symbols, np.full(100, noise, np.float32)) <= 10


def test_a_codec_decodes_with_what_it_believes() -> None:
    codec = small_codec()
    symbols, side = encode(codec, picture(160, 192), cbr=1 / 6)
    noise = np.random.default_rng(0).standard_normal((2, len(symbols))) * 0.5**0.5
    received = (symbols + noise[0] + 1j * noise[1]).astype(np.complex64)  # 0 dB
    told = np.full(len(symbols), 10**0.3, np.float32)
    read = codec.read(received, told, -3.0, side)
    assert read.snr_db == pytest.approx(0, abs=0.3)
    left = read.noise_var[read.noise_var.isfinite()]
    assert left.numel() == len(symbols)
    assert -10 * math.log10(left.mean()) == pytest.approx(read.snr_db, abs=0.01)
