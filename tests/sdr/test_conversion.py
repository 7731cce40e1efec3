"""Sample rate conversion: what it does to tones, images, missing samples, and that chunks do not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdr.conversion import convert, plan_conversion
from sdr.errors import SdrError
from sdr.receive import ReceivedImage
from sdr.waveform import DEFAULT, Waveform
from tests.sdr.helpers import mean_error, passage, receive

OCCUPIED_HZ = 177 * 15_625


def tone(frequency_hz: float, rate_hz: float, count: int) -> np.ndarray:
    wave: np.ndarray = np.exp(2j * np.pi * frequency_hz / rate_hz * np.arange(count)).astype(np.complex64)
    return wave


def converted(samples: np.ndarray, rate_hz: float) -> np.ndarray:
    return np.concatenate(list(convert([samples], plan_conversion(rate_hz, DEFAULT))))


@pytest.mark.parametrize(
    ("rate_hz", "up", "down"),
    [(3e6, 4, 3), (3.2e6, 5, 4), (5e6, 4, 5), (10e6, 2, 5), (30.72e6, 25, 192), (61.44e6, 25, 384), (256e6, 1, 64)],
)
def test_the_band_passes_and_what_would_fold_into_it_does_not(rate_hz: float, up: int, down: int) -> None:
    plan = plan_conversion(rate_hz, DEFAULT)
    assert (plan.up, plan.down) == (up, down)
    count = round(rate_hz / 4e6 * 3000)
    for frequency_hz in (-OCCUPIED_HZ / 2, 0.0, 1.1e6):
        out = converted(tone(frequency_hz, rate_hz, count), rate_hz)
        assert out.dtype == np.complex64 and out.size == -(-count * up // down)
        assert np.abs(out - tone(frequency_hz, 4e6, out.size))[300:-300].max() < 10 ** (-78 / 20)
    for frequency_hz in np.linspace(2e6, rate_hz / 2, 5) if rate_hz > 4e6 else []:
        assert np.abs(converted(tone(frequency_hz, rate_hz, count), rate_hz))[300:-300].max() < 10 ** (-76 / 20)


@given(st.floats(2.91e6, 255e6))
def test_any_rate_is_met_within_a_millionth(rate_hz: float) -> None:
    plan = plan_conversion(rate_hz, DEFAULT)
    assert rate_hz * plan.up / plan.down == pytest.approx(4e6, rel=1.01e-6)


def test_the_same_rate_stays_as_it_is() -> None:
    samples = tone(1e5, 4e6, 100)
    assert converted(samples, 4e6 + 2) is not samples and np.array_equal(converted(samples, 4e6 + 2), samples)


@pytest.mark.parametrize("rate_hz", [1e-3, 1e6, 2.9e6, 257e6, 1e11])
def test_rates_that_cannot_be_are_refused_naming_the_limits(rate_hz: float) -> None:
    with pytest.raises(SdrError, match=r"waveform 'default'.* 2\.9…256 Msps"):
        plan_conversion(rate_hz, DEFAULT)


NOISE = np.random.default_rng(0).standard_normal((2, 40_000)).astype(np.float32).T.copy().view(np.complex64)[:, 0]


@settings(max_examples=15)
@given(st.lists(st.integers(0, NOISE.size), max_size=8), st.sampled_from([3e6, 5e6, 20e6, 4.0001e6]))
def test_chunks_do_not_matter(cuts: list[int], rate_hz: float) -> None:
    parts = convert(np.split(NOISE, sorted(cuts)), plan_conversion(rate_hz, DEFAULT))
    assert np.array_equal(np.concatenate(list(parts)), converted(NOISE, rate_hz))


def test_blocks_leave_no_seam() -> None:
    """A long stream, which goes through several blocks, equals its middle taken on its own."""
    samples = np.tile(NOISE, 12)
    whole, alone = converted(samples, 5e6), converted(samples[200_000:300_000], 5e6)
    assert np.abs(whole[160_000:240_000] - alone)[200:-200].max() < 1e-3


@pytest.mark.parametrize("rate_hz", [3e6, 20e6])
def test_missing_samples_stay_missing_and_nothing_else_does(rate_hz: float) -> None:
    samples = NOISE.copy()
    samples[15_000:15_100] = np.nan
    out, clean = converted(samples, rate_hz), converted(NOISE, rate_hz)
    missing = np.flatnonzero(np.isnan(out))
    reach = plan_conversion(rate_hz, DEFAULT).taps.size / 2 + 2
    ratio = 4e6 / rate_hz
    assert missing[0] == pytest.approx((15_000 - reach) * ratio, abs=4)
    assert missing[-1] == pytest.approx((15_100 + reach) * ratio, abs=4)
    heard = np.isfinite(out)
    assert missing.size == missing[-1] - missing[0] + 1 and np.abs(out - clean)[heard].max() < 2e-3


@pytest.mark.parametrize("rate_hz", [3e6, 3.84e6, 4.0002e6, 10e6])
def test_an_image_survives_being_recorded_at_another_rate(rate_hz: float) -> None:
    """At most a tenth of a decibel is lost beside the recording at the waveform's own rate."""
    errors = []
    for rate in (4e6, rate_hz):
        sent = passage(1, count=6000, snr_db=20.0, cfo_hz=-40e3)
        samples = sent.samples
        if rate != 4e6:  # as another radio would have recorded it: an independent converter
            length = round(samples.size * rate / 4e6)
            samples = np.fft.ifft(resized(np.fft.fft(samples), length)).astype(np.complex64) * (length / samples.size)
            samples = converted(samples, samples.size / sent.samples.size * 4e6)
        (image,) = receive(samples)
        assert isinstance(image, ReceivedImage) and image.packets_received == image.packets_expected
        errors.append(10 * np.log10(mean_error(sent.symbols, image)))
    assert errors[1] - errors[0] < 0.1


def resized(bins: np.ndarray, length: int) -> np.ndarray:
    half = min(bins.size, length) // 2 - 1
    out = np.zeros(length, np.complex128)
    out[:half], out[-half:] = bins[:half], bins[-half:]
    return out


def test_another_waveform_has_limits_of_its_own() -> None:
    narrow = Waveform(name="narrow", sample_rate_hz=2e6)
    assert plan_conversion(1.5e6, narrow).up == 4
    with pytest.raises(SdrError, match="narrow"):
        plan_conversion(1.4e6, narrow)
