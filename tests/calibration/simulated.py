"""Pairs of virtual radios whose truth is known, opened for a calibration."""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from matplotlib.figure import Figure

from calibration.bench import Bench, open_bench
from calibration.steps import STEPS
from sdr.calibrated import CalibrationFile
from sdr.station import Band, Side, Station
from sdr.waveform import DEFAULT

FREQUENCY_HZ = 2.45e9
BANDS = (Band(1e6, 6e9, 61.0, 1.0),)
RECEIVE, TRANSMIT = {"AMP": 0.0, "LNA": 32.0, "VGA": 40.0}, {"AMP": 0.0, "VGA": 20.0}


def station(serial: str, **arguments: Any) -> Station:
    """A virtual HackRF at 40 dB of path loss."""
    return Station(
        name=serial,
        driver="lrisc",
        serial=serial,
        frequency_hz=FREQUENCY_HZ,
        arguments={"profile": "hackrf"} | {key: str(value) for key, value in arguments.items()},
        receive=Side(RECEIVE),
        transmit=Side(TRANSMIT),
        bands=BANDS,
    )


@contextmanager
def bench(receiver: Station, sender: Station | None) -> Iterator[Bench]:
    """Both opened."""
    with open_bench(receiver, sender, DEFAULT, 0) as opened:
        yield opened


def truth(device: Any, key: str) -> float:
    """What the simulated device was given."""
    return float(device._driver.readSetting(key))


def run(bench: Bench, name: str) -> CalibrationFile:
    """What a step found, after its plot was drawn."""
    outcome = STEPS[name].run(bench, iter)
    figure = Figure(layout="constrained")
    outcome.draw(figure)
    figure.savefig(io.BytesIO(), format="png")
    assert outcome.summary and "\n" not in outcome.summary
    return CalibrationFile(1, "2026-01-01T00:00:00+00:00", 2.45e9, 4e6, **outcome.fields)


def true_noise_dbfs(receiver: Any, gain_db: float, bits: int = 8) -> float:
    """Thermal noise and that of the converter's steps, 2·(2^(1−bits))²/12 (docs/virtual-radio.md), at a total gain.

    Full scale is −110 dBm at 116 dB of gain, and noise −174 dBm/Hz + noise figure over 4 MHz.
    """
    thermal = -174 + truth(receiver, "noise_figure_db") + 10 * math.log10(4e6)
    full_scale = -110 + (116 - gain_db) - truth(receiver, "rx_gain_error_db")
    steps = (2 ** (1 - bits)) ** 2 / 6
    return 10 * math.log10(10 ** ((thermal - full_scale) / 10) + steps)


def true_signal_dbfs(bench: Bench, transmit_gain_db: float, receive_gain_db: float, path_loss_db: float = 40) -> float:
    """Mean power of packets at the converter: −12 dB of full scale, which is 14 dBm at 61 dB of gain."""
    sent = 14 - (61 - transmit_gain_db) + truth(bench.sender, "tx_gain_error_db") + 20 * math.log10(DEFAULT.tx_rms)
    full_scale = -110 + (116 - receive_gain_db) - truth(bench.receiver, "rx_gain_error_db")
    return sent - path_loss_db - full_scale


def true_snr_db(bench: Bench, transmit_gain_db: float) -> float:
    """Es/N0: the signal's power is on the occupied carriers alone, the noise's on all."""
    gain_db = sum(RECEIVE.values())
    spread = 10 * math.log10(DEFAULT.fft_size / DEFAULT.used_subcarriers)
    return true_signal_dbfs(bench, transmit_gain_db, gain_db) - true_noise_dbfs(bench.receiver, gain_db) + spread
