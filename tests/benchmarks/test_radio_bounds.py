"""Bounds and peers of the radio benchmark against theory, its genie, its statistics, its noise."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import signal, stats

from benchmarks.radio_rows import awgn, converter, detection, fading, false_images, memory, packet_loss, trial
from sdr import fec, ofdm
from sdr.channel import Channel
from sdr.impairments import apply_channel, noise_variance
from sdr.transmit import transmit
from sdr.waveform import DEFAULT

# ---------------------------------------------------------------- bounds


def test_cfo_bound_is_the_known_one_where_everything_is_known() -> None:
    """3/(2π²Nρ) in units of 1/N cycles per sample squared, over the preamble."""
    samples = DEFAULT.preamble_samples
    per_sample = DEFAULT.tx_rms**2 / noise_variance(7.0, DEFAULT)
    expected = DEFAULT.sample_rate_hz / samples * np.sqrt(3 / (2 * np.pi**2 * samples * per_sample))
    assert awgn.cfo_bound_hz(7.0, DEFAULT, preamble_only=True) == pytest.approx(expected, rel=1e-5)
    assert awgn.cfo_bound_hz(7.0, DEFAULT) < expected / 5  # pilots far apart say more


def test_snr_bound_is_reached_by_the_estimate_from_known_symbols() -> None:
    """Sample SNR of n known values in noise: its deviation in dB is what the bound says."""
    rng, known, snr_db = np.random.default_rng(0), awgn.known_subcarriers(DEFAULT), 5.0
    assert known == 2 * 176 + 4 * 176 + 30 * 16
    noise = trial.gaussian(2000 * known, rng).reshape(2000, known) * 10 ** (-snr_db / 20)
    gain = np.mean(1 + noise, axis=1)
    residual = np.mean(np.abs(1 + noise - gain[:, None]) ** 2, axis=1)
    deviation = np.std(10 * np.log10(np.abs(gain) ** 2 / residual))
    assert awgn.snr_bound_db(snr_db, known) == pytest.approx(deviation, rel=0.05)


def test_spectrum_of_the_code_counts_its_paths() -> None:
    """Walk the trellis: paths that leave state 0 and return to it, by weight."""
    counts: dict[int, int] = {}
    walks = {(32, 2): 1}  # state after a 1 bit, whose two coded bits are both 1
    while walks:
        later: dict[tuple[int, int], int] = {}
        for (state, weight), number in walks.items():
            for bit in (0, 1):
                register = (bit << 6) | state
                heavier = weight + sum(bin(register & taps).count("1") & 1 for taps in fec.POLYNOMIALS)
                if heavier > max(detection.SPECTRUM):
                    continue
                if register >> 1 == 0:
                    counts[heavier] = counts.get(heavier, 0) + number
                else:
                    later[register >> 1, heavier] = later.get((register >> 1, heavier), 0) + number
        walks = later
    assert counts == detection.SPECTRUM


def test_zadoff_chu_has_no_sidelobes_and_its_filter_follows_marcum() -> None:
    sequence = detection.zadoff_chu(detection.ZADOFF_CHU_LENGTH)
    correlation = np.abs(np.fft.ifft(np.abs(np.fft.fft(sequence)) ** 2))
    assert correlation[0] == pytest.approx(len(sequence)) and correlation[1:].max() < 1e-2
    snr_db, false_alarms, rng = -7.0, 1e-3, np.random.default_rng(1)
    energy = detection.ZADOFF_CHU_LENGTH * DEFAULT.tx_rms**2 / noise_variance(snr_db, DEFAULT)
    heard = np.abs(energy**0.5 + trial.gaussian(20_000, rng)) ** 2 > -np.log(false_alarms)
    theory = detection.matched_filter_theory(snr_db, detection.ZADOFF_CHU_LENGTH, false_alarms)
    assert theory == pytest.approx(np.mean(heard), abs=0.01)
    # Between the samples it finds a little less than at known timing.
    rate = detection.matched_filter(-8.0, 2000, rng) / 2000
    assert 0.5 < rate < detection.matched_filter_theory(-8.0, detection.ZADOFF_CHU_LENGTH, 1e-9)


def test_quantisation_theory_is_that_of_a_real_quantiser() -> None:
    rng, bits = np.random.default_rng(2), 8
    samples = DEFAULT.tx_rms * trial.gaussian(200_000, rng)
    error = np.mean(np.abs(converter._converter(samples) - samples)[np.abs(samples) < 0.9] ** 2)
    noise = noise_variance(25.0, DEFAULT)
    expected = 10 * np.log10(1 + error / noise)
    assert converter.quantisation_loss_db(bits, 25.0, -12.0) == pytest.approx(expected, abs=0.01)


def test_peaks_are_those_of_the_continuous_signal() -> None:
    sent = transmit(np.zeros(0, np.complex64), b"12", DEFAULT, session=1, image_id=0, repetition=4)
    peaks = converter.peaks_db(sent.samples, DEFAULT.tx_rms)
    body = sent.samples[DEFAULT.preamble_samples :].reshape(-1, 288)[:, 32:].astype(np.complex128)
    dense = np.abs(signal.resample(body, 4 * 256, axis=1)) ** 2
    assert np.allclose(peaks, 10 * np.log10(dense.max(axis=1) / DEFAULT.tx_rms**2))
    theory = converter.papr_theory(np.array([0.0, 9.0, 20.0]), 176)
    assert theory[0] == pytest.approx(1) and theory[2] < 1e-12
    assert theory[1] == pytest.approx(1 - (1 - np.exp(-(10**0.9))) ** (2.8 * 176))


def test_phase_noise_within_a_symbol_is_what_the_formula_says() -> None:
    rng, size, linewidth = np.random.default_rng(3), DEFAULT.fft_size, 30.0
    steps = rng.standard_normal((4000, size)) * np.sqrt(2 * np.pi * linewidth / DEFAULT.sample_rate_hz)
    phase = np.cumsum(steps, axis=1)
    turned = np.exp(1j * (phase - phase.mean(axis=1, keepdims=True)))
    interference = np.mean(np.abs(turned - turned.mean(axis=1, keepdims=True)) ** 2)
    assert fading.phase_noise_share(linewidth) == pytest.approx(interference, rel=0.05)
    share = np.mean(np.abs(np.fft.fft(turned, axis=1) / size) ** 2, axis=0) / interference
    for distance in (1, 2, -1, -3):  # how it falls off over the neighbouring carriers
        assert share[distance] == pytest.approx(3 / (np.pi * distance) ** 2, rel=0.12)


def test_equivalent_loss_is_the_loss_in_noise_and_counts_what_fading_hides() -> None:
    genie = np.random.default_rng(12).exponential(size=5000) ** -1.0 / 10
    louder = 1.2 * genie
    assert fading.equivalent_loss_db(louder / (1 + louder), genie) == pytest.approx(10 * np.log10(1.2), abs=1e-6)
    # An erased symbol is as good as its mean, 0: an error of 1.
    erased = np.where(np.arange(genie.size) % 10 == 0, 1.0, genie / (1 + genie))
    assert fading.equivalent_loss_db(erased, genie) > 1
    assert 0.3 < fading.one_tap_loss_db(20.0, 30.0) < 10 * np.log10(1 + 100 * fading.phase_noise_share(30.0))


# ---------------------------------------------------------------- genie and statistics


def test_genie_variance_is_the_error_of_one_who_knows_the_channel() -> None:
    """Demodulate with the drawn response: squared errors over the genie's variances are exponential of mean 1."""
    channel = Channel(fading="four-tap", snr_db=10.0, loss=0.5, jammer_db=-5.0, jammer_hz=4e5, jammer_bandwidth_hz=1e5)
    rng = np.random.default_rng(4)
    drawn = trial.passage(rng, channel, trial.full_packets(2))
    lead = int(drawn.realisation.delay_samples)
    still = replace(drawn.realisation, delay_samples=float(lead), phase_rad=0.0)
    samples = apply_channel(drawn.transmission.samples, drawn.transmission.packets, still)
    layout, plan = ofdm.grid(DEFAULT), drawn.plan
    stream = np.zeros((plan.packets, plan.slots), np.complex128)
    for packet, span in enumerate(drawn.transmission.packets):
        first = lead + span.start_sample + DEFAULT.preamble_samples + DEFAULT.header_symbols * DEFAULT.symbol_samples
        body = samples[first : first + plan.payload_symbols * DEFAULT.symbol_samples].reshape(plan.payload_symbols, -1)
        values = ofdm.to_carriers(body[:, DEFAULT.cyclic_prefix :], DEFAULT)[:, layout.data]
        response = np.fft.fft(drawn.realisation.taps[packet], DEFAULT.fft_size)[layout.carriers[layout.data]]
        stream[packet] = (values / response * layout.payload_scramble.conj()).reshape(-1)
    received = np.empty(stream.size, np.complex128)
    received[plan.stream_index()] = stream
    received = received[plan.side_symbols : plan.side_symbols + plan.jscc_symbols]
    genie = fading.genie_variance(drawn)
    assert np.isinf(genie).mean() == pytest.approx(0.5, abs=0.02)
    arrived = np.isfinite(genie)
    ratio = np.abs(received - drawn.symbols)[arrived] ** 2 / genie[arrived]
    assert ratio.mean() == pytest.approx(1, abs=0.1)
    assert np.median(ratio) == pytest.approx(np.log(2), abs=0.07)


def test_log_likelihood_is_scipys() -> None:
    errors, variance = np.array([0.3 + 0.1j, -1.0j]), np.array([0.5, 2.0])
    parts = [stats.norm.logpdf(part, scale=np.sqrt(variance / 2)) for part in (errors.real, errors.imag)]
    assert np.allclose(fading.log_likelihood(np.abs(errors) ** 2, variance), sum(parts))
    rng = np.random.default_rng(5)
    many = np.abs(trial.gaussian(100_000, rng)) ** 2
    ones = np.ones(many.size)
    assert np.mean(fading.log_likelihood(many, ones)) == pytest.approx(fading.genie_log_likelihood(ones)[0], abs=0.01)


@pytest.mark.parametrize("interval", ["mean", "deviation", "rate"])
def test_intervals_cover_the_truth_as_often_as_they_say(interval: str) -> None:
    rng, hits, repeats = np.random.default_rng(6), 0, 400
    for _ in range(repeats):
        values = rng.normal(3.0, 2.0, 15)
        if interval == "mean":
            found, truth = trial.mean_interval(values), 3.0
        elif interval == "deviation":
            found, truth = trial.deviation_interval(float(np.std(values, ddof=1)), len(values)), 2.0
        else:
            found, truth = trial.rate_interval(int(rng.binomial(40, 0.1)), 40), 0.1
        assert found is not None
        hits += found[0] <= truth <= found[1]
    assert hits / repeats >= 0.92
    if interval != "rate":  # an exact interval of a count is wider than it needs to be
        assert hits / repeats <= 0.98


def test_cheap_noise_is_white_gaussian_and_new_in_every_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    stretch = 1 << 20
    monkeypatch.setattr(false_images, "_BUFFER", stretch)
    noise = false_images.Noise(70, np.random.default_rng(7))
    samples = np.concatenate([piece.copy() for piece in noise.pieces(2 * stretch)]) / false_images._NOISE_RMS
    first, second = samples[:stretch], samples[stretch:]
    assert np.mean(np.abs(samples) ** 2) == pytest.approx(1, abs=0.005)
    assert abs(np.mean(samples**2)) < 0.005 and abs(np.mean(samples)) < 0.005
    assert np.mean(np.abs(samples) ** 4) == pytest.approx(2, abs=0.02)
    for part, other in ((first, first), (first, second)):
        correlation = np.abs(np.fft.ifft(np.fft.fft(part) * np.fft.fft(other).conj())) / len(part)
        if part is other:
            assert correlation[1:].max() < 0.01  # white
        else:
            assert correlation.max() < 0.9 and np.count_nonzero(correlation > 0.01) <= 16  # four buffers by four


def test_tones_are_seamless_and_as_strong_as_drawn() -> None:
    rng = np.random.default_rng(8)
    assert false_images.disturbance("noise", rng) is None
    for kind in ("noise + DC", "noise + tone"):
        added = false_images.disturbance(kind, rng)
        assert added is not None
        low, high = false_images.LEVELS_DB[kind] or (0.0, 0.0)
        assert low <= 20 * np.log10(np.abs(added).max() / false_images._NOISE_RMS) <= high
        steps = np.angle(np.roll(added, -1) / added)
        assert np.allclose(steps, steps[0], atol=1e-4)  # from the last to the first sample too


def test_packets_in_turns_keep_their_samples() -> None:
    rng = np.random.default_rng(9)
    sent = [
        transmit(trial.gaussian(count, rng), b"", DEFAULT, session=1, image_id=0, repetition=1)
        for count in (12_000, 3000)
    ]
    samples, spans, order = packet_loss.in_turns(sent)
    assert order == [(0, 0), (1, 0), (0, 1), (0, 2)]
    for span, (sender, index) in zip(spans, order, strict=True):
        own = sent[sender].packets[index]
        expected = sent[sender].samples[own.start_sample : own.start_sample + own.samples]
        assert np.array_equal(samples[span.start_sample : span.start_sample + span.samples], expected)


def test_a_segment_of_the_mixed_stream_holds_whole_and_cut_images() -> None:
    noise = false_images.Noise(0, np.random.default_rng(10))
    chunks = list(memory.segment(noise, 0, np.random.default_rng(11)))
    images = trial.receive(np.concatenate(chunks))
    assert [image.packets_received == image.packets_expected for image in images] in ([True, False], [True])
    assert memory.resident_mib() > 10


def test_a_leak_shows_as_a_trend_and_an_allocators_jitter_does_not() -> None:
    minutes, rng = np.linspace(5, 10, 50), np.random.default_rng(13)
    jitter = 300 + rng.choice([0.0, 1.0], 50)
    steady, interval = memory.trend(minutes, jitter)
    assert abs(steady) < memory.GROWTH_ASKED_MIB and interval is not None and interval[0] < 0 < interval[1]
    leaking, _ = memory.trend(minutes, jitter + minutes)
    assert leaking == pytest.approx(5, abs=1)
