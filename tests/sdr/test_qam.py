import itertools
import math

import numpy as np
import pytest

from sdr import qam
from sdr.errors import SdrError


def points(bits: int) -> tuple[np.ndarray, np.ndarray]:
    """All labels as rows of bits, and their symbols."""
    labels = np.array(list(itertools.product((0, 1), repeat=bits)), np.uint8)
    return labels, qam.map_bits(labels.reshape(-1), bits)


@pytest.mark.parametrize("bits", qam.BITS)
def test_constellations_are_square_of_unit_power_and_gray(bits: int) -> None:
    labels, symbols = points(bits)
    assert len(set(symbols.tolist())) == 1 << bits
    assert np.mean(np.abs(symbols) ** 2) == pytest.approx(1, rel=1e-6)
    distances = np.abs(symbols[:, None] - symbols)
    step = 2 * math.sqrt(3 / 2 / ((1 << bits) - 1))  # of a square constellation of unit power
    neighbours = np.isclose(distances, step, rtol=1e-4)
    assert distances[distances > 0].min() == pytest.approx(step, rel=1e-4)
    differing = (labels[:, None] != labels).sum(axis=2)
    assert (differing[neighbours] == 1).all()


def test_qpsk_by_hand() -> None:
    _, symbols = points(2)
    assert np.allclose(symbols * math.sqrt(2), [1 + 1j, 1 - 1j, -1 + 1j, -1 - 1j])


@pytest.mark.parametrize("bits", qam.BITS)
def test_soft_bits_are_max_log_over_the_whole_constellation(bits: int) -> None:
    rng = np.random.default_rng(0)
    labels, symbols = points(bits)
    received = (rng.standard_normal(50) + 1j * rng.standard_normal(50)).astype(np.complex64)
    noise_var = rng.uniform(0.01, 2, 50).astype(np.float32)
    soft = qam.soft_bits(received, noise_var, bits).reshape(50, bits)
    for heard, variance, values in zip(received, noise_var, soft, strict=True):
        metric = -(np.abs(heard - symbols) ** 2) / variance
        expected = [metric[labels[:, bit] == 0].max() - metric[labels[:, bit] == 1].max() for bit in range(bits)]
        assert np.allclose(values, expected, rtol=1e-3, atol=1e-3)


def test_qpsk_soft_bits_are_exact() -> None:
    """LLR = 4 Re(y) / (√2 N0): for QPSK max-log leaves nothing out."""
    soft = qam.soft_bits(np.array([0.3 - 0.7j], np.complex64), np.array([0.5], np.float32), 2)
    assert np.allclose(soft, [4 * 0.3 / math.sqrt(2) / 0.5, -4 * 0.7 / math.sqrt(2) / 0.5])


@pytest.mark.parametrize("bits", qam.BITS)
def test_uncoded_bit_errors_are_those_of_theory(bits: int) -> None:
    """Gray-coded square QAM by Cho and Yoon, IEEE Trans. Commun. 50, 2002, equation 16."""
    snr_db = {2: 7.0, 4: 13.0, 6: 19.0, 8: 24.0}[bits]
    rng = np.random.default_rng(bits)
    sent = rng.integers(0, 2, 240_000).astype(np.uint8)
    symbols = qam.map_bits(sent, bits)
    variance = 10 ** (-snr_db / 10)
    noise = rng.standard_normal((2, len(symbols))) * math.sqrt(variance / 2)
    heard = (symbols + noise[0] + 1j * noise[1]).astype(np.complex64)
    soft = qam.soft_bits(heard, np.full(len(heard), variance, np.float32), bits)
    errors = np.mean((soft < 0) != sent)
    assert errors == pytest.approx(theory(bits, snr_db), rel=0.12)


def theory(bits: int, snr_db: float) -> float:
    levels = 1 << bits // 2
    argument = math.sqrt(3 * 10 ** (snr_db / 10) / (2 * (levels**2 - 1)))
    total = 0.0
    for bit in range(1, bits // 2 + 1):
        for index in range(int((1 - 2**-bit) * levels)):
            sign = (-1) ** (index * 2 ** (bit - 1) // levels)
            weight = 2 ** (bit - 1) - math.floor(index * 2 ** (bit - 1) / levels + 0.5)
            total += sign * weight * math.erfc((2 * index + 1) * argument) / levels
    return total / (bits // 2)


def test_erased_and_certain_symbols() -> None:
    symbols = np.array([1e6, 0.1 + 0.1j, 0.7 - 0.7j], np.complex64)
    soft = qam.soft_bits(symbols, np.array([np.inf, np.inf, 0], np.float32), 4).reshape(3, 4)
    assert (soft[:2] == 0).all() and np.isfinite(soft).all() and (np.abs(soft[2]) > 1e3).all()


def test_other_numbers_of_bits_are_refused() -> None:
    with pytest.raises(SdrError, match="not 3"):
        qam.amplitudes(3)
