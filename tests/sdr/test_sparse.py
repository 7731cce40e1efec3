"""The sparse channel estimate against least squares over the whole prefix."""

import numpy as np

from sdr import ofdm
from sdr.sparse import sparse_response
from sdr.training import delay_basis
from sdr.waveform import DEFAULT

CARRIERS = ofdm.grid(DEFAULT).carriers


def errors(delays: list[float], noise: float, seed: int) -> tuple[float, float]:
    """Mean squared errors, in units of the noise variance: sparse, least squares."""
    rng = np.random.default_rng(seed)
    basis, turns = delay_basis(DEFAULT), np.exp(-2j * np.pi * np.outer(CARRIERS, delays) / DEFAULT.fft_size)
    sums = np.zeros(2)
    for _ in range(30):
        response = turns @ np.exp(2j * np.pi * rng.random(len(delays))) / len(delays) ** 0.5
        noisy = response + (rng.standard_normal((CARRIERS.size, 2)) @ [1, 1j]) * (noise / 2) ** 0.5
        sparse = sparse_response(noisy, np.full(CARRIERS.size, noise), DEFAULT)
        for index, estimate in enumerate((sparse, basis @ (basis.conj().T @ noisy))):
            sums[index] += np.mean(np.abs(estimate - response) ** 2) / noise
    return sums[0] / 30, sums[1] / 30


def test_few_paths_are_known_better_than_least_squares_allows() -> None:
    """Least squares over r dimensions has error r/176; the sparse estimate pays for the paths alone."""
    rank = delay_basis(DEFAULT).shape[1]
    for delays in ([6.0], [6.4], [6.0, 11.0], [6.0, 9.0, 14.0, 25.0]):
        sparse, least_squares = errors(delays, 1.2, 1)
        assert abs(least_squares / (rank / 176) - 1) < 0.15
        assert sparse < 0.65 * least_squares, delays


def test_many_paths_and_little_noise_do_no_harm() -> None:
    for delays, noise in ((list(range(4, 24)), 1.0), ([6.0], 1e-4), (list(range(4, 24)), 1e-4)):
        sparse, least_squares = errors([float(delay) for delay in delays], noise, 2)
        assert sparse < 1.25 * least_squares


def test_no_signal_and_no_noise_are_survived() -> None:
    nothing = np.zeros(CARRIERS.size, np.complex128)
    assert not np.any(sparse_response(nothing, np.full(CARRIERS.size, 1e-38), DEFAULT))
    assert np.allclose(sparse_response(nothing + 1, np.full(CARRIERS.size, 1e-12), DEFAULT), 1, atol=1e-3)
