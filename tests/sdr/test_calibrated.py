"""Calibration files: what they say about gains, and which are refused."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdr.calibrated import CalibrationFile, GainCurve, check_calibration, load_calibration
from sdr.errors import SdrError

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
CURVE = GainCurve((0.0, 10.0, 20.0, 30.0, 40.0), (-3.0, 6.0, 16.0, 22.0, 22.0), (0.1,) * 5, (5.0, 30.0))
MADE = CalibrationFile(
    version=1,
    date=NOW.isoformat(),
    frequency_hz=2.45e9,
    rate_hz=4e6,
    sender="alice",
    receiver="bob",
    transmit_gains={"AMP": 14.0, "VGA": 0.0},
    transmit_element="VGA",
    tx_gain=CURVE,
)
WRITTEN = """
version: 1
date: '2026-11-27T12:00:00+00:00'
frequency_hz: 2450000000
rate_hz: 4000000
sender: alice
receiver: bob
transmit_gains: {AMP: 14, VGA: 0}
transmit_element: VGA
tx_gain:
  gain_db: [0, 10, 20, 30, 40]
  snr_db: [-3, 6, 16, 22, 22]
  sd_db: [0.1, 0.1, 0.1, 0.1, 0.1]
  usable_db: [5, 30]
"""


@st.composite
def curves(draw: st.DrawFn) -> GainCurve:
    steps = draw(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0, 10)), min_size=2, max_size=12))
    gains = [sum(step for step, _ in steps[: count + 1]) for count in range(len(steps))]
    snrs = [sum(rise for _, rise in steps[: count + 1]) for count in range(len(steps))]
    return GainCurve(tuple(gains), tuple(snrs), (0.1,) * len(steps), (gains[0], gains[-1]))


@given(curves(), st.floats(0, 1))
def test_the_gain_for_an_snr_gives_that_snr_and_no_lower_gain_does(curve: GainCurve, share: float) -> None:
    snr_db = min(curve.snr_db[0] + share * (curve.snr_db[-1] - curve.snr_db[0]), curve.snr_db[-1])
    gain_db = curve.gain_for(snr_db)
    assert curve.usable_db[0] <= gain_db <= curve.usable_db[1]
    assert curve.snr_at(gain_db) == pytest.approx(snr_db, abs=1e-6)
    lower_db = gain_db - 1e-3
    if lower_db > curve.gain_db[0]:
        assert curve.snr_at(lower_db) <= snr_db


def test_between_measured_gains_and_at_the_ends_of_the_usable_range() -> None:
    assert CURVE.snr_at(15.0) == pytest.approx(11)
    assert CURVE.gain_for(11.0) == pytest.approx(15)
    assert CURVE.gain_for(1.5) == pytest.approx(5)
    assert GainCurve((1.0, 2.0, 3.0), (0.0, 0.0, 5.0), (0.1,) * 3, (1.0, 3.0)).gain_for(0.0) == 1.0
    assert CURVE.gain_for(22.0) == pytest.approx(30)


@pytest.mark.parametrize("snr_db", [1.0, 22.5])
def test_what_is_out_of_reach_names_what_is_within(snr_db: float) -> None:
    with pytest.raises(SdrError, match=r"out of reach: 1\.5…22\.0 dB are received with 5…30 dB"):
        CURVE.gain_for(snr_db)
    with pytest.raises(SdrError, match="only at 0…40 dB"):
        CURVE.snr_at(41.0)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "made.yaml"
    path.write_text(WRITTEN)
    assert load_calibration(path) == MADE


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("sender: alice", "sander: alice", "unknown key sander"),
        ("version: 1", "version: 2", "version 2 is not 1"),
        ("version: 1", "", "lacks version"),
        ("transmit_element: VGA", "", "tx_gain needs transmit_element"),
        ("2026-11-27T12:00:00+00:00", "yesterday", "date must be ISO 8601"),
        ("2026-11-27T12:00:00+00:00", "2026-11-27T12:00:00", "with a time zone"),
        ("[-3, 6, 16, 22, 22]", "[-3, 6, 5, 22, 22]", "snr_db must not fall"),
        ("[0, 10, 20, 30, 40]", "[0, 10, 10, 30, 40]", "gain_db must rise"),
        ("[-3, 6, 16, 22, 22]", "[-3, 6, .nan, 22, 22]", "finite"),
        ("[0, 10, 20, 30, 40]", "[0, 10, 20, 30]", "same length"),
        ("[5, 30]", "[5, 50]", "usable_db must be"),
        ("usable_db: [5, 30]", "", "lacks usable_db"),
        ("rate_hz: 4000000", "rate_hz: [", "not valid YAML"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in WRITTEN
    path = tmp_path / "made.yaml"
    path.write_text(WRITTEN.replace(old, new))
    with pytest.raises(SdrError, match=said) as raised:
        load_calibration(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_another_radio_frequency_or_rate_is_refused_and_an_old_one_warned_about() -> None:
    def check(serial: str | None = "alice", frequency_hz: float = 2.45e9, rate_hz: float = 4e6) -> list[str]:
        return check_calibration(
            MADE,
            frequency_hz=frequency_hz,
            rate_hz=rate_hz,
            serial=serial,
            role="sender",
            now=NOW + timedelta(days=29),
        )

    assert check() == []
    with pytest.raises(SdrError, match="for sender alice, and this is carol"):
        check(serial="carol")
    with pytest.raises(SdrError, match="for frequency_hz 2450000000, and this is 2400000000"):
        check(frequency_hz=2.4e9)
    with pytest.raises(SdrError, match="for rate_hz 4000000, and this is 2000000"):
        check(rate_hz=2e6)
    assert "nobody said" in check(serial=None)[0]
    old = check_calibration(
        MADE, frequency_hz=2.45e9, rate_hz=4e6, serial="bob", role="receiver", now=NOW + timedelta(days=40)
    )
    assert "40 days old" in old[0]
