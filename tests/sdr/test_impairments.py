"""The software channel against the theory it claims."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdr.channel import Channel
from sdr.errors import SdrError
from sdr.fading import CHANNELS
from sdr.impairments import apply_channel, draw_channel, noise_variance
from sdr.transmit import PacketSpan
from sdr.waveform import DEFAULT
from tests.sdr.helpers import passage

ONE_PACKET = [PacketSpan(0, 2000)]
SIGNAL_POWER = DEFAULT.tx_rms**2


def through(channel: Channel, samples: np.ndarray, *, delay_samples: float = 0.0, gain: complex = 1.0) -> np.ndarray:
    """Samples as one packet through a channel, whose taps are multiplied by `gain`."""
    drawn = draw_channel(channel, DEFAULT, 1, np.random.default_rng(0), delay_samples=delay_samples)
    drawn = replace(drawn, taps=drawn.taps * np.complex64(gain))
    received = apply_channel(samples, [PacketSpan(0, samples.size)], drawn)
    return received


def tone(frequency: float, count: int, amplitude: float = DEFAULT.tx_rms) -> np.ndarray:
    samples: np.ndarray = amplitude * np.exp(2j * np.pi * frequency * np.arange(count))
    return samples.astype(np.complex64)


def power(samples: np.ndarray) -> float:
    return float(np.mean(np.abs(samples.astype(np.complex128)) ** 2))


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


def test_drawing_and_applying_are_reproducible() -> None:
    for name in CHANNELS:
        first, second = (passage(5, name=name, loss=0.3, sfo_ppm=10.0).samples for _ in range(2))
        assert np.array_equal(first, second)
    assert not np.array_equal(passage(5).samples, passage(6).samples)


def test_ideal_channel_changes_nothing() -> None:
    sent = passage(1, name="ideal")
    assert np.array_equal(sent.samples[: sent.transmission.samples.size], sent.transmission.samples)


@given(loss=st.floats(0, 1), packets=st.integers(0, 60), seed=st.integers(0, 1000))
def test_loss_takes_a_whole_number_of_packets(loss: float, packets: int, seed: int) -> None:
    lost = draw_channel(Channel(loss=loss), DEFAULT, packets, np.random.default_rng(seed)).lost
    assert lost.size == packets and abs(lost.sum() - loss * packets) <= 0.5


def test_every_packet_is_lost_equally_often() -> None:
    rng = np.random.default_rng(0)
    lost = np.mean([draw_channel(Channel(loss=0.25), DEFAULT, 8, rng).lost for _ in range(2000)], axis=0)
    assert np.all(np.abs(lost - 0.25) < 0.05)


def test_loss_blanks_whole_packets() -> None:
    sent = passage(2, name="ideal", count=40_000, loss=0.4)
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


def test_multipath_tails_overlap_the_next_packet() -> None:
    sent = passage(4, name="ideal")
    taps = np.zeros((len(sent.transmission.packets), 3), np.complex64)
    taps[:, 2] = 1
    channel = draw_channel(Channel("ideal"), DEFAULT, len(taps), np.random.default_rng(0))
    moved = apply_channel(
        sent.transmission.samples, sent.transmission.packets, type(channel)(**{**vars(channel), "taps": taps})
    )
    assert np.allclose(moved[2 : sent.transmission.samples.size], sent.transmission.samples[:-2], atol=1e-6)


def test_channel_of_another_length_is_refused() -> None:
    channel = draw_channel(Channel("awgn"), DEFAULT, 2, np.random.default_rng(0))
    with pytest.raises(SdrError, match="2 packets"):
        apply_channel(np.zeros(2000, np.complex64), ONE_PACKET, channel)


def test_noise_variance_is_one_definition() -> None:
    assert noise_variance(10.0, DEFAULT) == pytest.approx(0.25**2 * 256 / 176 / 10)


# ---------------------------------------------------------------- clocks and oscillators


@pytest.mark.parametrize("sfo_ppm", [-100.0, 40.0])
def test_a_faster_transmitter_is_heard_higher(sfo_ppm: float) -> None:
    count = 50_000
    received = through(Channel("ideal", sfo_ppm=sfo_ppm), tone(0.1, count))[100 : count - 200]
    turns = np.unwrap(np.angle(received.astype(np.complex128))) / (2 * np.pi)
    slope = np.polyfit(np.arange(turns.size), turns, 1)[0]
    assert slope == pytest.approx(0.1 * (1 + 1e-6 * sfo_ppm), abs=1e-8)


def test_the_paths_of_a_delay_line_come_when_the_delay_says() -> None:
    """Flat, without Doppler: a fractional delay, and no more than that."""
    count, delay = 4000, 100.25
    table = Channel("tdl-a", delay_spread_s=0.0, snr_db=40.0)
    received = through(table, tone(0.1, count), delay_samples=delay)[200:4000]
    expected = tone(0.1, count)[100:3900] * np.exp(-2j * np.pi * 0.1 * (delay - 100))
    gain = np.vdot(expected, received) / np.vdot(expected, expected)
    assert power(received - gain * expected) == pytest.approx(noise_variance(40.0, DEFAULT), rel=0.1)
    late = np.angle(gain * np.exp(-1j * np.angle(through(table, tone(0.0, count), delay_samples=delay)[300])))
    assert abs(late) < 0.2  # the phase of the path alone: a whole sample would turn 0.63 rad


def test_phase_noise_leaves_the_noise_and_widens_the_line() -> None:
    channel = Channel("awgn", 40.0, phase_noise_hz=1000.0)
    count = 40_000
    received = through(channel, tone(0.0, count))[:count]
    steady = through(replace(channel, phase_noise_hz=0.0), tone(0.0, count))[:count]
    walk = np.unwrap(np.angle(received / steady))
    assert np.var(walk[4000::4000] - walk[:-4000:4000]) == pytest.approx(2 * np.pi * 1000 * 4000 / 4e6, rel=1.5)
    steps = np.diff(np.unwrap(np.angle(received[::50])))
    noise = 2 * noise_variance(40.0, DEFAULT) / (2 * SIGNAL_POWER)
    assert np.var(steps) == pytest.approx(2 * np.pi * 1000 * 50 / 4e6 + noise, rel=0.15)


def test_doppler_goes_on_from_packet_to_packet() -> None:
    """Cut into two packets or not, a stream fades alike: each packet is faded at its own time."""
    drawn = draw_channel(Channel("tdl-c", 40.0, doppler_hz=500.0), DEFAULT, 2, np.random.default_rng(1))
    whole = replace(drawn, taps=drawn.taps[:1], lost=drawn.lost[:1])
    sent = tone(0.1, 12_000)
    two = apply_channel(sent, [PacketSpan(0, 5000), PacketSpan(5000, 7000)], drawn)
    assert np.allclose(two, apply_channel(sent, [PacketSpan(0, 12_000)], whole), atol=2e-3)


# ---------------------------------------------------------------- the order of things


def test_the_amplifier_comes_before_the_fading() -> None:
    channel = Channel("ideal", pa_backoff_db=3.0)
    sent = tone(0.1, 1000)
    strong, weak = through(channel, sent), through(channel, sent, gain=0.1)
    assert np.allclose(weak, 0.1 * strong, atol=1e-7)
    expected = DEFAULT.tx_rms / (1 + 10 ** (-3 * 2 / 10)) ** 0.25
    assert np.abs(strong[100:900]).mean() == pytest.approx(expected, rel=1e-3)


def test_the_converter_comes_after_the_fading_and_the_noise() -> None:
    full_scale = DEFAULT.tx_rms * 10 ** (12 / 20)
    step = full_scale / 2**5
    for gain in (0.01, 1.0, 30.0):
        parts = through(Channel("awgn", 10.0, adc_bits=6), tone(0.1, 2000), gain=gain).view(np.float32)
        assert np.allclose(parts / step, np.rint(parts / step), atol=1e-3)
        assert parts.max() <= full_scale - step + 1e-6 and parts.min() >= -full_scale - 1e-6
        assert (parts.max() > 0.9 * full_scale) == (gain == 30.0)


@pytest.mark.parametrize(("bits", "backoff_db"), [(8, 12.0), (8, 24.0), (12, 12.0)])
def test_quantisation_lies_where_bits_and_level_say(bits: int, backoff_db: float) -> None:
    sent = passage(6, name="ideal").transmission.samples
    received = through(Channel("ideal", adc_bits=bits, adc_rms_dbfs=-backoff_db), sent)[: sent.size]
    snr_db = 10 * np.log10(SIGNAL_POWER / power(received - sent))
    clipped = 0.6 if backoff_db == 12 else 0.3  # OFDM's peaks reach past 12 dB above its rms, if seldom
    assert snr_db == pytest.approx(6.02 * bits + 1.76 - backoff_db, abs=clipped)


def test_noise_too_passes_the_mixer() -> None:
    """An uneven mixer makes circular noise improper: E[r²] = 2αβ·variance."""
    channel = Channel("awgn", 0.0, iq_gain_db=2.0, iq_phase_deg=10.0)
    received = through(channel, np.zeros(100_000, np.complex64)).astype(np.complex128)
    branch = 10 ** (2 / 20) * np.exp(1j * np.deg2rad(10.0))
    direct, image = (1 + np.conj(branch)) / 2, (1 - branch) / 2
    variance = noise_variance(0.0, DEFAULT)
    assert np.mean(received**2) == pytest.approx(2 * direct * image * variance, abs=0.02 * variance)
    assert power(received) == pytest.approx((abs(direct) ** 2 + abs(image) ** 2) * variance, rel=0.02)


def test_the_image_lies_opposite_to_the_received_carrier() -> None:
    """The offset comes before the mixer: its image turns the other way."""
    channel = Channel("ideal", cfo_hz=400e3, iq_gain_db=1.0)
    spectrum = np.abs(np.fft.fft(through(channel, tone(0.05, 1000))[:1000]))
    assert set(np.argsort(spectrum)[-2:]) == {150, 850}


@pytest.mark.parametrize("cfo_hz", [0.0, 50e3])
def test_dc_has_its_level_and_stays_at_zero_frequency(cfo_hz: float) -> None:
    channel = Channel("ideal", cfo_hz=cfo_hz, dc_dbfs=-30.0, adc_rms_dbfs=-15.0)
    received = through(channel, np.zeros(4000, np.complex64))
    assert np.ptp(received.real) == np.ptp(received.imag) == 0
    full_scale_db = 20 * np.log10(DEFAULT.tx_rms) + 15
    assert 10 * np.log10(power(received)) == pytest.approx(full_scale_db - 30, abs=0.01)


@pytest.mark.parametrize("cfo_hz", [0.0, 50e3])
def test_a_jammer_is_where_the_receiver_sees_it(cfo_hz: float) -> None:
    channel = Channel("ideal", cfo_hz=cfo_hz, jammer_db=-6.0, jammer_hz=-1e6, jammer_bandwidth_hz=40e3)
    received = through(channel, np.zeros(100_000, np.complex64), gain=0.0)
    assert 10 * np.log10(power(received) / SIGNAL_POWER) == pytest.approx(-6, abs=0.6)
    spectrum = np.abs(np.fft.fft(received)) ** 2
    inside = np.abs(np.fft.fftfreq(received.size, 1 / 4e6) + 1e6) <= 20.1e3
    assert spectrum[~inside].sum() < 1e-5 * spectrum.sum()


def test_bursts_have_their_power_duty_and_length() -> None:
    channel = Channel("ideal", burst_db=3.0, burst_duty=0.2, burst_s=100e-6)
    received = through(channel, np.zeros(2_000_000, np.complex64))
    on = received != 0
    assert on.mean() == pytest.approx(0.2, rel=0.1)
    assert 10 * np.log10(power(received[on]) / SIGNAL_POWER) == pytest.approx(3, abs=0.1)
    lengths = np.diff(np.flatnonzero(np.diff(on.astype(np.int8))))
    assert np.mean(np.abs(lengths - 400) <= 1) > 0.45  # every other one is a gap


def test_one_impairment_does_not_change_the_draw_of_another() -> None:
    sent = tone(0.1, 4000)
    plain = through(Channel("rayleigh", 10.0), sent)
    bursts = through(Channel("rayleigh", 10.0, burst_db=0.0, burst_duty=1.0), sent) - plain
    other = through(Channel("rayleigh", 10.0, burst_db=0.0, burst_duty=1.0, jammer_db=20.0, dc_dbfs=-20.0), sent)
    other -= through(Channel("rayleigh", 10.0, jammer_db=20.0, dc_dbfs=-20.0), sent)
    assert power(bursts) == pytest.approx(SIGNAL_POWER, rel=0.1)
    assert np.allclose(bursts, other, atol=1e-5)
    jammed = through(Channel("rayleigh", 10.0, jammer_db=0.0), sent)
    assert np.allclose(np.abs(jammed - plain), DEFAULT.tx_rms, atol=1e-5)  # the tone of the jammer and nothing else


@settings(max_examples=25, deadline=None)
@given(
    fading=st.sampled_from(list(CHANNELS)),
    snr_db=st.floats(-10, 40),
    cfo_hz=st.floats(-1e5, 1e5),
    sfo_ppm=st.floats(-100, 100),
    faults=st.booleans(),
    size=st.integers(2, 3000),
    seed=st.integers(0, 1000),
)
def test_any_conditions_give_finite_samples_around_the_transmission(
    fading: str, snr_db: float, cfo_hz: float, sfo_ppm: float, faults: bool, size: int, seed: int
) -> None:
    channel = Channel(fading, snr_db, cfo_hz, sfo_ppm)
    if faults:
        channel = replace(
            channel, phase_noise_hz=50.0, iq_gain_db=1.0, dc_dbfs=-30.0, pa_backoff_db=6.0, adc_bits=8, jammer_db=3.0,
            jammer_bandwidth_hz=1e5, burst_db=0.0, loss=0.5,
        )  # fmt: skip
    rng = np.random.default_rng(seed)
    samples = (0.2 * (rng.standard_normal(size) + 1j * rng.standard_normal(size))).astype(np.complex64)
    packets = [PacketSpan(0, size // 2), PacketSpan(size // 2, size - size // 2)]
    drawn = draw_channel(channel, DEFAULT, 2, rng)
    first, second = (apply_channel(samples, packets, drawn) for _ in range(2))
    assert np.array_equal(first, second) and first.dtype == np.complex64 and np.all(np.isfinite(first))
    assert first.size >= size + drawn.delay_samples + 1999 - 1e-4 * size
