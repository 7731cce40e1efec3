"""Single packets in hard channels, beside one who knows the channel: timing, clocks, phase noise, missing samples."""

import dataclasses

import numpy as np
import pytest

from sdr import ofdm
from sdr.candidate import Candidate
from sdr.framing import plan_frame
from sdr.impairments import apply_channel
from sdr.receive import Receiver
from sdr.waveform import DEFAULT
from tests.sdr.helpers import Passage, mean_error, passage, receive


def with_taps(sent: Passage, taps: dict[int, complex]) -> np.ndarray:
    """What arrives through this impulse response instead."""
    response = np.zeros((len(sent.transmission.packets), max(taps) + 1), np.complex64)
    response[:, list(taps)] = list(taps.values())
    channel = dataclasses.replace(sent.channel, taps=response)
    return apply_channel(sent.transmission.samples, sent.transmission.packets, channel)


def excess_db(sent: Passage, samples: np.ndarray, taps: dict[int, complex]) -> float:
    """Mean squared error beside that of a genie who divides by the response, both after Wiener scaling, in dB."""
    (image,) = receive(samples)
    assert image.packets_received == image.packets_expected
    wiener = np.abs(image.symbols / (1 + image.noise_var) - sent.symbols) ** 2
    response = np.zeros(32, np.complex128)
    response[list(taps)] = list(taps.values())
    bins = np.fft.fft(response, 256)[ofdm.grid(DEFAULT).carriers[ofdm.grid(DEFAULT).data]]
    genie = 10 ** (-sent.channel.channel.snr_db / 10) / np.abs(bins) ** 2
    return float(10 * np.log10(np.mean(wiener) / np.mean(genie / (1 + genie))))


@pytest.mark.parametrize(
    "taps",
    [
        {0: 0.15, 11: 0.85, 18: 0.5j},  # 15 dB under the strongest path, and long before it
        {0: 0.2, 4: 0.2j, 17: 0.9, 25: 0.3},
        {0: 0.9, 22: 0.4},
        {0: 1.0},
    ],
)
def test_weak_paths_before_the_strongest_lie_within_the_window(taps: dict[int, complex]) -> None:
    """Left outside, the first case's early path alone would cost 5 dB at 25 dB SNR."""
    sent = passage(0, count=9000, snr_db=25.0, cfo_hz=20e3)
    assert excess_db(sent, with_taps(sent, taps), taps) < 0.5


@pytest.mark.parametrize(("sfo_ppm", "snr_db"), [(40.0, 25.0), (-40.0, 0.0), (100.0, 15.0), (-150.0, 30.0)])
def test_clock_drift_is_found_at_its_bound(sfo_ppm: float, snr_db: float) -> None:
    """Cramér-Rao for pilots of a flat channel: var ≥ 1/(2 ρ Σ f²(t - t̄)²), f in rad per sample."""
    sent = passage(1, count=40_000, snr_db=snr_db, sfo_ppm=sfo_ppm, repetition=4)
    seen: list[Candidate] = []
    receiver = Receiver(DEFAULT, observer=seen.append)
    receiver.push(sent.samples)
    receiver.flush()
    states = [candidate.state for candidate in seen if candidate.state is not None]
    frequency = 2 * np.pi * ofdm.grid(DEFAULT).carriers[ofdm.grid(DEFAULT).pilot] / DEFAULT.fft_size
    times = ofdm.times(DEFAULT, len(states[0].phase))
    spread = np.sum(frequency**2) * np.sum((times - times.mean()) ** 2)
    bound = (2 * 10 ** (snr_db / 10) * spread) ** -0.5
    errors = np.array([state.drift for state in states]) + 1e-6 * sfo_ppm / (1 + 1e-6 * sfo_ppm)
    assert len(errors) == len(sent.transmission.packets)
    # Interference between carriers, of the offset itself, adds to the noise at 100 ppm and more.
    assert np.sqrt(np.mean(errors**2)) < 1.5 * bound + 1e-9 * abs(sfo_ppm)


@pytest.mark.parametrize("snr_db", [0.0, 5.0, 10.0, 20.0])
def test_phase_noise_is_followed_between_symbols_and_within(snr_db: float) -> None:
    """30 Hz of linewidth alone cost 0.79 dB at 20 dB SNR as long as symbols are turned as a whole.

    Within a symbol a Wiener phase departs from its mean by a variance of 2π·30 Hz·64 µs/6. From 0 to 10 dB a line
    through the phases, which turn by 0.1 rad from one symbol to the next, would cost 0.5 to 3 dB.
    """
    whole_db = 10 * np.log10(1 + 2 * np.pi * 30 * 64e-6 / 6 * 100)
    losses = []
    for seed in range(3):
        sent = passage(seed, count=30_000, snr_db=snr_db, cfo_hz=20e3, phase_noise_hz=30.0, repetition=4)
        (image,) = receive(sent.samples)
        assert image.packets_received == image.packets_expected
        losses.append(10 * np.log10(mean_error(sent.symbols, image)) + snr_db)
    assert max(losses) < (whole_db if snr_db == 20 else 0.5)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 30.0])
def test_phase_noise_is_not_imagined(snr_db: float) -> None:
    sent = passage(3, count=90_000, snr_db=snr_db, repetition=4)
    seen: list[Candidate] = []
    receiver = Receiver(DEFAULT, observer=seen.append)
    receiver.push(sent.samples)
    receiver.flush()
    states = [candidate.state for candidate in seen if candidate.state is not None]
    assert sum(state.track.step_var > 0 for state in states) <= 0.15 * len(states)
    assert all(state.even for state in states)


@pytest.mark.parametrize("count", [1, 3, 15])
def test_missing_symbols_leave_the_others_as_they_were(count: int) -> None:
    """In one of two packets every other symbol from the tenth on has NaN: the rest is as good as with all of them."""
    sent = passage(4, count=4000, snr_db=20.0, cfo_hz=20e3, delay_samples=1000.0)
    plan = plan_frame(DEFAULT, 4000, len(sent.side), 2)
    samples = sent.samples.copy()
    for index in range(10, 10 + 2 * count, 2):
        start = 1000 + DEFAULT.packet_samples(index % plan.payload_symbols)
        samples[start + 100 : start + 105] = np.nan
    (image,) = receive(samples)
    (whole,) = receive(sent.samples)
    heard = np.isfinite(image.noise_var)
    assert (image.packets_cut, whole.packets_cut) == (1, 0)
    assert 1 - heard.mean() == pytest.approx(count / plan.payload_symbols / plan.packets, abs=0.02)
    assert not image.symbols[~heard].any()
    error, before = (np.mean(np.abs(one.symbols - sent.symbols)[heard] ** 2) for one in (image, whole))
    assert error < 1.1 * before
    assert image.snr_db == pytest.approx(whole.snr_db, abs=0.3)
