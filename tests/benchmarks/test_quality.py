"""The quality benchmark: its arithmetic, its rows on results made up to pass and to fail, and a real run resumed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks import quality
from benchmarks.quality_rows import render
from benchmarks.quality_rows.row import CLASSIC, DIRECT, LRISC, ROLES, Finding, Grid, columns, sent
from benchmarks.quality_rows.statistics import difference, paired_interval, reduction
from benchmarks.quality_rows.steps import COUNTS, knee
from benchmarks.quality_rows.store import Store
from benchmarks.quality_rows.trial import SMALLEST_CROP, Sources, Trial, crop_box, measure, seam, symbol_channel
from models.codec import Encoded, parse_cbr
from models.errors import ModelError
from models.image import default_photo
from models.weights import Choice
from tests.models.small import picture

GRID = Grid((0.0, 10.0, 20.0), ("1/24", "1/12"), ("a.png", "b.png", "c.png"), ("m.png", "n.png"))


# ---------------------------------------------------------------- statistics


def test_reduction_is_of_the_means_and_difference_is_paired() -> None:
    ours, theirs = np.array([[0.1, 0.3], [1.0, 1.0]]), np.array([[0.2, 0.6], [1.0, 3.0]])
    assert reduction(ours, theirs).tolist() == pytest.approx([0.5, 0.5])
    assert difference(ours, theirs).tolist() == pytest.approx([-0.2, -1.0])


def test_interval_is_a_point_without_chance_and_covers_the_truth_with_it() -> None:
    rng = np.random.default_rng(1)
    theirs = rng.uniform(1, 2, (3, 24))
    assert paired_interval(reduction, 0.7 * theirs, theirs) == pytest.approx((0.3, 0.3))
    covered = 0
    for _ in range(40):
        theirs = rng.normal(20, 5, (2, 24))  # what pictures differ by is far more than what is looked for
        low, high = paired_interval(difference, theirs + 1 + rng.normal(0, 0.5, theirs.shape), theirs)
        assert high - low < 0.6
        covered += low <= 1 <= high
    assert covered >= 33  # 95 % of 40, with room for chance and for the bootstrap's narrowness


# ---------------------------------------------------------------- measures


def test_seam_is_one_for_errors_that_know_no_positions_and_large_for_blocks() -> None:
    rng = np.random.default_rng(0)
    flat = np.full((96, 128, 3), 128, np.uint8)
    noise = (flat + rng.integers(-9, 10, flat.shape)).astype(np.uint8)
    assert seam(flat, noise) == pytest.approx(1, abs=0.1)
    blocks = (flat + rng.integers(-9, 10, (6, 8, 1)).repeat(16, 0).repeat(16, 1)).astype(np.uint8)
    assert seam(flat, blocks) > 100


@settings(max_examples=60, deadline=None)
@given(sides=st.tuples(st.integers(70, 200), st.integers(70, 200)), places=st.tuples(*[st.floats(0, 0.99)] * 4))
def test_crop_of_a_region_holds_it_and_is_large_enough(
    sides: tuple[int, int], places: tuple[float, float, float, float]
) -> None:
    rows, cols = (sorted(int(p * side) for p in places[i::2]) for i, side in enumerate(sides))
    inside = np.zeros(sides, dtype=bool)
    inside[rows[0] : rows[1] + 1, cols[0] : cols[1] + 1] = True
    box = crop_box(inside)
    assert inside[box].sum() == inside.sum()
    for part, (first, last), side in zip(box, (rows, cols), sides, strict=True):
        assert 0 <= part.start < part.stop <= side
        assert part.stop - part.start == max(last + 1 - first, SMALLEST_CROP)


def test_symbol_channel_adds_what_it_says_and_states_what_the_receiver_believes() -> None:
    symbols = np.exp(2j * np.pi * np.random.default_rng(0).random(50_000)).astype(np.complex64)
    trial = Trial(LRISC, "a.png", 10.0, "1/12", loss=0.2, told_db=7.0)
    received, noise_var = symbol_channel(Encoded(symbols, b""), trial, np.random.default_rng(1))
    lost = np.isinf(noise_var)
    assert lost.mean() == pytest.approx(0.2, abs=0.01)
    assert np.mean(np.abs(received - symbols)[~lost] ** 2) == pytest.approx(0.1, rel=0.02)
    assert np.unique(noise_var[~lost]).tolist() == pytest.approx([10**-0.7])
    again, _ = symbol_channel(Encoded(symbols, b""), replace(trial, loss=0.0), np.random.default_rng(1))
    assert np.array_equal(again[~lost], received[~lost])  # the same noise in every trial of a picture


@pytest.mark.usefixtures("alexnet")
def test_measures_inside_a_mask_do_not_see_outside() -> None:
    image = picture(96, 128)
    mask = np.zeros((96, 128), np.float32)
    mask[20:60, 30:80] = 1
    spoilt = image.copy()
    spoilt[80:] = 0
    inside, whole = measure(image, spoilt, mask), measure(image, spoilt, None)
    assert inside["psnr_inside_db"] > 100 and inside["lpips_inside"] < 0.01
    assert "psnr_inside_db" not in whole and whole["psnr_db"] < 30
    assert whole["lpips"] > 0.05 and whole["texture"] > 0.1


# ---------------------------------------------------------------- rows


class MadeUp:
    """A store of made-up results."""

    def __init__(self, better: bool) -> None:
        self.better = better
        self.sources = Sources(dict.fromkeys(ROLES, "x"), Path())

    def get(self, trial: Trial) -> dict[str, Any]:
        ours = trial.model == LRISC
        told = 0 if trial.told_db is None else 3.0
        hinted = 0 if trial.hint_db is None else abs(trial.hint_db - trial.snr_db)
        psnr = 20 + trial.snr_db / 2 + 20 * parse_cbr(trial.cbr) + ord(trial.picture[0]) / 50
        lpips = 0.2 * (1 + ord(trial.picture[0]) / 500)
        values = {"ms_ssim": 0.9, "texture": 9.0, "seam": 1.0, "cbr": parse_cbr(trial.cbr), "decode_core_ms": 100.0}
        if self.better:
            psnr += -0.02 * (told + hinted) - 10 * trial.loss - 0.1 * (trial.channel == "radio") - 0.2 * bool(trial.roi)
            lpips *= 0.5 if ours or trial.model.startswith("lrisc-") else 1.0
            lpips *= 1.1 if trial.steps == 0 else 1.0
            values["texture"] *= 1.1 if trial.steps == 0 else 1.0
        else:
            psnr += (
                -0.2 * told - 1e-3 * hinted**3 - 20 * trial.loss - 2 * (trial.channel == "radio") - 2 * bool(trial.roi)
            )
            psnr += -2 * (trial.steps is None) - (trial.snr_db / 2) + 2 * trial.model.startswith("lrisc-")
            psnr -= 5 * (trial.steps == 0)
            lpips *= 1.5 if ours else 1.0
            lpips *= 0.5 if trial.steps == 0 else 1.0
        values |= {"psnr_inside_db": psnr + 2.5 * bool(trial.roi), "lpips_inside": lpips * (0.8 if trial.roi else 1)}
        return {"psnr_db": psnr, "lpips": lpips, **values}

    def error(self, trial: Trial) -> str | None:
        return None


@pytest.mark.parametrize("name", list(quality.ROWS))
def test_every_row_passes_what_is_good_and_fails_what_is_not(name: str) -> None:
    good, bad = (quality.judge(name, GRID, MadeUp(better)) for better in (True, False))  # type: ignore[arg-type]
    assert good.passed is True, good.measured
    assert bad.passed is False or name in {"diffused-psnr"}, bad.measured
    assert good.points and all(isinstance(point, dict) for point in good.points)
    json.dumps([good.points, bad.points])


def test_a_diffused_picture_far_below_the_direct_one_fails() -> None:
    class Worse(MadeUp):
        def get(self, trial: Trial) -> dict[str, Any]:
            found = super().get(trial)
            return {**found, "psnr_db": found["psnr_db"] - (2 if trial.steps is None else 0)}

    assert quality.judge("diffused-psnr", GRID, Worse(True)).passed is False  # type: ignore[arg-type]


def test_edges_that_show_where_symbols_were_lost_fail() -> None:
    class Blocky(MadeUp):
        def get(self, trial: Trial) -> dict[str, Any]:
            return {**super().get(trial), "seam": 1.2 if trial.loss == 0.3 else 1.0}

    finding = quality.judge("loss", GRID, Blocky(True))  # type: ignore[arg-type]
    assert finding.passed is False and "1.20 times" in finding.measured


def test_rows_without_weights_or_results_are_not_measured(tmp_path: Path) -> None:
    Image.fromarray(picture(32, 32)).save(tmp_path / "a.png")
    grid = replace(GRID, pictures=("a.png",), masked=())
    store = Store(tmp_path / "trials.jsonl", Sources({}, tmp_path))
    for name in quality.ROWS:
        finding = quality.judge(name, grid, store)
        assert finding.passed is None and "no weights of lrisc" in finding.measured
    store = Store(tmp_path / "trials.jsonl", Sources({"lrisc": "lrisc", "deepjscc": "deepjscc"}, tmp_path))
    assert "trials are missing" in quality.judge("deepjscc", grid, store).measured
    assert quality.judge("roi", grid, store).passed is None
    assert "–" in render.properties(quality.ROWS, {"roi": Finding("not measured", None)})


def test_the_table_holds_every_method_at_every_cell_it_can_do() -> None:
    grid = replace(GRID, snrs=quality.SNRS, cbrs=quality.CBRS)
    trials = quality.everything(grid)
    assert len(set(trials)) == len(trials) == 3 * (20 * 5 + 6 + 20 * 4 + 6)
    assert {trial.model for trial in trials if trial.model.startswith(CLASSIC)} <= set(ROLES)
    assert sent(DIRECT, "a.png", (0.0, "1/6")) == Trial(LRISC, "a.png", 0.0, "1/6", steps=0)
    assert set(quality.RUNS) == set(ROLES)


def test_knee_is_the_fewest_steps_that_are_nearly_the_best() -> None:
    assert COUNTS[knee([0.30, 0.25, 0.2005, 0.2, 0.21])] == 2
    assert COUNTS[knee([0.2, 0.25, 0.3, 0.3, 0.3])] == 0


# ---------------------------------------------------------------- results on the disk


def test_results_are_kept_and_belong_to_their_weights_and_pictures(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(picture(32, 32, ord(name[0]))).save(tmp_path / name)
    path, trials = tmp_path / "trials.jsonl", columns(LRISC, [(0.0, "1/12")], ("a.png", "b.png"))[0]
    store = Store(path, Sources({"lrisc": "lrisc"}, tmp_path))
    assert store.missing([*trials, *trials]) == trials
    store.add(trials[0], {"psnr_db": 30.0}, "abc")
    store.add(trials[1], {"error": "lost"}, "abc")
    path.write_text(path.read_text() + '{"key": "ha')  # killed while it wrote
    again = Store(path, Sources({"lrisc": "lrisc"}, tmp_path))
    assert again.get(trials[0]) == {"psnr_db": 30.0} and again.missing(trials) == []
    assert again.get(trials[1]) is None and again.error(trials[1]) == "lost"
    again.cards["lrisc"] = replace(again.cards["lrisc"], choices=(Choice(0.0, 1 / 12, 0, 1.0),))
    assert again.missing(trials) == trials  # other defaults
    other = Store(path, Sources({"lrisc": "deepjscc"}, tmp_path))
    assert other.missing(trials) == trials
    Image.fromarray(picture(32, 32, 5)).save(tmp_path / "c.png")
    assert again.missing([replace(trials[0], picture="c.png")])


def test_weights_come_from_where_they_are_named(tmp_path: Path) -> None:
    assert quality.models(None, ["lrisc-0db=deepjscc"]) | {"lrisc": "lrisc", "lrisc-0db": "deepjscc"} == quality.models(
        tmp_path, ["lrisc-0db=deepjscc"]
    )
    for text, message in (("nobody=lrisc", "ROLE=MODEL"), ("lrisc", "ROLE=MODEL"), ("lrisc=nowhere", "no model")):
        with pytest.raises(ModelError, match=message):
            quality.models(None, [text])


@pytest.mark.usefixtures("alexnet")
def test_a_run_writes_everything_and_goes_on_where_it_was(tmp_path: Path) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    Image.fromarray(default_photo()[0][50:242, 150:342]).save(folder / "good.png")
    asked: dict[str, Any] = {
        "only": [quality.Only("deepjscc")],
        "snr_db": [10.0],
        "cbr": ["1/12"],
        "workers": 1,
        "out": out,
    }
    quality.main(folder, **asked)
    report = json.loads((out / "quality.json").read_text())
    assert report["rows"]["deepjscc"]["passed"] in (True, False)
    assert "no weights" in report["rows"]["single-snr"]["measured"]
    assert {entry["method"] for entry in report["means"]} == {"lrisc", "deepjscc"}
    assert all(entry["cbr_measured"] <= 1 / 12 for entry in report["means"])
    assert (out / "rate_lpips.png").is_file() and "DeepJSCC, ours (MSE)" in (out / "quality.md").read_text()
    before = (out / "trials.jsonl").read_text()
    quality.main(folder, **asked)
    assert (out / "trials.jsonl").read_text() == before


def test_an_empty_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        quality.main(tmp_path, out=tmp_path)
    assert "no pictures" in capsys.readouterr().err
