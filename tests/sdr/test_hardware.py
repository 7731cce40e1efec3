"""Amplifier, oscillator, mixer and converter against their textbook figures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdr import hardware


def tone(frequency: float, amplitude: float, count: int) -> np.ndarray:
    samples: np.ndarray = amplitude * np.exp(2j * np.pi * frequency * np.arange(count))
    return samples.astype(np.complex64)


def lines(samples: np.ndarray) -> np.ndarray:
    """Amplitude at each of the record's own frequencies."""
    return np.abs(np.fft.fft(samples.astype(np.complex128))) / samples.size


@pytest.mark.parametrize("smoothness", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("drive_db", [-30.0, -10.0, -3.0, 0.0, 3.0, 20.0])
def test_rapp_compresses_a_tone_as_its_formula_says(drive_db: float, smoothness: float) -> None:
    saturation = 0.4
    amplitude = saturation * 10 ** (drive_db / 20)
    sent = tone(64 / 1024, amplitude, 1024)
    got = hardware.rapp(sent, saturation, smoothness)
    expected = amplitude / (1 + 10 ** (drive_db / 10 * smoothness)) ** (1 / (2 * smoothness))
    assert np.allclose(np.abs(got), expected, rtol=1e-4)
    assert np.allclose(np.angle(got / sent), 0, atol=1e-4)  # no AM/PM
    assert np.abs(got).max() < saturation


def test_rapp_is_a_limiter_when_its_smoothness_is_large() -> None:
    for amplitude in (0.1, 0.3, 0.5, 5.0):
        got = np.abs(hardware.rapp(tone(0.0, amplitude, 64), 0.4, 20.0))
        assert np.allclose(got, min(amplitude, 0.4), rtol=0.02)


def test_intermodulation_beyond_the_band_does_not_fold_back() -> None:
    """Two tones at 0.30 and 0.42: third-order products at 0.18, and at 0.54, which would alias to -0.46."""
    count = 1000
    got = lines(hardware.rapp(tone(0.30, 0.1, count) + tone(0.42, 0.1, count), 0.4, 1.0))
    assert got[180] > 3e-4
    assert got[540] < 1e-2 * got[180]
    # For p = 1, out = in·(1 - |in/saturation|²/2 + …): two tones of a make products of a³/2 ÷ saturation².
    small = lines(hardware.rapp(tone(0.30, 0.01, count) + tone(0.42, 0.01, count), 0.4, 1.0))
    assert small[180] == pytest.approx(0.01**3 / 2 / 0.4**2, rel=0.02)


@pytest.mark.parametrize("count", [1, 2, 7, 1001])
def test_an_amplifier_far_below_saturation_changes_nothing(count: int) -> None:
    rng = np.random.default_rng(count)
    sent = (rng.standard_normal(count) + 1j * rng.standard_normal(count)).astype(np.complex64)
    assert np.allclose(hardware.rapp(sent, 1e4, 2.0), sent, atol=1e-5)


def test_phase_noise_is_a_random_walk_of_the_linewidth() -> None:
    linewidth_hz, rate_hz = 30.0, 4e6
    rng = np.random.default_rng(0)
    walks = np.stack([hardware.wiener_phase(2001, linewidth_hz / rate_hz, rng) for _ in range(4000)])
    assert not walks[:, 0].any()
    for sample in (1, 500, 2000):
        expected = 2 * np.pi * linewidth_hz * sample / rate_hz
        assert np.var(walks[:, sample]) == pytest.approx(expected, rel=0.08)  # sd of the estimate: 2.2 %
        # The Lorentzian of that width: E exp(jφ) decays as exp(-π·linewidth·t).
        assert np.mean(np.exp(1j * walks[:, sample])).real == pytest.approx(np.exp(-expected / 2), abs=0.002)
    early, late = walks[:, 1000], walks[:, 2000] - walks[:, 1000]
    assert abs(np.corrcoef(early, late)[0, 1]) < 0.06  # independent increments
    assert np.var(late) == pytest.approx(np.var(early), rel=0.12)


@pytest.mark.parametrize(("gain_db", "phase_deg"), [(0.5, 0.0), (0.0, 2.0), (1.0, 5.0), (-2.0, -10.0)])
def test_the_image_of_a_tone_is_rejected_by_the_known_ratio(gain_db: float, phase_deg: float) -> None:
    got = lines(hardware.iq_imbalance(tone(100 / 1000, 0.5, 1000), gain_db, phase_deg))
    gain, turn = 10 ** (gain_db / 20), np.cos(np.deg2rad(phase_deg))
    ratio = (1 + 2 * gain * turn + gain**2) / (1 - 2 * gain * turn + gain**2)
    assert 20 * np.log10(got[100] / got[900]) == pytest.approx(10 * np.log10(ratio), abs=0.05)


def test_an_even_mixer_changes_nothing() -> None:
    sent = tone(0.1, 0.5, 100)
    assert np.allclose(hardware.iq_imbalance(sent, 0.0, 0.0), sent)


@pytest.mark.parametrize("bits", [6, 8, 10, 12])
@pytest.mark.parametrize(("backoff_db", "gaussian"), [(0.5, False), (6.0, False), (13.0, True), (20.0, True)])
def test_quantisation_noise_is_6_db_a_bit(bits: int, backoff_db: float, gaussian: bool) -> None:
    """6.02 b + 1.76 dB below a tone of full scale, less by the back-off: a tone, and noise, as OFDM is."""
    rng = np.random.default_rng(bits)
    unit = tone((5**0.5 - 2) / 2, 1.0, 50_000)
    if gaussian:
        unit = ((rng.standard_normal(50_000) + 1j * rng.standard_normal(50_000)) / 2**0.5).astype(np.complex64)
    sent = unit * np.float32(0.7 * 10 ** (-backoff_db / 20))
    got = hardware.quantise(sent, bits, 0.7)
    snr_db = 10 * np.log10(np.mean(np.abs(sent) ** 2) / np.mean(np.abs(got - sent).astype(np.float64) ** 2))
    assert snr_db == pytest.approx(6.02 * bits + 1.76 - backoff_db, abs=0.4)


@given(bits=st.integers(1, 16), full_scale=st.floats(0.1, 10), seed=st.integers(0, 1000))
def test_a_converter_gives_codes_within_its_range(bits: int, full_scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sent = (full_scale * (rng.standard_normal(200) + 1j * rng.standard_normal(200))).astype(np.complex64)
    got = hardware.quantise(sent, bits, full_scale)
    codes = got.view(np.float32) / full_scale * 2 ** (bits - 1)
    assert np.allclose(codes, np.rint(codes), atol=1e-2)
    assert codes.min() >= -(2 ** (bits - 1)) - 1e-2 and codes.max() <= 2 ** (bits - 1) - 1 + 1e-2
    inside = np.abs(sent.view(np.float32)) < full_scale * (1 - 2.0**-bits)
    error = np.abs((got - sent).view(np.float32))[inside]
    assert np.all(error <= full_scale * 2.0**-bits * 1.001 + 2e-6 * full_scale)
    assert np.array_equal(hardware.quantise(got, bits, full_scale), got)
