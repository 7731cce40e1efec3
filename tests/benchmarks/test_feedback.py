"""The sums of the feedback benchmark."""

import numpy as np
import pytest

from benchmarks.feedback import equal_rate, follow, nearest, saving, wander
from flowgraphs.adaptation import Setting
from models.weights import Quality


def constant(cbr: float, value: float) -> dict[str, list[float]]:
    return {"cbr": [cbr] * 16, "lpips": [value] * 16}


FIXED = {"a": constant(1 / 24, 0.4), "b": constant(1 / 6, 0.2)}


def test_the_fixed_rate_of_equal_quality_lies_between_in_log_cbr() -> None:
    rows = np.arange(16)
    assert equal_rate(FIXED, 0.3, np.mean, rows) == pytest.approx(1 / 12)
    assert equal_rate(FIXED, 0.1, np.mean, rows) == pytest.approx(1 / 6)


def test_the_plot_shows_the_fixed_rate_that_was_asked_for() -> None:
    assert nearest(FIXED, 1 / 20) == "a" and nearest(FIXED, 1 / 8) == "b"


def test_half_the_symbols_at_equal_quality_are_half_saved() -> None:
    found = saving(constant(1 / 24, 0.3), FIXED, np.mean)
    assert found == {key: pytest.approx(0.5) for key in ("saved", "low", "high")}


def test_the_link_wanders_within_its_bounds_and_slowly() -> None:
    snrs_db = wander(4000, np.random.default_rng(0))
    assert snrs_db.min() >= 0 and snrs_db.max() <= 20 and snrs_db.mean() == pytest.approx(10, abs=1)
    assert np.corrcoef(snrs_db[1:], snrs_db[:-1])[0, 1] == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("late", [1, 4])
def test_a_report_is_known_only_as_late_as_said(late: int) -> None:
    table = tuple(Quality(s, c, 0.1 / c / (1 + s)) for s in (0.0, 20.0) for c in (1 / 48, 1 / 6))

    def one(index: int, use: Setting) -> dict[str, float]:
        return {"cbr": use.cbr, "lpips": 0.0, "estimate_db": 20.0}

    rates = follow(one, Setting(5.0, 1 / 8), table, late, np.zeros(12), [1.0])["cbr"]
    assert rates[:late] == [1 / 8] * late and rates[late] < 1 / 8
