"""The whole receiver against an ideal one: loss, bias, honesty of `noise_var`, erasures."""

from typing import Any

import numpy as np
import pytest

from sdr import ofdm
from sdr.framing import FramePlan, plan_frame
from sdr.impairments import apply_channel
from sdr.receive import ReceivedImage
from sdr.waveform import DEFAULT, Waveform
from tests.sdr.helpers import Passage, mean_error, passage, receive


def plan_of(sent: Passage, repetition: int = 2) -> FramePlan:
    return plan_frame(DEFAULT, sent.symbols.size, len(sent.side), repetition)


def jscc_part(values: np.ndarray, plan: FramePlan) -> np.ndarray:
    """Per-slot values (packets, slots) in the order of the JSCC symbols."""
    stream = np.empty(plan.packets * plan.slots, values.dtype)
    stream[plan.stream_index()] = values
    return stream[plan.side_symbols : plan.side_symbols + plan.jscc_symbols]


@pytest.mark.parametrize("snr_db", [0.0, 5.0, 10.0, 15.0, 20.0, 25.0])
def test_implementation_loss_in_noise(snr_db: float) -> None:
    """Unknown delay, CFO and phase cost at most half a decibel; gains would mean a wrong definition of SNR."""
    errors = []
    for seed in range(2):
        cfo_hz = float(np.random.default_rng(seed).uniform(-100e3, 100e3))
        sent = passage(seed, snr_db=snr_db, cfo_hz=cfo_hz, repetition=4)
        (image,) = receive(sent.samples)
        assert image.packets_received == image.packets_expected
        assert image.side == sent.side
        assert image.cfo_hz == pytest.approx(cfo_hz, abs=25)
        assert abs(image.start_sample - sent.channel.delay_samples) <= 3
        errors.append(mean_error(sent.symbols, image))
    loss_db = 10 * np.log10(np.mean(errors)) + snr_db
    assert -0.1 < loss_db < 0.5


def test_ideal_channel_leaves_next_to_no_error() -> None:
    sent = passage(0, name="ideal")
    (image,) = receive(sent.samples)
    assert 10 * np.log10(mean_error(sent.symbols, image)) < -55
    assert abs(image.cfo_hz) < 1 and abs(image.sfo_ppm) < 1


@pytest.mark.parametrize("sfo_ppm", [-20.0, 20.0, 40.0])
def test_clock_offset_is_followed(sfo_ppm: float) -> None:
    sent = passage(1, snr_db=20.0, sfo_ppm=sfo_ppm, cfo_hz=20e3)
    (image,) = receive(sent.samples)
    assert 10 * np.log10(mean_error(sent.symbols, image)) + 20 < 0.5
    assert image.sfo_ppm == pytest.approx(sfo_ppm, abs=1.5)


@pytest.mark.parametrize("snr_db", [10.0, 20.0])
def test_multipath_costs_little_beside_genie_knowledge(snr_db: float) -> None:
    sent = passage(2, name="multipath", snr_db=snr_db, cfo_hz=20e3, sfo_ppm=20.0)
    (image,) = receive(sent.samples)
    plan = plan_of(sent)
    carriers = np.delete(np.arange(-88, 89), 88)
    layout = [carrier for carrier in carriers if abs(carrier) not in {6, 17, 28, 39, 50, 61, 72, 83}]
    response = np.array([np.fft.fft(taps, 256)[layout] for taps in sent.channel.taps])
    genie = 10 ** (-snr_db / 10) / np.abs(response) ** 2
    genie_var = jscc_part(np.tile(genie, (1, plan.payload_symbols)), plan)
    arrived = np.isfinite(image.noise_var)
    assert arrived.mean() > 0.99
    ratio = np.abs(image.symbols - sent.symbols)[arrived] ** 2 / genie_var[arrived]
    assert 10 * np.log10(ratio.mean()) < 0.8
    # and what it says of each symbol is what the genie says
    spread_db = 10 * np.log10(image.noise_var[arrived] / genie_var[arrived])
    assert np.abs(np.median(spread_db)) < 0.3 and np.quantile(np.abs(spread_db), 0.9) < 1


@pytest.mark.parametrize("name", ["awgn", "rayleigh", "multipath"])
def test_noise_var_is_calibrated(name: str) -> None:
    sent = passage(4, name=name, snr_db=12.0, sfo_ppm=10.0, count=32768)
    (image,) = receive(sent.samples)
    arrived = np.isfinite(image.noise_var)
    error, claimed = np.abs(image.symbols - sent.symbols)[arrived] ** 2, image.noise_var[arrived]
    for part in np.array_split(np.argsort(claimed), 5):  # from the symbols it trusts most to those it trusts least
        assert 10 * np.log10(np.mean(error[part]) / np.mean(claimed[part])) == pytest.approx(0, abs=0.5)


def shortfall(sent: Passage, image: ReceivedImage, repetition: int = 4) -> tuple[float, list[float]]:
    """Log-likelihood per symbol below that of a genie who knows the channel and the mean noise on every carrier, in
    nat, and calibration of `noise_var` in dB from the fifth of symbols that it trusts most to the last."""
    plan, carriers = plan_of(sent, repetition), ofdm.grid(DEFAULT).carriers
    silence = apply_channel(np.zeros_like(sent.transmission.samples), sent.transmission.packets, sent.channel)
    windows = silence[: silence.size // 256 * 256].reshape(-1, 256)
    noise = np.mean(np.abs(ofdm.to_carriers(windows, DEFAULT)) ** 2, axis=0)
    gain = np.abs(np.array([np.fft.fft(taps, 256)[carriers] for taps in sent.channel.taps])) ** 2
    genie = jscc_part(np.tile((noise / gain)[:, ofdm.grid(DEFAULT).data], (1, plan.payload_symbols)), plan)
    arrived = np.isfinite(image.noise_var)
    error, told = np.abs(image.symbols - sent.symbols)[arrived] ** 2, image.noise_var[arrived].astype(np.float64)
    nats = np.mean(np.log(told) + error / told) - np.mean(np.log(genie[arrived])) - 1
    parts = np.array_split(np.argsort(told), 5)
    return float(nats), [float(10 * np.log10(np.mean(error[part]) / np.mean(told[part]))) for part in parts]


@pytest.mark.parametrize("name", ["awgn", "multipath"])
@pytest.mark.parametrize(
    ("jammer_db", "jammer_bandwidth_hz"), [(-15.0, 50e3), (0.0, 50e3), (-10.0, 200e3), (-3.0, 0.0)]
)
def test_a_jammer_is_told_carrier_by_carrier(name: str, jammer_db: float, jammer_bandwidth_hz: float) -> None:
    """Over 3 carriers, 0 dB of the signal's total are 18 dB above it there."""
    jammer: dict[str, Any] = {"jammer_db": jammer_db, "jammer_hz": 310e3, "jammer_bandwidth_hz": jammer_bandwidth_hz}
    sent = passage(11, name=name, snr_db=15.0, count=30_000, repetition=4, loss=0.15, **jammer)
    (image,) = receive(sent.samples)
    assert image.side == sent.side
    assert image.packets_received == image.packets_expected - sent.channel.lost.sum()
    nats, calibration_db = shortfall(sent, image)
    assert nats < 0.1
    assert np.abs(calibration_db).max() < 0.6


def test_bursts_are_told_symbol_by_symbol() -> None:
    """Interference as strong as the signal, for two OFDM symbols now and then, at 20 dB SNR."""
    sent = passage(12, snr_db=20.0, count=30_000, repetition=4, burst_db=0.0, burst_duty=0.1, burst_s=150e-6)
    (image,) = receive(sent.samples)
    told = np.sort(image.noise_var[np.isfinite(image.noise_var)])
    assert told[told.size // 2] < 0.012  # most symbols are none the worse
    error = np.abs(image.symbols - sent.symbols) ** 2
    assert np.mean(error) > 0.05
    for part in np.array_split(np.argsort(image.noise_var), 5):
        assert 10 * np.log10(np.mean(error[part]) / np.mean(image.noise_var[part])) == pytest.approx(0, abs=0.6)


def test_noise_var_holds_the_errors_of_channel_and_phase() -> None:
    """They add 27/1056 of the noise and that of a phase known from 1056 + 480 subcarriers: 0.12 dB of the error."""
    ratios = []
    for seed in range(3):
        sent = passage(20 + seed, snr_db=10.0, count=60_000)
        (image,) = receive(sent.samples)
        ratios.append(np.mean(np.abs(image.symbols - sent.symbols) ** 2 / image.noise_var))
    assert 10 * np.log10(np.mean(ratios)) == pytest.approx(0, abs=0.06)


def test_equaliser_is_unbiased() -> None:
    sent = passage(5, snr_db=0.0, repetition=4)
    (image,) = receive(sent.samples)
    gain = np.vdot(sent.symbols, image.symbols) / np.vdot(sent.symbols, sent.symbols)
    assert abs(gain - 1) < 0.03  # 1/(1 + N0) = 0.5 for an MMSE equaliser left as it is


@pytest.mark.parametrize("snr_db", [0.0, 5.0, 10.0, 20.0, 25.0])
def test_snr_estimate_is_unbiased(snr_db: float) -> None:
    estimates = [
        image.snr_db
        for seed in range(3)
        for image in receive(passage(seed, snr_db=snr_db, cfo_hz=-30e3, sfo_ppm=-15.0, repetition=4).samples)
    ]
    assert len(estimates) == 3
    assert np.mean(estimates) == pytest.approx(snr_db, abs=0.2)


def test_phase_noise_is_followed() -> None:
    """An oscillator of 30 Hz linewidth turns by 0.12 rad per symbol: a line alone would lose everything."""
    sent = passage(6, snr_db=15.0, count=32768)
    steps = np.random.default_rng(6).standard_normal(sent.samples.size) * np.sqrt(2 * np.pi * 30 / 4e6)
    (image,) = receive((sent.samples * np.exp(1j * np.cumsum(steps))).astype(np.complex64))
    assert image.packets_received == image.packets_expected
    assert 10 * np.log10(mean_error(sent.symbols, image)) + 15 < 0.8


@pytest.mark.parametrize("loss", [0.15, 0.4, 0.6])
def test_lost_packets_are_erased_exactly(loss: float) -> None:
    sent = passage(7, count=45_000, loss=loss, repetition=4)
    (image,) = receive(sent.samples)
    plan = plan_of(sent, 4)
    lost = jscc_part(np.repeat(sent.channel.lost[:, None], plan.slots, axis=1), plan)
    assert np.array_equal(np.isinf(image.noise_var), lost)
    assert not np.any(image.symbols[lost])
    assert (image.packets_received, image.packets_expected) == (plan.packets - sent.channel.lost.sum(), plan.packets)
    assert 10 * np.log10(mean_error(sent.symbols, image)) + 10 < 0.5
    assert image.side == sent.side


def test_side_alone_and_tiny_images() -> None:
    for count in (0, 1, 159):
        sent = passage(8, count=count, side_bytes=3)
        (image,) = receive(sent.samples)
        assert image.symbols.size == count
        assert image.side == sent.side


def test_another_waveform_needs_only_other_numbers() -> None:
    small = Waveform(
        name="small",
        sample_rate_hz=2e6,
        fft_size=64,
        cyclic_prefix=16,
        edge_carrier=26,
        pilots=4,
        header_symbols=8,
        payload_symbols=100,
    )
    sent = passage(9, waveform=small, snr_db=15.0, cfo_hz=15e3, sfo_ppm=20.0)
    (image,) = receive(sent.samples, small)
    assert image.packets_received == image.packets_expected
    assert image.side == sent.side
    assert 10 * np.log10(mean_error(sent.symbols, image)) + 15 < 0.8


def test_level_of_the_recording_does_not_matter() -> None:
    sent = passage(10)
    (reference,) = receive(sent.samples)
    for scale in (1e-4, 3e4):
        (image,) = receive((sent.samples * scale).astype(np.complex64))
        assert image.side == sent.side
        assert image.snr_db == pytest.approx(reference.snr_db, abs=0.01)
