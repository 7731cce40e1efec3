"""Statistics of campaigns against what theory says of them."""

import numpy as np
import pytest

from calibration.statistics import Rows, Series, interval, reduction

ROW = {
    "channel": "awgn",
    "roi": None,
    "cbr_asked": 1 / 12,
    "steps": 0,
    "steps_asked": 0,
    "repeat": 0,
    "status": "ok",
    "reason": None,
    "psnr_db": 30.0,
}


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    trials, pictures = 300, 24
    found = [interval(rng.exponential(1.0, pictures)) for _ in range(trials)]
    covered = sum(one.low <= 1.0 <= one.high for one in found)
    # The percentile bootstrap is short for few and skewed numbers: 95 % becomes about 91 %.
    assert 0.87 * trials < covered < 0.97 * trials
    width = np.mean([one.high - one.low for one in found])
    assert width == pytest.approx(2 * 1.96 / np.sqrt(pictures), rel=0.1)


def test_two_pictures_give_no_interval_and_none_no_mean() -> None:
    assert interval([1.0, 3.0]).mean == 2.0 and np.isnan(interval([1.0, 3.0]).low)
    assert np.isnan(interval([]).mean)


def test_reductions_are_paired_and_averaged_over_cells() -> None:
    rows = []
    for snr_db, cell in ((0.0, 0.8), (10.0, 0.4)):  # what the model leaves of the reference's LPIPS
        for picture, hard in enumerate((0.1, 0.5, 0.9, 1.3)):
            place = {**ROW, "image": str(picture), "snr_db": snr_db}
            rows.append({**place, "model": "deepjscc", "lpips": hard})
            rows.append({**place, "model": "ours", "lpips": hard * cell, "psnr_db": 29.0})
    rows.append({**ROW, "image": "only ours", "model": "ours", "snr_db": 0.0, "lpips": 99.0})
    found = reduction(Rows(rows), Series("ours", 0), Series("deepjscc", 0))
    assert found is not None
    assert found.mean.mean == pytest.approx(100 * (0.2 + 0.6) / 2)
    # Pictures differ thirteenfold, their ratios not at all: paired, nothing is uncertain.
    assert found.mean.high - found.mean.low < 1e-6
    assert [found.worst, found.best, found.psnr_db] == pytest.approx([20, 60, -1])
    assert (found.cells, found.pictures) == (2, 4)


def test_models_without_a_common_cell_are_not_compared() -> None:
    rows = [{**ROW, "image": "a", "model": name, "snr_db": snr, "lpips": 1.0} for name, snr in (("a", 0.0), ("b", 9.0))]
    assert reduction(Rows(rows), Series("a", 0), Series("b", 0)) is None


def test_repeats_are_averaged_before_pictures_and_failures_left_out() -> None:
    base = {**ROW, "model": "m", "snr_db": 0.0}
    rows = Rows(
        [
            {**base, "image": "a", "lpips": 0.2},
            {**base, "image": "a", "lpips": 0.4, "status": "lost"},
            {**base, "image": "b", "lpips": 0.9},
            {**base, "image": "c", "lpips": None, "status": "failed", "reason": "unreadable"},
        ]
    )
    assert rows.values(rows.series[0], rows.cells[0], "lpips") == {"a": pytest.approx(0.3), "b": 0.9}
    assert (rows.total, rows.failed, rows.reasons) == (4, 1, {"unreadable": 1})
    assert list(rows.lost.values()) == [1]


def test_labels_name_steps_only_where_they_tell_series_apart() -> None:
    rows = Rows(
        {**ROW, "image": "a", "snr_db": 0.0, "lpips": 0.1, "model": model, "steps": 1, "steps_asked": steps}
        for model, steps in (("one", None), ("two", 1), ("two", None))
    )
    assert [rows.label(series) for series in rows.series] == ["one", "two, 1 step", "two, its own steps"]
