"""Interference has the power, the place and the times that were asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdr import noise


def power(samples: np.ndarray) -> float:
    return float(np.mean(np.abs(samples.astype(np.complex128)) ** 2))


def test_noise_is_circular_and_of_unit_variance() -> None:
    samples = noise.complex_normal(np.random.default_rng(0), (200_000,))
    assert power(samples) == pytest.approx(1, abs=0.01)
    assert abs(np.mean(samples**2)) < 0.01 and abs(np.mean(samples)) < 0.01
    assert np.mean(np.abs(samples) ** 4) == pytest.approx(2, abs=0.05)  # Gaussian


@pytest.mark.parametrize(("centre", "bandwidth"), [(0.1, 0.02), (-0.3, 0.1), (0.49, 0.05), (0.0, 1.0)])
def test_a_jammer_fills_its_band_evenly_and_nothing_else(centre: float, bandwidth: float) -> None:
    count = 50_000
    samples = noise.jammer(count, 0.3, centre, bandwidth, np.random.default_rng(1))
    assert power(samples) == pytest.approx(0.3, rel=0.08)
    spectrum = np.abs(np.fft.fft(samples.astype(np.complex128))) ** 2 / count**2
    offset = (np.arange(count) / count - centre + 0.5) % 1 - 0.5
    inside = np.abs(offset) <= bandwidth / 2 + 1 / count
    assert spectrum[~inside].sum() < 1e-6
    lower, upper = (spectrum[inside & side].sum() for side in (offset < 0, offset >= 0))
    assert lower == pytest.approx(upper, rel=0.2)


def test_a_jammer_without_bandwidth_is_a_tone() -> None:
    samples = noise.jammer(1000, 4.0, 0.123, 0.0, np.random.default_rng(2))
    assert np.allclose(np.abs(samples), 2, atol=1e-5)
    assert np.allclose(np.angle(samples[1:] / samples[:-1]), 2 * np.pi * 0.123, atol=1e-4)
    other = noise.jammer(1000, 4.0, 0.123, 0.0, np.random.default_rng(3))
    assert abs(np.angle(other[0] / samples[0])) > 1e-3  # of random phase


@pytest.mark.parametrize("duty", [0.05, 0.3, 0.8])
def test_bursts_have_their_length_their_duty_and_exponential_gaps(duty: float) -> None:
    length = 40
    on = noise.burst_times(2_000_000, duty, float(length), np.random.default_rng(4))
    assert on.mean() == pytest.approx(duty, rel=0.03)
    edges = np.flatnonzero(np.diff(on.astype(np.int8)))
    starts, ends = edges[np.flatnonzero(on[edges + 1])], edges[np.flatnonzero(~on[edges + 1])]
    ends = ends[ends > starts[0]]
    whole = ends - starts[: ends.size]
    # Gaps shorter than a sample vanish, which joins two bursts.
    assert np.mean(np.abs(whole - length) <= 1) > (0.99 if duty < 0.5 else 0.85)
    gaps = (starts[1:] - ends[: starts.size - 1]).astype(np.float64)
    mean_gap = length * (1 - duty) / duty
    assert gaps.mean() == pytest.approx(mean_gap, rel=0.06 if duty < 0.5 else 0.15)
    assert np.mean(gaps > mean_gap) == pytest.approx(np.exp(-1), abs=0.05)


def test_bursts_are_stationary() -> None:
    """The record begins at any moment of the process: every sample is hit equally often."""
    rng = np.random.default_rng(5)
    hits = np.mean([noise.burst_times(300, 0.25, 60.0, rng) for _ in range(4000)], axis=0)
    assert np.all(np.abs(hits - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 4000))


def test_burst_power_is_while_they_last() -> None:
    samples = noise.bursts(400_000, 2.5, 0.2, 1000.0, np.random.default_rng(6))
    on = samples != 0
    assert power(samples[on]) == pytest.approx(2.5, rel=0.03)
    assert on.mean() == pytest.approx(0.2, rel=0.25)  # 80 bursts


@settings(max_examples=60)
@given(
    count=st.integers(0, 3000),
    duty=st.floats(0, 1),
    length=st.floats(0.01, 1e5),
    seed=st.integers(0, 1000),
)
def test_any_bursts_fit_the_record(count: int, duty: float, length: float, seed: int) -> None:
    on = noise.burst_times(count, duty, length, np.random.default_rng(seed))
    assert on.shape == (count,)
    assert duty > 0 or not on.any()
    assert duty < 1 or on.all()
