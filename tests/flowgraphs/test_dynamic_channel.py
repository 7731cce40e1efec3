"""A second air, not ours: GNU Radio's dynamic channel model between our transmitter and our receiver."""

from typing import Any

import numpy as np
import pytest
from gnuradio import blocks, channels, gr
from jaxtyping import Complex64

from sdr import ofdm
from sdr.impairments import noise_variance
from sdr.receive import ReceivedImage
from sdr.transmit import Transmission, transmit
from sdr.waveform import DEFAULT
from tests.sdr.helpers import gaussian, mean_error, receive

RATE_HZ, SNR_DB, CFO_HZ = DEFAULT.sample_rate_hz, 18.0, 20e3
STEADY = {"doppler_hz": 0.0, "rice_factor": 1e9, "delays": (6.0,), "magnitudes": (1.0,)}
"""One path without fading."""
FADING = {"doppler_hz": 5.0, "rice_factor": 3.0, "delays": (6.0, 9.4, 15.7), "magnitudes": (0.8, 0.5, 0.33)}
"""Three paths of mean power 1 in all, delays in samples. Room before the first: its sinc is cut off at 0."""


def air(
    samples: Complex64[np.ndarray, "n"],
    *,
    noise: float,
    seed: int,
    doppler_hz: float,
    rice_factor: float,
    delays: tuple[float, ...],
    magnitudes: tuple[float, ...],
) -> Complex64[np.ndarray, "received"]:
    """A carrier offset, then wandering clocks (to 10 ppm) and carriers, fading, and noise of that variance."""
    model = channels.dynamic_channel_model(
        samp_rate=RATE_HZ,
        sro_std_dev=0.2,
        sro_max_dev=40.0,
        cfo_std_dev=0.05,
        cfo_max_dev=100.0,
        N=16,
        doppler_freq=doppler_hz,
        LOS_model=True,
        K=rice_factor,
        delays=delays,
        mags=magnitudes,
        ntaps_mpath=32,
        noise_amp=noise**0.5,
        noise_seed=seed,
    )
    silence = np.zeros(3000, np.complex64)
    source = blocks.vector_source_c(np.concatenate([silence, samples, silence]).tolist())
    rotator, sink = blocks.rotator_cc(2 * np.pi * CFO_HZ / RATE_HZ), blocks.vector_sink_c()
    graph = gr.top_block()
    graph.connect(source, rotator, model, sink)
    graph.run()
    return np.array(sink.data(), np.complex64)


def flight(seed: int, conditions: dict[str, Any]) -> tuple[Complex64[np.ndarray, "n"], ReceivedImage, float]:
    """Symbols sent, what was received, and the mean power gain of the channel on the way."""
    rng = np.random.default_rng(seed)
    symbols = gaussian(28_000, rng)
    sent = transmit(symbols, rng.bytes(60), DEFAULT, session=7, image_id=1, repetition=4)
    noise = noise_variance(SNR_DB, DEFAULT)
    (image,) = receive(air(sent.samples, noise=noise, seed=seed, **conditions))
    assert image.session == 7 and image.packets_received == image.packets_expected == len(sent.packets) > 5
    quiet = air(sent.samples, noise=0.0, seed=seed, **conditions)
    return symbols, image, channel_power(sent, quiet)


def channel_power(sent: Transmission, quiet: Complex64[np.ndarray, "n"]) -> float:
    """Mean |H|² over carriers and packets, from their long training symbols as they came without noise."""
    turn = np.exp(-2j * np.pi * CFO_HZ / RATE_HZ * np.arange(quiet.size))
    steady = (quiet * turn).astype(np.complex64)
    # Within their double prefix, wherever the blocks' own delays put them.
    starts = [3000 + span.start_sample + DEFAULT.short_samples + DEFAULT.cyclic_prefix for span in sent.packets]
    training = np.stack([steady[start + 16 : start + 16 + DEFAULT.fft_size] for start in starts])
    return float(np.mean(np.abs(ofdm.to_carriers(training, DEFAULT)) ** 2))  # their values are of unit modulus


@pytest.mark.parametrize("seed", [1, 2])
def test_without_fading_the_symbol_error_is_the_noise(seed: int) -> None:
    symbols, image, gain = flight(seed, STEADY)
    assert gain == pytest.approx(1, abs=0.02)
    assert 10 * np.log10(mean_error(symbols, image)) == pytest.approx(-SNR_DB, abs=0.6)
    assert image.snr_db == pytest.approx(SNR_DB, abs=0.4)
    assert image.cfo_hz == pytest.approx(CFO_HZ, abs=150)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_in_fading_it_is_the_noise_over_the_power_of_the_carrier(seed: int) -> None:
    """Over all symbols: 1/noise_var averages to the SNR with the channel's gain, and the errors are of that size."""
    symbols, image, gain = flight(seed, FADING)
    reliability = np.mean(1 / image.noise_var)
    assert 10 * np.log10(reliability) == pytest.approx(SNR_DB + 10 * np.log10(gain), abs=0.4)
    error = np.mean(np.abs(image.symbols - symbols) ** 2 / image.noise_var)
    assert 10 * np.log10(error) == pytest.approx(0, abs=0.6)
