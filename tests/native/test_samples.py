"""What becomes of samples between two radios, against theory."""

import numpy as np
import pytest

from tests.native.radio import FREQUENCY_HZ, RATE_HZ, RX, TX, Radio, Radios, exchange, mean_power_db, noise, tone

QUIET = {  # nothing but what a test turns on
    "ppm": 0, "noise_figure_db": "-inf", "tx_gain_error_db": 0, "rx_gain_error_db": 0,
    "tx_iq_gain_db": 0, "tx_iq_phase_deg": 0, "rx_iq_gain_db": 0, "rx_iq_phase_deg": 0,
    "tx_dc_i": 0, "tx_dc_q": 0, "rx_dc_i": 0, "rx_dc_q": 0,
}  # fmt: skip


def pair(radios: Radios, profile: str = "ideal", **arguments: object) -> tuple[Radio, Radio]:
    """Sender and receiver, whose clocks start together."""
    return radios("bob", profile, peers=1, **arguments), radios("alice", profile, peers=1, **arguments)


def test_what_is_sent_arrives_bit_for_bit(radios: Radios) -> None:
    sent = noise(200_000)
    assert np.array_equal(exchange(*pair(radios), sent, len(sent)), sent)


@pytest.mark.parametrize(("kind", "bits"), [(np.int8, 8), (np.int16, 16)])
def test_whole_numbers_arrive_bit_for_bit(kind: type, bits: int, radios: Radios) -> None:
    sent: np.ndarray = np.random.default_rng(2).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (50_000, 2)).astype(kind)
    received = exchange(*pair(radios, bits=bits), sent, len(sent)) * 2 ** (bits - 1)
    assert np.array_equal(received, sent[:, 0] + 1j * sent[:, 1])


def test_whole_transfers_of_a_hackrf_arrive_and_the_tail_is_lost(radios: Radios) -> None:
    sender, receiver = pair(radios, "hackrf", **QUIET)
    sent = noise(131_072 + 1000)
    sender.device.setGain(TX, 0, "VGA", 20.0)
    received = exchange(sender, receiver, sent, 131_072)
    level = sender.sensor("tx_full_scale_dbm") - receiver.sensor("rx_full_scale_dbm")
    assert level == pytest.approx(14 - 61 + 20 - (6 - 32))
    sender.deactivate(TX)
    assert mean_power_db(receiver.read(131_072) + 1e-12) < -200  # not even the 1000 that were written
    assert np.corrcoef(received, sent[:131_072])[0, 1].real > 0.999


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_quantisation_noise(bits: int, radios: Radios) -> None:
    """Δ²/12 on each rail, once in the DAC and once in the ADC, whose grids do not coincide at 0.4321 of the scale."""
    sender, receiver = pair(radios, bits=bits)
    sent = noise(100_000, rms=0.2)
    gain = 0.4321
    sender.device.writeSetting("path_loss_db", "0")
    receiver.device.writeSetting("path_loss_db", str(-20 * np.log10(gain)))
    error = exchange(sender, receiver, sent, len(sent)) - gain * sent
    step_db = 10 * np.log10((2.0 ** (1 - bits)) ** 2 / 6 * (1 + gain**2))
    assert mean_power_db(error) == pytest.approx(step_db, abs=0.1)


def test_converters_clip(radios: Radios) -> None:
    sender, receiver = pair(radios, bits=8)
    received = exchange(sender, receiver, tone(100e3, 50_000, amplitude=2.0), 50_000)
    assert received.real.max() == 127 / 128 and received.real.min() == -1
    assert sender.sensor("tx_clipped") > 10_000


def test_noise_is_thermal(radios: Radios) -> None:
    """−174 dBm/Hz + noise figure + bandwidth, below what fills the ADC; alone on the air, nothing else is there."""
    receiver = radios("alice", "ideal", noise_figure_db=7)
    receiver.device.setGain(RX, 0, "PGA", 90.0)
    receiver.activate(RX)
    expected_dbm = -174 + 7 + 10 * np.log10(RATE_HZ)
    assert receiver.sensor("rx_noise_dbm") == pytest.approx(expected_dbm)
    samples = receiver.read(400_000)
    # 4.34 dB / sqrt(n) is the standard deviation of a measured mean power
    assert mean_power_db(samples) == pytest.approx(expected_dbm + 90, abs=5 * 4.34 / np.sqrt(400_000))
    assert abs(np.mean(samples**2)) < 5 * np.mean(np.abs(samples) ** 2) / np.sqrt(400_000)  # circular
    lag = np.mean(samples[1:] * samples[:-1].conj())
    assert abs(lag) < 5 * np.mean(np.abs(samples) ** 2) / np.sqrt(400_000)  # white
    kurtosis = np.mean(np.abs(samples) ** 4) / np.mean(np.abs(samples) ** 2) ** 2
    assert kurtosis == pytest.approx(2, abs=0.03)  # Gaussian


def test_levels_add_up(radios: Radios) -> None:
    """Received power is sent power, gains, their errors and path loss added up in dB."""
    sender = radios("bob", "ideal", peers=1, tx_gain_error_db=1.5)
    receiver = radios("alice", "ideal", peers=1, rx_gain_error_db=-0.7, path_loss_db=83)
    sender.device.setGain(TX, 0, "PGA", 21.0)
    receiver.device.setGain(RX, 0, "PGA", 47.0)
    sent = noise(50_000)
    received = exchange(sender, receiver, sent, len(sent))
    assert mean_power_db(received) - mean_power_db(sent) == pytest.approx(21 + 1.5 - 83 + 47 - 0.7, abs=0.001)


@pytest.mark.parametrize(("sender_ppm", "receiver_ppm"), [(20, -20), (-7.5, 3), (0, 12)])
def test_one_oscillator_moves_carrier_and_clock(sender_ppm: float, receiver_ppm: float, radios: Radios) -> None:
    sender, receiver = radios("bob", peers=1, ppm=sender_ppm), radios("alice", peers=1, ppm=receiver_ppm)
    frequency_hz, count = 300e3, 400_000
    received = exchange(sender, receiver, tone(frequency_hz, count), count - 100)[2000:]
    there, here = 1 + sender_ppm * 1e-6, 1 + receiver_ppm * 1e-6
    expected_hz = ((FREQUENCY_HZ + frequency_hz) * there - FREQUENCY_HZ * here) / here
    product = received[1000:] * received[:-1000].conj()
    coarse = np.angle(np.sum(received[1:] * received[:-1].conj())) / 2 / np.pi * RATE_HZ
    assert coarse == pytest.approx(expected_hz, abs=1)
    turns = (np.angle(np.sum(product)) / 2 / np.pi - expected_hz * 1000 / RATE_HZ + 0.5) % 1 - 0.5
    assert abs(turns) < 1e-4  # 0.4 Hz; the clock alone moves the tone by 12 Hz
    assert mean_power_db(received) == pytest.approx(mean_power_db(np.array([0.5])), abs=0.01)
    # A pure tone stays one: what the interpolation adds is below -70 dB.
    rest = received * np.exp(-2j * np.pi * expected_hz * np.arange(len(received)) / RATE_HZ)
    slope, start = np.polyfit(np.arange(len(rest)), np.unwrap(np.angle(rest)), 1)
    rest = rest * np.exp(-1j * (start + slope * np.arange(len(rest))))
    assert mean_power_db(rest - rest.mean()) - mean_power_db(rest) < -70


def test_timing_drifts_with_the_clock(radios: Radios) -> None:
    """Two clicks that the sender's clock puts n samples apart are n (1 + receiver) / (1 + sender) apart."""
    sender, receiver = radios("bob", peers=1, ppm=-20), radios("alice", peers=1, ppm=20)
    for radio in (sender, receiver):
        radio.device.setFrequency(TX, 0, 0.0)
        radio.device.setFrequency(RX, 0, 0.0)
    apart = 500_000
    sent = np.zeros(apart + 2000, np.complex64)
    sent[1000] = sent[1000 + apart] = 1
    received = exchange(sender, receiver, sent, len(sent) - 100)

    def place(around: int) -> float:  # of a pulse: from the slope of its spectrum's phase
        spectrum = np.fft.fft(received[around - 128 : around + 128])[1:60]
        slope = np.polyfit(2 * np.pi * np.arange(1, 60) / 256, np.unwrap(np.angle(spectrum)), 1)[0]
        return float(around - 128 - slope)

    expected = apart * (1 + 20e-6) / (1 - 20e-6)
    assert place(1000 + apart + 20) - place(1000) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("sent_hz", "received_hz"), [(4e6, 2e6), (2e6, 5e6), (3e6, 8e6), (20e6, 2.5e6)])
def test_rates_may_differ(sent_hz: float, received_hz: float, radios: Radios) -> None:
    sender, receiver = pair(radios)
    sender.device.setSampleRate(TX, 0, sent_hz)
    receiver.device.setSampleRate(RX, 0, received_hz)
    inside, outside = 0.35 * min(sent_hz, received_hz), 0.45 * sent_hz
    count = int(0.02 * sent_hz)
    sent = tone(inside, count, amplitude=0.25, rate_hz=sent_hz)
    if received_hz < sent_hz:
        sent = sent + tone(outside, count, amplitude=0.25, rate_hz=sent_hz)  # to be filtered, not folded
    received = exchange(sender, receiver, sent, int(0.019 * received_hz))[500:]
    expected = tone(inside, len(received) + 500, amplitude=0.25, rate_hz=received_hz)[500:]
    assert mean_power_db(received - expected) - mean_power_db(expected) < -60


def test_only_what_is_in_band_is_heard(radios: Radios) -> None:
    sender, receiver = pair(radios)
    receiver.device.setFrequency(RX, 0, FREQUENCY_HZ + 4.0e6)  # half of 4 and half of 4 MHz: just beside each other
    received = exchange(sender, receiver, noise(60_000), 50_000)
    assert not received.any()


def test_bands_may_overlap_in_part(radios: Radios) -> None:
    """Of white noise over the whole of a band, a receiver 1 MHz further up gets three quarters."""
    sender, receiver = pair(radios)
    receiver.device.setFrequency(RX, 0, FREQUENCY_HZ + 1e6)
    sent = noise(200_000)
    received = exchange(sender, receiver, sent, 190_000)[1000:]
    assert mean_power_db(received) - mean_power_db(sent) == pytest.approx(10 * np.log10(0.75), abs=0.15)
    spectrum = np.mean(np.abs(np.fft.fft(np.hanning(1024) * received[: 180 * 1024].reshape(180, 1024))) ** 2, axis=0)
    band_hz = np.fft.fftfreq(1024, 1 / RATE_HZ)
    beyond = (band_hz > 1.3e6) & (band_hz < 1.7e6)
    assert 10 * np.log10(np.mean(spectrum[beyond]) / np.mean(spectrum[np.abs(band_hz) < 0.7e6])) < -60


def test_dc_and_imbalance_are_what_the_settings_say(radios: Radios) -> None:
    """y = x_I + j g (x_Q cos φ + x_I sin φ), image rejection as the textbooks have it, DC where it was put."""
    sender, receiver = (
        radios("bob", peers=1),
        radios("alice", peers=1, rx_iq_gain_db=1, rx_iq_phase_deg=3, rx_dc_i=0.1, rx_dc_q=-0.05),
    )
    count = 40_000  # whole turns of 100 kHz
    received = exchange(sender, receiver, tone(100e3, count), count)
    spectrum = np.fft.fft(received) / count
    wanted, image, dc = spectrum[1000], spectrum[-1000], spectrum[0]
    gain, phase = 10 ** (1 / 20), np.deg2rad(3)
    expected_db = 10 * np.log10((1 + gain**2 - 2 * gain * np.cos(phase)) / (1 + gain**2 + 2 * gain * np.cos(phase)))
    assert 20 * np.log10(abs(image) / abs(wanted)) == pytest.approx(expected_db, abs=0.01)
    assert dc == pytest.approx(0.1 - 0.05j, abs=1e-4)
    assert receiver.truth("rx_iq_gain_db") == 1 and receiver.truth("rx_dc_q") == -0.05


def test_a_seed_is_the_same_air_again(radios: Radios) -> None:
    def once(seed: int) -> np.ndarray:
        sender, receiver = pair(radios, "b210", seed=seed, path_loss_db=60)
        sender.device.setGain(TX, 0, "PGA", 70.0)
        receiver.device.setGain(RX, 0, "PGA", 60.0)
        received = exchange(sender, receiver, noise(60_000), 50_000)
        receiver.close()
        sender.close()
        return received

    first = once(3)
    assert first.std() > 0.01
    assert np.array_equal(first, once(3))
    assert not np.array_equal(first, once(4))
