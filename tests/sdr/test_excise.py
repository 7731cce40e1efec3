"""Steady narrow-band interference beside packets: cut out, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdr.excise import MARGIN_SAMPLES, excise_lines
from sdr.receive import Receiver
from sdr.waveform import DEFAULT
from tests.sdr.helpers import mean_error, passage, receive

INNER = slice(MARGIN_SAMPLES, -MARGIN_SAMPLES)


def noise(count: int, seed: int) -> np.ndarray:
    parts = np.random.default_rng(seed).standard_normal((count, 2)) * 0.5**0.5
    return np.asarray(parts @ [1, 1j], np.complex64)


def tone(count: int, frequency_hz: float, level_db: float) -> np.ndarray:
    turns = np.arange(count) * (frequency_hz / DEFAULT.sample_rate_hz) + 0.2
    return np.asarray(10 ** (level_db / 20) * np.exp(2j * np.pi * turns), np.complex64)


def power(samples: np.ndarray) -> float:
    return float(np.mean(np.abs(samples) ** 2))


@pytest.mark.parametrize("level_db", [-10.0, 10.0, 40.0])
@pytest.mark.parametrize("frequency_hz", [0.0, 123_456.0, -1_999_999.0])
def test_a_tone_goes_and_the_noise_beside_it_stays(frequency_hz: float, level_db: float) -> None:
    floor = noise(81_920, 1)
    cleaned = excise_lines(floor + tone(floor.size, frequency_hz, level_db))
    # Cutting n of 4096 bins takes n/4096 of the noise away; Hann's skirts fall by 18 dB per octave.
    assert power((cleaned - floor)[INNER]) < 0.015
    assert power(cleaned[INNER]) == pytest.approx(1, abs=0.03)


def test_a_tone_without_noise_goes_too() -> None:
    """To the rounding of single precision and the far side lobes of the window."""
    assert power(excise_lines(tone(61_440, 400_000.0, 0.0))[INNER]) < 1e-9


def test_packets_bursts_and_noise_are_left_as_they_are() -> None:
    sent = passage(1, count=20_000, snr_db=30.0, cfo_hz=40e3)
    burst = noise(81_920, 2)
    burst[20_000:40_000] += tone(20_000, 300e3, 30.0)
    wide = noise(81_920, 3) + 10 * np.repeat(noise(10_240, 4), 8)
    for samples in (sent.samples, burst, wide, noise(81_920, 5), noise(100, 6), np.zeros(50_000, np.complex64)):
        assert excise_lines(samples) is samples


@pytest.mark.parametrize("frequency_hz", [250e3, 257.8e3, -1.37e6, 1.7e6, 100.0])
@pytest.mark.parametrize("snr_db", [0.0, 15.0])
def test_packets_are_found_beside_a_tone_a_hundred_times_stronger(frequency_hz: float, snr_db: float) -> None:
    """On a carrier, between two, at the band's edge, outside, next to DC."""
    sent = passage(2, snr_db=snr_db, cfo_hz=-31e3, repetition=4)
    jammed = sent.samples + tone(sent.samples.size, frequency_hz, 20.0) * np.float32(DEFAULT.tx_rms)
    (image,) = receive(jammed)
    assert image.packets_received == image.packets_expected
    assert image.side == sent.side
    # The tone takes about a carrier of 160 with it: what the others lost shows in the median.
    (clean,) = receive(sent.samples)
    errors = [np.median(np.abs(one.symbols - sent.symbols) ** 2) for one in (image, clean)]
    assert 10 * np.log10(errors[0] / errors[1]) < 0.3


@pytest.mark.parametrize(("level_db", "width_hz"), [(20.0, 20e3), (10.0, 200e3)])
def test_packets_are_found_beside_narrow_band_noise(level_db: float, width_hz: float) -> None:
    sent = passage(4, cfo_hz=20e3, repetition=4, jammer_db=level_db, jammer_hz=300e3, jammer_bandwidth_hz=width_hz)
    (image,) = receive(sent.samples)
    assert image.packets_received == image.packets_expected
    assert image.side == sent.side


def test_dc_far_above_the_signal() -> None:
    sent = passage(3, snr_db=5.0, cfo_hz=20e3)
    (image,) = receive(sent.samples + np.float32(10 * DEFAULT.tx_rms))
    assert image.packets_received == image.packets_expected
    assert mean_error(sent.symbols, image) < 1.15 * 10**-0.5


def jammed_stream() -> np.ndarray:
    parts = [passage(seed, count=6000, cfo_hz=9e3 * seed).samples for seed in range(4)]
    samples = np.concatenate(parts)
    samples[30_000:] += tone(samples.size - 30_000, 700e3, -3.0)  # comes up on the way
    return np.asarray(samples)


STREAM = jammed_stream()
EXPECTED = receive(STREAM)


def test_the_jammed_stream_holds_images() -> None:
    assert len(EXPECTED) == 4


@settings(max_examples=8)
@given(st.lists(st.integers(0, STREAM.size), max_size=12))
def test_chunks_do_not_matter_beside_a_tone(cuts: list[int]) -> None:
    receiver = Receiver(DEFAULT)
    images = [image for part in np.split(STREAM, sorted(cuts)) for image in receiver.push(part)]
    images += receiver.flush()
    assert len(images) == len(EXPECTED)
    for one, other in zip(images, EXPECTED, strict=True):
        assert all(np.array_equal(value, getattr(other, name)) for name, value in vars(one).items())


def test_a_tone_alone_holds_no_image() -> None:
    receiver = Receiver(DEFAULT)
    samples = noise(2_000_000, 7) + tone(2_000_000, 700e3, 30.0)
    assert receiver.push(samples) + receiver.flush() == []
    assert receiver.packets_rejected == 0


def test_a_packet_between_empty_samples_is_no_interference() -> None:
    """Where most samples are exactly 0, any trace of a signal stands out from the floor."""
    sent = passage(9, count=12_000, name="ideal", delay_samples=0.0)
    silence = np.zeros(100_000, np.complex64)
    (image,) = receive(np.concatenate([silence, sent.samples[: sent.transmission.samples.size], silence]))
    assert image.packets_received == image.packets_expected
    assert 10 * np.log10(mean_error(sent.symbols, image)) < -50
