"""Campaigns as they are carried out: rows, recordings, and what may go wrong in the middle."""

import csv
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import sigmf

from calibration.campaign import Summary
from calibration.errors import CampaignError
from calibration.ledger import RESULTS, Ledger, Records
from calibration.measure import Outcome, bounding_box, measure
from calibration.points import Passage, passages
from calibration.pool import in_pool
from flowgraphs.link import decode, loopback
from models.image import load_image
from models.metrics import psnr_db, quality
from models.registry import load_codec
from sdr.channel import Channel
from sdr.waveform import DEFAULT
from tests.calibration.tiny import HEIGHT, WIDTH, run, tiny_design
from tests.models.small import small_codec


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The RUN folder of a campaign with recordings and a region of interest."""
    out = tmp_path_factory.mktemp("run")
    design = tiny_design(
        tiny_folder, images=(str(tiny_folder / "0.png"),), roi=(None, "8,8,40,40"), keep_recordings=True
    )
    run(design, out)
    return out


def rows(folder: Path) -> list[dict[str, Any]]:
    with Records(folder) as records:
        return list(records.rows())


def test_tables_hold_the_ledger_in_the_order_of_the_plan(finished: Path) -> None:
    ledger = rows(finished)
    assert [row["point"] for row in ledger] == list(range(12))
    assert set(RESULTS) >= {"image", "model", "snr_db", "snr_db_estimated", "cbr_asked", "cbr", "cbr_total", "channel"}
    assert set(RESULTS) >= {"steps", "roi", "repeat", "seed", "psnr_db", "ms_ssim", "lpips"}
    assert set(RESULTS) >= {"packets_sent", "packets_received"}
    table = pq.read_table(finished / "results.parquet")  # type: ignore[no-untyped-call]
    assert table.to_pylist() == ledger
    with (finished / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in ledger] == lines
    assert {path.name for path in finished.iterdir()} >= {"plan.yaml", "run.json", "ledger.sqlite", "recordings"}
    assert not list(finished.glob(".*")), "nothing unfinished stays"


def test_a_row_is_what_the_link_gives_for_its_seed(tiny_folder: Path, finished: Path) -> None:
    row = next(row for row in rows(finished) if row["model"] == "tiny" and row["steps"] == 1 and row["snr_db"] == 12)
    codec, image = load_codec(str(tiny_folder / "tiny")), load_image(tiny_folder / "0.png")
    passage = loopback(codec, image, DEFAULT, Channel("awgn", 12.0), cbr=1 / 12, seed=row["seed"])
    picture = decode(codec, passage.received, steps=1, seed=row["seed"])
    assert row["psnr_db"] == pytest.approx(psnr_db(image, picture), abs=1e-3)
    assert row["ms_ssim"] == pytest.approx(quality(image, picture).ms_ssim, abs=1e-4)
    assert (row["cbr"], row["cbr_total"]) == (passage.sent.cbr, passage.sent.cbr_total)
    assert row["snr_db_estimated"] == passage.received.snr_db and row["packets_sent"] == row["packets_received"] == 1


def test_regions_are_measured_where_they_are_favoured_and_where_not(finished: Path) -> None:
    by_roi = {roi: [row for row in rows(finished) if row["roi"] == roi] for roi in (None, "8,8,40,40")}
    assert len(by_roi[None]) == len(by_roi["8,8,40,40"]) == 6
    assert all(row["psnr_roi_db"] is not None and row["lpips_roi"] is not None for row in rows(finished))
    # DeepJSCC takes no notice of the region: same symbols, same picture, same numbers.
    plain, favoured = ([r["psnr_roi_db"] for r in by_roi[roi] if r["model"] == "other"] for roi in by_roi)
    assert plain == favoured


def test_bounding_box_is_the_smallest() -> None:
    region = np.zeros((9, 12), np.float32)
    region[2, 3] = region[5, 10] = 1
    assert bounding_box(region) == (slice(2, 6), slice(3, 11))


def test_recordings_are_valid_sigmf_and_know_the_truth(finished: Path) -> None:
    names = sorted({row["recording"] for row in rows(finished)})
    assert len(names) == 2 * 2 * 2  # SNRs, regions, encoders: steps share what was heard
    for row in rows(finished):
        handle = sigmf.fromfile(str(finished / row["recording"]))
        handle.validate()
        truth, *packets = handle.get_annotations()
        assert truth["core:label"] == "truth" and len(packets) == row["packets_sent"]
        assert truth["core:sample_count"] == handle.sample_count
        assert (truth["lrisc:picture"], truth["lrisc:snr_db"], truth["lrisc:seed"]) == (
            "0.png",
            row["snr_db"],
            row["seed"],
        )
        assert truth["lrisc:cbr"] == row["cbr"]


def test_decoding_recordings_again_gives_the_rows_again(tiny_folder: Path, finished: Path, tmp_path: Path) -> None:
    design = tiny_design(tiny_folder, images=(str(tiny_folder / "0.png"),), roi=(None, "8,8,40,40"))
    run(design, tmp_path / "again", recorded=finished)
    for new, old in zip(rows(tmp_path / "again"), rows(finished), strict=True):
        assert {**new, "recording": None} == {**old, "recording": None}


def test_another_decoder_of_the_same_encoder_reads_recordings(
    tiny_folder: Path, finished: Path, tmp_path: Path
) -> None:
    design = tiny_design(tiny_folder, images=(str(tiny_folder / "0.png"),), models=(str(tiny_folder / "tiny-2"),))
    run(design, tmp_path / "again", recorded=finished)
    first = {(r["snr_db"], r["steps"]): r for r in rows(finished) if r["model"] == "tiny" and r["roi"] is None}
    for row in rows(tmp_path / "again"):
        known = first[row["snr_db"], row["steps"]]
        assert row["status"] == "ok" and row["cbr"] == known["cbr"]
        # Without diffusion they are one and the same.
        assert (row["psnr_db"] == known["psnr_db"]) == (row["steps"] == 0)


def test_what_no_recording_holds_is_refused(tiny_folder: Path, finished: Path, tmp_path: Path) -> None:
    one = (str(tiny_folder / "0.png"),)
    small_codec(adaptive=False, seed=5).save(tmp_path / "third", "third", 0)
    cases = [
        (tiny_design(tiny_folder, images=one, models=(str(tmp_path / "third"),)), "sent with the encoder"),
        (tiny_design(tiny_folder, images=one, snr_db=(5.0,)), "no recording of 0.png at 5 dB"),
        (tiny_design(tiny_folder), "no recording of 1.png"),
    ]
    for number, (design, words) in enumerate(cases):
        with pytest.raises(CampaignError, match=words):
            run(design, tmp_path / str(number), recorded=finished)


def test_an_unreadable_picture_and_a_lost_one_are_rows_and_the_rest_goes_on(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes((tiny_folder / "1.png").read_bytes()[:300])
    images = (str(tiny_folder / "0.png"), str(tmp_path / "broken.png"), str(tiny_folder / "2.png"))
    (tmp_path / "gone.yaml").write_text("loss: 1.0\n")
    design = tiny_design(
        tiny_folder, images=images, models=(str(tiny_folder / "other"),), channel=("awgn", str(tmp_path / "gone.yaml"))
    )
    summary = run(design, tmp_path / "run")
    assert summary == Summary(points=12, done_before=0, lost=4, failed=4)
    image = load_image(tiny_folder / "0.png")
    grey = psnr_db(image, np.full((HEIGHT, WIDTH, 3), 128, np.uint8))
    for row in rows(tmp_path / "run"):
        if row["image"] == "broken.png":
            assert row["status"] == "failed" and "broken.png" in row["reason"] and row["psnr_db"] is None
        elif row["channel"] == "gone":
            assert row["status"] == "lost" and "no packet" in row["reason"] and row["packets_received"] == 0
            assert row["image"] != "0.png" or row["psnr_db"] == grey  # what its receiver would have to look at
        else:
            assert row["status"] == "ok" and row["reason"] is None


def test_a_changed_plan_is_refused_with_the_difference(tiny_folder: Path, tmp_path: Path) -> None:
    small = {"images": (str(tiny_folder / "0.png"),), "models": (str(tiny_folder / "other"),)}
    run(tiny_design(tiny_folder, **small), tmp_path)
    with pytest.raises(CampaignError, match=r"plan\.seed was 0, is 7"):
        run(tiny_design(tiny_folder, seed=7, **small), tmp_path)
    with pytest.raises(CampaignError, match=r"plan\.snr_db was \[0\.0, 12\.0\], is \[0\.0\]"):
        run(tiny_design(tiny_folder, snr_db=(0.0,), **small), tmp_path)
    assert run(tiny_design(tiny_folder, **small), tmp_path).done_before == 2, "the same plan still goes on"


def test_a_second_process_is_refused_by_the_firsts_number(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from calibration.ledger import Ledger\n"
        "with Ledger(Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None and first.stdout.readline() == "locked\n"
        with pytest.raises(CampaignError, match=f"in use by process {first.pid}"):
            Ledger(tmp_path)
        first.send_signal(signal.SIGKILL)
    Ledger(tmp_path).__exit__()  # a lock doesn't outlive its process


def test_a_full_disk_loses_nothing_and_says_so_in_a_line(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    design = tiny_design(tiny_folder, models=(str(tiny_folder / "other"),))
    shown: list[int] = []
    counted = Ledger.done

    def small(self: Ledger) -> set[int]:
        pages = self._database.execute("PRAGMA page_count").fetchone()[0]
        self._database.execute(f"PRAGMA max_page_count = {pages + 9}")  # what SQLite itself meets as a full disk
        return counted(self)

    monkeypatch.setattr(Ledger, "done", small)
    with pytest.raises(CampaignError, match=r"full.*make room") as refused:
        run(design, tmp_path / "run", show=lambda row, done, points: shown.append(row["point"]))
    assert "\n" not in str(refused.value)
    assert [row["point"] for row in rows(tmp_path / "run")] == shown and 0 < len(shown) < 6
    monkeypatch.undo()
    summary = run(design, tmp_path / "run")
    assert summary.done_before == len(shown) and len(rows(tmp_path / "run")) == 6


def test_ctrl_c_keeps_what_was_done_and_leaves_tables(tiny_folder: Path, tmp_path: Path) -> None:
    def interrupted(work: Iterator[Passage]) -> Iterator[Outcome]:
        yield from map(measure, itertools.islice(work, 2))
        raise KeyboardInterrupt

    design = tiny_design(tiny_folder, models=(str(tiny_folder / "other"),))
    with pytest.raises(KeyboardInterrupt):
        run(design, tmp_path, source=interrupted)
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 1 + 2


def test_processes_give_the_same_rows_and_one_that_dies_costs_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    def murderous(work: Iterator[Passage]) -> Iterator[Outcome]:
        """The pool, whose workers are all killed after the first outcome."""
        for number, outcome in enumerate(in_pool(work, 1)):
            yield outcome
            if number == 0:
                for child in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
                    if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                        os.kill(int(child), signal.SIGKILL)

    design = tiny_design(tiny_folder, images=(str(tiny_folder / "0.png"),), models=(str(tiny_folder / "tiny"),))
    run(design, tmp_path / "processes", source=murderous)
    run(design, tmp_path / "here")
    assert len(list(passages(design))) == 2, "one is done, one is being done when the worker dies"
    assert (tmp_path / "processes/results.csv").read_bytes() == (tmp_path / "here/results.csv").read_bytes()
