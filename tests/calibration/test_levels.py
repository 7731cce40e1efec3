"""Received SNR against gain, amplitude and a reference: found on virtual radios within the error that is stated.

The stated errors are those of docs/calibration.md.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.bench import Bench
from calibration.steps.tx_gain import Point, fit
from sdr.errors import SdrError
from sdr.station import Side
from tests.calibration.simulated import run, true_signal_dbfs, true_snr_db

SNR_DB, BIAS_DB = 0.4, 0.3


def test_tx_gain(bench: Bench) -> None:
    made = run(bench, "tx-gain")
    curve, amplitude = made.tx_gain, made.tx_amplitude
    assert curve is not None and amplitude is not None and made.transmit_element == "VGA"
    low_db, high_db = curve.usable_db
    assert low_db == 0 and 21 <= high_db <= 30
    linear = [gain_db for gain_db in curve.gain_db if gain_db <= 18]
    assert len(linear) >= 6
    for gain_db in linear:  # above, the sender's images and the converter's clipping are seen as well
        assert curve.snr_at(gain_db) == pytest.approx(true_snr_db(bench, gain_db), abs=SNR_DB)
        wanted_db = true_snr_db(bench, gain_db)
        if curve.snr_at(0.0) < wanted_db:
            assert curve.gain_for(wanted_db) == pytest.approx(gain_db, abs=SNR_DB)
    for level_db in (-15.0, -9.0, -3.0):
        assert amplitude.snr_at(level_db) == pytest.approx(true_snr_db(bench, 20 + level_db), abs=SNR_DB)
    # Where the packets are at −9 dBFS with these gains, they begin to clip: the curve ends there, and says why.
    assert true_signal_dbfs(bench, high_db, 72) == pytest.approx(-6, abs=4)
    assert "clips" in curve.limit


def test_snr_bias_and_that_a_wrong_estimate_is_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    right = run(bench, "snr-bias").snr_bias
    assert right is not None and abs(right.bias_db) < BIAS_DB
    assert right.snr_db[0] < 4 and right.snr_db[1] > 14
    assert right.snr_db[1] == pytest.approx(true_snr_db(bench, 20.0) - 3, abs=SNR_DB)  # the highest below 20 dB
    true = bench.exchange

    def boastful(*given: object, **named: object) -> object:
        capture = true(*given, **named)  # type: ignore[arg-type]
        loud = [dataclasses.replace(packet, signal=2 * packet.signal) for packet in capture.packets]
        return dataclasses.replace(capture, packets=tuple(loud))

    monkeypatch.setattr(bench, "exchange", boastful)
    wrong = run(bench, "snr-bias").snr_bias
    assert wrong is not None
    assert wrong.bias_db == pytest.approx(10 * np.log10(2), abs=BIAS_DB)


def test_a_reference_without_noise_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    weak = Side({"AMP": 0.0, "LNA": 16.0, "VGA": 20.0})
    monkeypatch.setattr(bench, "station", dataclasses.replace(bench.station, receive=weak))
    with pytest.raises(SdrError, match=r"noise is smaller than its steps.*raise the receiving gain"):
        run(bench, "snr-bias")


# ---------------------------------------------------------------- the monotone fit


def points(snrs: Sequence[float | None], scatter: float = 0.1) -> list[Point]:
    """8 packets at each gain 0, 3, 6, …; None: none of them was received."""
    spread = scatter * np.linspace(-1, 1, 8)
    return [
        Point(3.0 * index, 8, () if snr is None else tuple((snr + spread).tolist())) for index, snr in enumerate(snrs)
    ]


@given(st.lists(st.floats(-5, 40), min_size=3, max_size=15), st.floats(0.01, 2))
def test_the_fit_never_falls_and_stays_within_what_was_measured(snrs: list[float], scatter: float) -> None:
    curve = fit(points(snrs, scatter), "the end")
    assert np.all(np.diff(curve.snr_db) >= 0)
    assert min(snrs) - 1e-6 <= curve.snr_db[0] and curve.snr_db[-1] <= max(snrs) + 1e-6
    assert curve.gain_db[0] <= curve.usable_db[0] < curve.usable_db[1] <= curve.gain_db[-1]


@given(st.lists(st.floats(0.6, 5), min_size=3, max_size=12))
def test_what_rises_is_left_as_it_was_measured(rises: list[float]) -> None:
    snrs = np.cumsum(rises).tolist()
    curve = fit(points(snrs), "the end")
    assert np.allclose(curve.snr_db, snrs)
    assert curve.usable_db == (0.0, curve.gain_db[-1]) and curve.limit == "the end"


@pytest.mark.parametrize(
    ("snrs", "usable_db", "words"),
    [
        ([None, None, 3.0, 6.0, 9.0, 12.0], (6.0, 15.0), "the end"),
        ([0.0, 5.0, 10.0, 14.0, 14.1, 14.2], (0.0, 9.0), "no longer rises"),
        ([0.0, 5.0, 10.0, 14.0, 9.0, 4.0], (0.0, 9.0), "falls, by 10.0 dB"),
        ([0.0, 5.0, 10.0, 14.0, None, None], (0.0, 9.0), "packets are lost"),
    ],
)
def test_the_usable_range_ends_where_snr_stops_to_rise(
    snrs: list[float | None], usable_db: tuple[float, float], words: str
) -> None:
    curve = fit(points(snrs), "the end")
    assert curve.usable_db == usable_db and words in curve.limit


def test_a_fall_in_the_middle_is_evened_out() -> None:
    curve = fit(points([0.0, 5.0, 4.0, 9.0]), "the end")
    assert curve.snr_db == pytest.approx((0.0, 4.5, 4.5, 9.0))


def test_too_few_settings_with_packets_are_no_curve() -> None:
    with pytest.raises(SdrError, match="received at 2 of 4 settings, and a curve needs 3"):
        fit(points([None, None, 3.0, 5.0]), "the end")
