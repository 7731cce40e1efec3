"""Values between the samples against the exact ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdr.resample import resample


@pytest.mark.parametrize("step", [1.0, 1 + 20e-6, 1 - 500e-6])
@pytest.mark.parametrize("frequency", [0.01, 0.2, 88.5 / 256])
def test_resampling_error_is_below_70_db(step: float, frequency: float) -> None:
    """Every used carrier, at fractional delays and clock offsets, against the exact values."""
    count = 4000
    tone = np.exp(2j * np.pi * frequency * np.arange(count)).astype(np.complex64)
    got = resample(tone, 40.37, step, 3900)
    exact = np.exp(2j * np.pi * frequency * (40.37 + step * np.arange(3900)))
    inner = slice(0, 3890)
    assert 10 * np.log10(np.mean(np.abs(got - exact)[inner] ** 2)) < -70


@given(start=st.integers(-300, 300), count=st.integers(0, 500))
def test_whole_shifts_are_exact(start: int, count: int) -> None:
    samples = np.arange(1, 101).astype(np.complex64)
    position = start + np.arange(count)
    expected = np.where((position >= 0) & (position < 100), position + 1, 0)
    assert np.array_equal(resample(samples, float(start), 1.0, count), expected.astype(np.complex64))
