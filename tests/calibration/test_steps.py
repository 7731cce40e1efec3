"""On virtual radios, whose truth is known, every step of a calibration finds it, within the error that it states.

The stated errors are those of docs/calibration.md.
"""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Complex64

from calibration.bench import Bench, level_burst
from calibration.steps.iq import receiver_error, sender_error, sender_parts
from calibration.steps.step import receive_ladder, transmit_ladder
from sdr.calibrated import IqError, balance
from sdr.devices.tuning import GainRange
from sdr.errors import SdrError
from sdr.station import Calibration
from sdr.transmit import transmit
from sdr.waveform import DEFAULT
from tests.calibration import simulated
from tests.calibration.simulated import run, true_noise_dbfs, true_signal_dbfs, truth

FREQUENCY_PPM = 0.005
NOISE_DB = 0.4
DC, GAIN_DB, PHASE_DEG = 5e-4, 0.04, 0.25


# ---------------------------------------------------------------- what is found is true


def test_noise_floor(bench: Bench) -> None:
    floor = run(bench, "noise-floor").noise_floor
    assert floor is not None
    low_db, high_db = floor.usable_db
    inside = [index for index, gain_db in enumerate(floor.gain_db) if low_db <= gain_db <= high_db]
    assert len(inside) >= 4
    for index in inside:
        assert floor.power_dbfs[index] == pytest.approx(
            true_noise_dbfs(bench.receiver, floor.gain_db[index]), abs=NOISE_DB
        )
        assert sum(floor.gains[index].values()) == floor.gain_db[index]
    # The range ends where the converter's steps hide the noise, and where noise is so strong that it clips.
    assert true_noise_dbfs(bench.receiver, low_db, bits=99) > 10 * np.log10(2**-14 / 6) - 3
    assert true_noise_dbfs(bench.receiver, high_db + 8) > -10


def test_frequency(bench: Bench) -> None:
    found = run(bench, "frequency").frequency
    assert found is not None
    assert found.ppm == pytest.approx(truth(bench.sender, "ppm") - truth(bench.receiver, "ppm"), abs=FREQUENCY_PPM)
    assert found.sd_ppm < FREQUENCY_PPM


def test_clip(bench: Bench) -> None:
    clip = run(bench, "clip").clip
    assert clip is not None
    assert clip.full_scale == pytest.approx(1, abs=0.01)
    sent_gain_db = sum(simulated.TRANSMIT.values())
    level_dbfs = true_signal_dbfs(bench, sent_gain_db, clip.safe_gain_db)
    assert clip.safe_level_dbfs == pytest.approx(level_dbfs, abs=0.5)
    # Each of I and Q of OFDM is nearly Gaussian: beyond 1 lie erfc(1/σ√2) of them, σ² half the power.
    clips = [level_db for level_db in (level_dbfs, level_dbfs + 2) if _tail(level_db) > 1e-4]
    assert clips == [level_dbfs + 2]


def _tail(level_dbfs: float) -> float:
    from scipy.special import erfc

    return float(erfc(1 / np.sqrt(10 ** (level_dbfs / 10))))


def test_dc_and_imbalance_of_both(bench: Bench) -> None:
    made = run(bench, "iq")
    for found, device, side in ((made.receive_iq, bench.receiver, "rx"), (made.transmit_iq, bench.sender, "tx")):
        assert found is not None
        assert found.dc_i == pytest.approx(truth(device, f"{side}_dc_i"), abs=DC)
        assert found.dc_q == pytest.approx(truth(device, f"{side}_dc_q"), abs=DC)
        assert found.gain_db == pytest.approx(truth(device, f"{side}_iq_gain_db"), abs=GAIN_DB)
        assert found.phase_deg == pytest.approx(truth(device, f"{side}_iq_phase_deg"), abs=PHASE_DEG)
        assert 0 < found.gain_sd_db < GAIN_DB and 0 < found.phase_sd_deg < PHASE_DEG and 0 < found.dc_sd < DC


# ---------------------------------------------------------------- arithmetic


def unbalanced(samples: Complex64[np.ndarray, "n"], gain_db: float, phase_deg: float) -> Complex64[np.ndarray, "n"]:
    """As docs/virtual-radio.md has it."""
    phase = np.deg2rad(phase_deg)
    imag = 10 ** (gain_db / 20) * (samples.imag * np.cos(phase) + samples.real * np.sin(phase))
    return np.asarray(samples.real + 1j * imag, np.complex64)


def errors(gain_db: float, phase_deg: float) -> IqError:
    return IqError(0.0, 0.0, 0.0, gain_db, 0.0, phase_deg, 0.0)


@given(st.floats(-1, 1), st.floats(-10, 10), st.integers(0, 1000))
def test_imbalance_is_undone(gain_db: float, phase_deg: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = (rng.standard_normal(64) + 1j * rng.standard_normal(64)).astype(np.complex64)
    back = balance(unbalanced(samples, gain_db, phase_deg), errors(gain_db, phase_deg))
    assert np.allclose(back, samples, atol=1e-5)


@pytest.mark.parametrize(("gain_db", "phase_deg", "dc"), [(0.3, -1.5, 0.01j), (-0.8, 4.0, 0j), (0.0, 0.0, 0.02 + 0j)])
def test_a_senders_error_is_found_through_a_channel_and_not_the_channels(
    gain_db: float, phase_deg: float, dc: complex
) -> None:
    rng = np.random.default_rng(1)
    points = rng.choice(np.array([1, 1j, -1, -1j], np.complex64), 4000)
    sent = transmit(points, b"", DEFAULT, session=1, image_id=0, repetition=1).samples
    faulty = unbalanced(sent, gain_db, phase_deg) + np.complex64(dc)
    padded = np.concatenate([np.full(8, dc), faulty, np.full(8, dc)])
    air = np.convolve(padded, np.array([0.1, 0.5j, 0.05]), mode="same")
    air = air * np.exp(2j * np.pi * 0.004 * np.arange(air.size))
    noise = rng.standard_normal(air.size) + 1j * rng.standard_normal(air.size)
    found = sender_error(np.array(sender_parts((air + 1e-3 * noise).astype(np.complex64), sent, 0.004)))
    assert found.gain_db == pytest.approx(gain_db, abs=0.03)
    assert found.phase_deg == pytest.approx(phase_deg, abs=0.2)
    assert complex(found.dc_i, found.dc_q) == pytest.approx(dc, abs=1e-3)


def test_a_receivers_error_is_found_in_noise() -> None:
    rng = np.random.default_rng(2)
    noise = (0.05 * (rng.standard_normal(400_000) + 1j * rng.standard_normal(400_000))).astype(np.complex64)
    found = receiver_error((unbalanced(noise, 0.4, -2.0) + np.complex64(0.01 - 0.02j)).astype(np.complex64))
    assert abs(found.gain_db - 0.4) < 4 * found.gain_sd_db < 0.2
    assert abs(found.phase_deg + 2) < 4 * found.phase_sd_deg < 1
    assert abs(complex(found.dc_i, found.dc_q) - (0.01 - 0.02j)) < 6 * found.dc_sd < 1e-2


# ---------------------------------------------------------------- gains


HACKRF = {
    "LNA": GainRange(0.0, 40.0, 8.0),
    "VGA": GainRange(0.0, 62.0, 2.0),
    "AMP": GainRange(0.0, 14.0, 14.0),
}


def test_receiving_gains_rise_and_amplifiers_stay_as_they_are() -> None:
    for amplifier in (0.0, 14.0):
        ladder = receive_ladder(HACKRF, {"LNA": 0.0, "VGA": 0.0, "AMP": amplifier})
        totals = [sum(gains.values()) for gains in ladder]
        assert totals == sorted(set(totals)) and (totals[0], totals[-1]) == (amplifier, 102 + amplifier)
        assert 8 <= len(ladder) <= 16
        for gains in ladder:
            assert gains["AMP"] == amplifier and gains["LNA"] % 8 == 0 and gains["VGA"] % 2 == 0


def test_no_gain_is_tried_that_the_station_does_not_allow(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    name, settings = transmit_ladder(bench)
    assert name == "VGA" and settings[-1] == 47
    band = dataclasses.replace(simulated.BANDS[0], max_gain_db=25.0)
    monkeypatch.setattr(bench, "_peer", dataclasses.replace(bench.peer, bands=(band,)))
    name, settings = transmit_ladder(bench)
    assert settings[-1] == 25
    assert bench.allowed({"VGA": 25.0}) and not bench.allowed({"VGA": 26.0})


def test_power_rises_with_gain_and_amplitude_and_is_not_exceeded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full scale is −10 dBm at the station's 20 dB, so packets have −22, and −16 dBm are allowed."""
    band = dataclasses.replace(simulated.BANDS[0], max_power_dbm=-16.0)
    limited = dataclasses.replace(bench.peer, bands=(band,), calibration=Calibration(tx_full_scale_dbm=-10.0))
    monkeypatch.setattr(bench, "_peer", limited)
    assert transmit_ladder(bench)[1][-1] == 26
    assert bench.allowed({"VGA": 20.0}, 6.0) and not bench.allowed({"VGA": 21.0}, 6.0)
    burst = level_burst(DEFAULT, [0.0], 1, bench.rng)
    with pytest.raises(SdrError, match="dBm, and -16 dBm are allowed"):
        bench.exchange(burst, receive_gains=bench.receive_gains, transmit_gains={"VGA": 27.0})
