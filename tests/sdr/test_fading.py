"""Fading against theory: statistics over many draws, and the delay lines against the tables of TR 38.901."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import j0

from sdr.fading import CHANNELS, Profile, draw_paths
from sdr.resample import HALF_TAPS
from sdr.waveform import DEFAULT

RATE_HZ = 4e6
EDGE = DEFAULT.edge_carrier / DEFAULT.fft_size
TDL = [name for name, model in CHANNELS.items() if model.profile]
FLAT = Profile((0.0,), (0.0,))


def profile(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Delays and powers of a table, the powers normalised."""
    table = CHANNELS[name].profile
    assert table is not None
    powers = 10 ** (np.array(table.powers_db) / 10)
    return np.array(table.delays), powers / powers.sum()


def spread(delays: np.ndarray, powers: np.ndarray) -> float:
    mean = np.sum(powers * delays) / powers.sum()
    return float(np.sqrt(np.sum(powers * delays**2) / powers.sum() - mean**2))


def response(taps: np.ndarray, frequency: float, first: int = 0) -> np.ndarray:
    """Frequency response of impulse responses whose first tap is `first` samples late."""
    turns = np.exp(-2j * np.pi * frequency * (first + np.arange(taps.shape[-1])))
    result: np.ndarray = taps @ turns
    return result


# ---------------------------------------------------------------- block fading


@pytest.mark.parametrize("name", [name for name in CHANNELS if CHANNELS[name].profile is None])
def test_block_fading_has_unit_mean_power_and_fits_the_prefix(name: str) -> None:
    small = replace(DEFAULT, fft_size=64, cyclic_prefix=16, edge_carrier=26, pilots=4, header_symbols=8)
    for waveform in (DEFAULT, small):
        taps = CHANNELS[name].draw_taps(20_000, waveform, np.random.default_rng(2))
        assert np.mean(np.sum(np.abs(taps) ** 2, axis=1)) == pytest.approx(1, abs=0.02)
        assert taps.shape[1] <= waveform.cyclic_prefix


@pytest.mark.parametrize("name", ["rayleigh", "multipath", "four-tap"])
def test_every_carrier_is_complex_gaussian_and_every_packet_independent(name: str) -> None:
    taps = CHANNELS[name].draw_taps(50_000, DEFAULT, np.random.default_rng(1))
    for frequency in (-EDGE, 0.1):
        gains = response(taps, frequency)
        power = np.abs(gains) ** 2
        assert power.mean() == pytest.approx(1, abs=0.02)
        for level in (0.1, 0.5, 2.0):  # exponential: the envelope is Rayleigh
            assert np.mean(power < level) == pytest.approx(1 - np.exp(-level), abs=0.01)
        assert abs(np.mean(gains**2)) < 0.02
        assert abs(np.mean(gains[1:] * gains[:-1].conj())) < 0.02


def test_multipath_decays_exponentially() -> None:
    taps = CHANNELS["multipath"].draw_taps(20_000, DEFAULT, np.random.default_rng(2))
    power = np.mean(np.abs(taps) ** 2, axis=0)
    assert power[4] / power[0] == pytest.approx(np.exp(-1), rel=0.05)


def test_four_taps_are_four_equal_ones() -> None:
    taps = CHANNELS["four-tap"].draw_taps(20_000, DEFAULT, np.random.default_rng(3))
    power = np.mean(np.abs(taps) ** 2, axis=0)
    assert np.count_nonzero(power) == 4
    assert np.allclose(power[power > 0], 0.25, atol=0.01)
    assert np.all(np.diff(np.flatnonzero(power)) >= 2)


# ---------------------------------------------------------------- TR 38.901


@pytest.mark.parametrize(("name", "rows"), [("tdl-a", 23), ("tdl-b", 23), ("tdl-c", 24)])
def test_tables_have_their_rows_and_unit_delay_spread(name: str, rows: int) -> None:
    delays, powers = profile(name)
    assert delays.size == powers.size == rows and delays[0] == 0
    assert spread(delays, powers) == pytest.approx(1, abs=2e-4)  # what 38.901 normalises them to


@pytest.mark.parametrize("name", TDL)
def test_drawn_paths_have_the_powers_and_the_delay_spread_of_the_table(name: str) -> None:
    rng, wanted = np.random.default_rng(4), 300e-9
    delays, powers = profile(name)
    table = CHANNELS[name].profile
    assert table is not None
    drawn = [draw_paths(table, wanted, 10.0, RATE_HZ, rng) for _ in range(3000)]
    assert np.allclose(drawn[0].delays_samples, delays * wanted * RATE_HZ)
    gains = np.stack([paths.gains(np.array([12_345.0]))[0] for paths in drawn])
    measured = np.mean(np.abs(gains) ** 2, axis=0)
    assert measured.sum() == pytest.approx(1, abs=0.03)
    assert np.allclose(measured, powers, rtol=0.1)  # sd of each: 1.8 %
    assert spread(drawn[0].delays_samples / RATE_HZ, measured) == pytest.approx(wanted, rel=0.04)
    correlation = np.abs(gains.T @ gains.conj()) / len(drawn) / np.sqrt(np.outer(powers, powers))
    assert np.max(correlation - np.diag(np.diag(correlation))) < 0.09  # uncorrelated scattering


@pytest.mark.parametrize("name", TDL)
def test_carriers_are_as_correlated_as_the_delays_say(name: str) -> None:
    """E[H(f)H*(f+Δ)] = Σ power·exp(j2πΔτ), through the interpolated impulses."""
    rng, wanted = np.random.default_rng(5), 300e-9
    delays, powers = profile(name)
    table = CHANNELS[name].profile
    assert table is not None
    impulse = np.ones(1, np.complex64)
    taps = np.stack([draw_paths(table, wanted, 0.0, RATE_HZ, rng).apply(impulse, 0) for _ in range(1500)])
    start = response(taps, -EDGE, -HALF_TAPS)
    assert np.mean(np.abs(start) ** 2) == pytest.approx(1, abs=0.07)
    for frequency in (-0.3, 0.0, EDGE):
        end = response(taps, frequency, -HALF_TAPS)
        expected = np.sum(powers * np.exp(2j * np.pi * (frequency + EDGE) * delays * wanted * RATE_HZ))
        assert np.mean(start * end.conj()) == pytest.approx(expected, abs=0.07)


def test_doppler_is_jakes() -> None:
    rng, doppler_hz = np.random.default_rng(6), 200.0
    lags = np.linspace(0, 2.5, 11) / doppler_hz * RATE_HZ
    for origin in (0.0, 3e6):  # stationary
        times = origin + np.concatenate([[0.0], lags])
        gains = np.stack([draw_paths(FLAT, 0.0, doppler_hz, RATE_HZ, rng).gains(times)[:, 0] for _ in range(6000)])
        measured = np.mean(gains[:, 1:] * gains[:, :1].conj(), axis=0)
        assert np.allclose(measured, j0(2 * np.pi * doppler_hz * lags / RATE_HZ), atol=0.06)
        power = np.abs(gains[:, 5]) ** 2
        for level in (0.05, 0.5, 2.0):
            assert np.mean(power < level) == pytest.approx(1 - np.exp(-level), abs=0.025)


def test_fades_come_as_often_as_rice_says() -> None:
    """Level crossings of a Rayleigh envelope: sqrt(2π)·fd·ρ·exp(-ρ²) per second at ρ times the rms."""
    rng, doppler_hz, level = np.random.default_rng(7), 100.0, 0.5
    times = np.arange(2000) * (RATE_HZ / doppler_hz / 50)  # 40 Doppler periods
    crossings = 0
    for _ in range(60):
        envelope = np.abs(draw_paths(FLAT, 0.0, doppler_hz, RATE_HZ, rng).gains(times)[:, 0])
        crossings += int(np.sum((envelope[:-1] >= level) & (envelope[1:] < level)))
    expected = np.sqrt(2 * np.pi) * level * np.exp(-(level**2)) * 40 * 60
    assert crossings == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize("doppler_hz", [0.0, 50.0, 2000.0])
@pytest.mark.parametrize("frequency", [-EDGE, 0.03, EDGE])
def test_paths_delay_and_turn_a_tone_within_60_db(doppler_hz: float, frequency: float) -> None:
    """Fractional delays and straight lines between the moments, against the sum over the paths itself."""
    table = CHANNELS["tdl-b"].profile
    assert table is not None
    paths = draw_paths(table, 400e-9, doppler_hz, RATE_HZ, np.random.default_rng(8))
    start, count = 70_000, 4000
    sent = np.exp(2j * np.pi * frequency * (start + np.arange(count))).astype(np.complex64)
    got = paths.apply(sent, start)[HALF_TAPS : HALF_TAPS + count]
    inner = np.arange(100, 3900)
    times = start + inner.astype(np.float64)
    late = times[:, None] - paths.delays_samples
    exact = np.sum(paths.gains(times) * np.exp(2j * np.pi * frequency * late), axis=1)
    error = np.mean(np.abs(got[inner] - exact) ** 2) / np.mean(np.abs(exact) ** 2)
    assert 10 * np.log10(error) < -60


@settings(max_examples=20, deadline=None)
@given(cut=st.integers(1, 1999), doppler_hz=st.sampled_from([0.0, 300.0]), seed=st.integers(0, 100))
def test_packets_fade_as_one_stream(cut: int, doppler_hz: float, seed: int) -> None:
    """Two packets back to back take the same way as one: time goes on between them."""
    rng = np.random.default_rng(seed)
    table = CHANNELS["tdl-a"].profile
    assert table is not None
    paths = draw_paths(table, 100e-9, doppler_hz, RATE_HZ, rng)
    sent = (rng.standard_normal(2000) + 1j * rng.standard_normal(2000)).astype(np.complex64)
    whole = paths.apply(sent, 500)
    parts = np.zeros_like(whole)
    for first, last in ((0, cut), (cut, 2000)):
        part = paths.apply(sent[first:last], 500 + first)
        parts[first : first + part.size] += part
    assert np.allclose(parts, whole, atol=3e-3 * np.abs(whole).max())
