"""The report of a campaign: what is on the page, and that a real browser shows it, on a desk and on a phone."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lrisc
from calibration.ledger import Ledger, Records
from calibration.measure import to_png
from calibration.page import Report, report
from calibration.provenance import circumstances
from tests.calibration.browser import browser, find
from tests.conftest import missing
from tests.models.small import picture

MODELS = {
    "lrisc": (2, 0.5),
    "deepjscc": (0, 1.0),
    "digital": (0, 0.9),
    "a-<b>long</b>-name-of-a-model-folder": (0, 0.8),
}
IMAGES = ["a.png", "b.png", "c.png", "d.png"]


def fill(folder: Path, ratios: tuple[float, ...] = (1 / 24, 1 / 12)) -> None:
    """A ledger as a campaign of four pictures leaves it, with made-up numbers."""
    plan = {"name": "made up", "images": IMAGES, "roi": [None, "8,8,40,40"], "models": list(MODELS)}
    hashes = {name: {name: {"weights": "0123456789abcdef", "encoder": "e"}} for name in MODELS}
    rng, point = np.random.default_rng(0), 0
    with Ledger(folder) as ledger:
        ledger.require_same({"plan": plan, "models": hashes})
        ledger.begin({**circumstances(), "workers": 2})
        for number, image in enumerate(IMAGES):
            pixels = picture(96, 128, number)
            if number < 3:
                ledger.keep_original(number, to_png(pixels))
            for snr_db in (0.0, 10.0):
                for cbr in ratios:
                    for name, (steps, factor) in MODELS.items():
                        row: dict[str, Any] = {
                            **{"point": point, "image": image, "model": name, "snr_db": snr_db, "cbr_asked": cbr},
                            **{
                                "channel": "awgn",
                                "steps": steps,
                                "steps_asked": None,
                                "roi": "8,8,40,40",
                                "repeat": 0,
                                "seed": 1,
                            },
                            **{"status": "ok", "cbr": cbr, "cbr_total": 1.4 * cbr, "psnr_db": 25 + snr_db / 4},
                            **{"ms_ssim": 0.9, "lpips": factor * (0.5 - snr_db / 50) * rng.uniform(0.9, 1.1)},
                            **{"psnr_roi_db": 30.0, "lpips_roi": 0.1, "seconds": 1.0},
                        }
                        if name != "digital":
                            row |= {"packets_sent": 10, "packets_received": 9, "snr_db_estimated": snr_db + 0.1}
                        if name == "deepjscc" and snr_db == 0 and number == 3:
                            row |= {"status": "lost", "reason": "its side information was lost"}
                        ledger.record([row], {point: to_png(pixels)} if number < 3 else {})
                        point += 1
        ledger.record([{**row, "point": point, "status": "failed", "reason": "<no> picture", "psnr_db": None}], {})


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    fill(folder)
    return folder


@pytest.fixture(scope="module")
def made(run_folder: Path) -> Report:
    with Records(run_folder) as records:
        return report(records)


def test_everything_asked_for_is_on_the_page(made: Report) -> None:
    for words in (
        "Compared with DeepJSCC",
        "Quality against SNR",
        "Quality against channel symbols",
        "Pictures",
        "The radio",
    ):
        assert words in made.html
    for measure in ("psnr_db", "ms_ssim", "lpips"):
        for ratio in ("1-24", "1-12"):
            assert f"{measure}_awgn_roi_8-8-40-40_cbr_{ratio}" in made.charts
        assert f"{measure}_awgn_roi_8-8-40-40_snr_10" in made.charts
    assert {"snr_estimate", "packet_loss"} <= made.charts.keys()
    for words in ("How each number was made", "0123456789abcdef", "numpy", "commit", "1 × &lt;no&gt; picture"):
        assert words in made.html
    ours = next(found for found in made.reductions if found.series.model == "lrisc")
    assert 45 < ours.mean.mean < 55 and ours.cells == 4 and ours.pictures == 4
    assert f"<strong>{ours.mean.mean:.1f} %</strong> lower LPIPS with lrisc than with deepjscc" in made.html
    assert "deepjscc: 1 at 0 dB" in made.html, "the lost picture"


def test_names_cannot_break_the_page(made: Report) -> None:
    assert "<b>long" not in made.html and "&lt;b&gt;long" in made.html


def test_nothing_outside_the_page_is_needed(made: Report) -> None:
    outside = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:)([^"')\s>]+)""", made.html)
    assert outside == [] and "<script" not in made.html


def test_models_are_told_apart_without_colour(made: Report) -> None:
    lines = made.charts["lpips_awgn_roi_8-8-40-40_cbr_1-12"].figure.axes[0].containers
    assert len(lines) == 4
    looks = [(line[0].get_marker(), str(line[0].get_linestyle())) for line in lines]
    assert len({marker for marker, _ in looks}) == 4


def test_a_desk_and_a_phone_show_all_of_it(made: Report, tmp_path: Path) -> None:
    program = find()
    if program is None:
        missing("there is no Chromium to look at the report with: apt-get install chromium")
    page = tmp_path / "report.html"
    page.write_text(made.html, encoding="utf-8")
    with browser(program, tmp_path / "profile") as window:
        for width, phone in ((1280, False), (390, True)):
            window.open(page, width, phone)
            assert window.complaints == []
            assert all(address.startswith(("data:", page.as_uri())) for address in window.requests)
            loaded = window.evaluate("[...document.images].map(i => i.complete && i.naturalWidth > 0)")
            assert len(loaded) == len(made.charts) + 3 * 2 * 5 and all(loaded)
            assert window.evaluate("document.documentElement.scrollWidth") <= width, "nothing to be scrolled sideways"
            texts = "[...document.querySelectorAll('p,td,th,figcaption,li')]"
            assert min(window.evaluate(f"{texts}.map(e => parseFloat(getComputedStyle(e).fontSize))")) >= 12
            widths = window.evaluate("[...document.querySelectorAll('.charts img')].map(i => i.clientWidth)")
            assert min(widths) >= 300, "figures stay legible"
            window.screenshot(tmp_path / f"{width}.png")
            with Image.open(tmp_path / f"{width}.png") as shot:
                assert shot.width >= width - 20 and shot.height > 2000
                assert len(np.unique(np.asarray(shot.convert("L")))) > 100, "not blank"


def test_the_command_writes_page_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, (1 / 12,))
    monkeypatch.setattr(sys, "argv", ["lrisc", "report", str(tmp_path), "--json"])
    with pytest.raises(SystemExit) as ended:
        lrisc.main()
    assert ended.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    figures = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert len(figures) == 2 * printed["figures"] and (tmp_path / "report.html").stat().st_size > 100_000
    assert printed["comparisons"][0]["reference"] == {"model": "deepjscc", "steps": None}


def test_a_folder_without_campaign_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lrisc", "report", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        lrisc.main()
    assert ended.value.code == 2 and "no folder of a campaign" in capsys.readouterr().err


def test_a_campaign_that_has_only_begun_has_a_report(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.require_same({"plan": {"name": "begun", "images": []}, "models": {}})
    with Records(tmp_path) as records:
        assert "<strong>0</strong> points" in report(records).html
