"""The software channel against the theory it claims."""

from typing import Any

import numpy as np
import pytest

from sdr.channel import Channel
from sdr.errors import SdrError
from sdr.fading import CHANNELS
from sdr.impairments import apply_channel, draw_channel, noise_variance
from sdr.resample import resample
from sdr.transmit import PacketSpan
from sdr.waveform import DEFAULT
from tests.sdr.helpers import passage

ONE_PACKET = [PacketSpan(0, 2000)]


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 17.0, 40.0])
def test_noise_power_follows_the_definition_of_snr(snr_db: float) -> None:
    silence = np.zeros(100_000, np.complex64)
    channel = draw_channel(Channel("awgn", snr_db), DEFAULT, 1, np.random.default_rng(0))
    received = apply_channel(silence, [PacketSpan(0, silence.size)], channel)
    power = np.mean(np.abs(received.astype(np.complex128)) ** 2)
    # Es on a subcarrier, under the unitary FFT, is the square of the nominal amplitude.
    assert 10 * np.log10(DEFAULT.amplitude**2 / power) == pytest.approx(snr_db, abs=0.06)
    assert abs(np.mean(received**2)) < 0.02 * power  # circular
    assert abs(np.mean(received)) ** 2 < 1e-3 * power


def test_snr_holds_on_a_data_subcarrier() -> None:
    clean, noisy = (passage(3, name=name, snr_db=10.0, delay_samples=0.0) for name in ("ideal", "awgn"))
    start = DEFAULT.preamble_samples + 4 * 288 + 32  # of the first payload symbol
    body = clean.transmission.samples[start:]
    spectrum = np.fft.fft(body[:256], norm="ortho")
    assert np.mean(np.abs(spectrum[1:89]) ** 2) == pytest.approx(DEFAULT.amplitude**2, rel=0.3)
    assert noisy.channel.noise_variance == pytest.approx(DEFAULT.amplitude**2 / 10)


def test_rayleigh_gains_are_complex_gaussian_of_unit_power() -> None:
    gains = CHANNELS["rayleigh"].draw_taps(50_000, DEFAULT, np.random.default_rng(1))[:, 0]
    power = np.abs(gains) ** 2
    assert power.mean() == pytest.approx(1, abs=0.02)
    for level in (0.1, 0.5, 2.0):  # exponential
        assert np.mean(power < level) == pytest.approx(1 - np.exp(-level), abs=0.01)
    assert abs(np.mean(gains**2)) < 0.02


def test_multipath_has_unit_power_and_fits_the_prefix() -> None:
    taps = CHANNELS["multipath"].draw_taps(20_000, DEFAULT, np.random.default_rng(2))
    profile = np.mean(np.abs(taps) ** 2, axis=0)
    assert profile.sum() == pytest.approx(1, abs=0.02)
    assert profile[4] / profile[0] == pytest.approx(np.exp(-1), rel=0.05)
    assert taps.shape[1] <= DEFAULT.cyclic_prefix // 2


def test_drawing_and_applying_are_reproducible() -> None:
    for name in CHANNELS:
        first, second = (passage(5, name=name, loss=0.3, sfo_ppm=10.0).samples for _ in range(2))
        assert np.array_equal(first, second)
    assert not np.array_equal(passage(5).samples, passage(6).samples)


def test_ideal_channel_changes_nothing() -> None:
    sent = passage(1, name="ideal")
    assert np.array_equal(sent.samples[: sent.transmission.samples.size], sent.transmission.samples)


def test_loss_blanks_whole_packets() -> None:
    sent = passage(2, name="ideal", count=40_000, loss=0.4)
    assert sent.channel.lost.sum() == round(0.4 * len(sent.transmission.packets))
    for span, lost in zip(sent.transmission.packets, sent.channel.lost, strict=True):
        part = sent.samples[span.start_sample : span.start_sample + span.samples]
        assert np.any(part) != lost


def test_cfo_turns_and_delay_shifts() -> None:
    tone = np.ones(2000, np.complex64)
    channel = draw_channel(Channel("ideal", cfo_hz=4000.0), DEFAULT, 1, np.random.default_rng(0), delay_samples=300.0)
    received = apply_channel(tone, ONE_PACKET, channel)
    assert not np.any(received[:300]) and np.all(received[300:2300])
    steps = np.angle(received[301:2300] / received[300:2299])
    assert np.allclose(steps, 2 * np.pi * 4000 / 4e6, atol=1e-5)


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


def test_multipath_tails_overlap_the_next_packet() -> None:
    sent = passage(4, name="ideal")
    taps = np.zeros((len(sent.transmission.packets), 3), np.complex64)
    taps[:, 2] = 1
    channel = draw_channel(Channel("ideal"), DEFAULT, len(taps), np.random.default_rng(0))
    moved = apply_channel(
        sent.transmission.samples, sent.transmission.packets, type(channel)(**{**vars(channel), "taps": taps})
    )
    assert np.allclose(moved[2 : sent.transmission.samples.size], sent.transmission.samples[:-2], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("fog", {}, "known are"),
        ("awgn", {"snr_db": 41.0}, "snr_db"),
        ("awgn", {"snr_db": -10.5}, "snr_db"),
        ("awgn", {"snr_db": float("nan")}, "snr_db"),
        ("awgn", {"cfo_hz": 3e6}, "cfo_hz"),
        ("awgn", {"sfo_ppm": 1000.0}, "sfo_ppm"),
        ("awgn", {"loss": 1.1}, "loss"),
        ("awgn", {"loss": -0.1}, "loss"),
        ("awgn", {"delay_samples": -1.0}, "delay_samples"),
    ],
)
def test_out_of_range_is_refused(name: str, change: dict[str, Any], word: str) -> None:
    with pytest.raises(SdrError, match=word):
        delay_samples = change.pop("delay_samples", None)
        draw_channel(Channel(name, **change), DEFAULT, 1, np.random.default_rng(0), delay_samples=delay_samples)


def test_channel_of_another_length_is_refused() -> None:
    channel = draw_channel(Channel("awgn"), DEFAULT, 2, np.random.default_rng(0))
    with pytest.raises(SdrError, match="2 packets"):
        apply_channel(np.zeros(2000, np.complex64), ONE_PACKET, channel)


def test_noise_variance_is_one_definition() -> None:
    assert noise_variance(10.0, DEFAULT) == pytest.approx(0.25**2 * 256 / 176 / 10)
