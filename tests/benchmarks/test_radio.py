"""The radio benchmark: short real runs of its rows, and what the command writes."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import radio
from benchmarks.radio_rows import awgn, converter, detection, fading, false_images, memory, packet_loss, speed, trial
from benchmarks.radio_rows.trial import Finding, Point, Run
from sdr.transmit import transmit
from sdr.waveform import DEFAULT

# ---------------------------------------------------------------- short runs of whole rows


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(0, True, tmp_path, lambda share: None)


def small(monkeypatch: pytest.MonkeyPatch, row: object, **values: object) -> None:
    for name, value in values.items():
        monkeypatch.setattr(row, name, value)


def check(findings: list[Finding], out: Path) -> None:
    for finding in findings:
        assert finding.points and finding.measured and finding.asked
        assert all(np.isfinite(point.measured) for point in finding.points)
        assert (out / finding.plot).read_bytes().startswith(b"\x89PNG")
        json.dumps(radio.entry(finding), allow_nan=False)


def test_estimates_in_noise(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, awgn, SNRS_DB=(0.0, 5.0, 10.0, 15.0))
    monkeypatch.setattr(Run, "count", lambda self, full, quick: 6)
    findings = awgn.measure(run)
    check(findings, run.out)
    assert findings[0].passed
    assert all(point.measured + 0.1 >= 0 for point in findings[0].points)


@pytest.mark.parametrize("measure", [fading.measure_loss, fading.measure_noise_var])
def test_genie_rows(run: Run, monkeypatch: pytest.MonkeyPatch, measure: Callable[[Run], list[Finding]]) -> None:
    small(monkeypatch, fading, SNRS_DB=(10.0, 20.0), _PACKETS=2)
    monkeypatch.setattr(Run, "count", lambda self, full, quick: 2)
    check(measure(run), run.out)


def test_detection_counts_every_packet(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, detection, SNRS_DB=(-8.0, 0.0), ASKED={0.0: 0.99})
    monkeypatch.setattr(Run, "count", lambda self, full, quick: 6)
    findings = detection.measure(run)
    check(findings, run.out)
    lowest, highest = findings[0].points
    assert highest.measured == 1.0 and highest.extra["sent"] == highest.extra["side"] == 6
    assert lowest.measured < highest.measured


def test_noise_holds_no_image(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "count", lambda self, full, quick: 1 << 21)
    (finding,) = false_images.measure(run)
    check([finding], run.out)
    assert finding.passed


def test_converter_costs_what_theory_says(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, converter, BITS=(4, 8), _PACKETS=1)
    monkeypatch.setattr(Run, "count", lambda self, full, quick: 3)
    (finding,) = converter.measure(run)
    check([finding], run.out)
    for point in finding.points[1:3]:
        assert point.measured == pytest.approx(point.bound, rel=0.15)


def here(monkeypatch: pytest.MonkeyPatch, row: object) -> None:
    """Rows that start a process of their own: in this one instead."""
    monkeypatch.setattr(row, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(workers))


def test_speed_is_that_of_receivers_that_decode(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch, speed)
    counts = {16_000_000: 200_000, 8_000_000: 200_000, 7: 1}
    monkeypatch.setattr(Run, "count", lambda self, full, quick: counts[full])
    (finding,) = speed.measure(run)
    check([finding], run.out)
    image = transmit(np.ones(32768, np.complex64), bytes(60), DEFAULT, session=1, image_id=0, repetition=1)
    packets = len(image.packets) * -(-200_000 // image.samples.size)
    assert finding.conditions["own"] == finding.conditions["push"] == packets
    for name in speed._STOCK_BYTES:  # it misses some of its packets back to back
        assert finding.conditions[name] >= 0.5 * 200_000 // (30 * 288)
    assert [point.passed for point in finding.points] == [
        point.measured >= (point.asked or 0) for point in finding.points
    ]


def test_memory_is_traced_to_the_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch, memory)
    monkeypatch.setattr(Run, "count", lambda self, full, quick: 3)
    (finding,) = memory.measure(run)
    check([finding], run.out)
    minutes = [minute for minute, _ in finding.points[0].extra["trace_minutes_mib"]]
    assert len(minutes) == 3 and minutes[-1] == pytest.approx(3 * (1 << 22) / 4e6 / 60)
    assert finding.points[0].extra["images_complete"] >= 1


def test_pictures_survive_losses(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, packet_loss, LOSSES=(0.0, 0.1), PICTURES=("chelsea",))
    packet_loss._senders.cache_clear()
    (finding,) = packet_loss.measure(run)
    packet_loss._senders.cache_clear()
    check([finding], run.out)
    assert finding.passed


def test_a_symbol_in_the_wrong_place_is_noticed() -> None:
    packet_loss._senders.cache_clear()
    _, sent = packet_loss._senders()[1]
    (image,) = trial.receive(sent.transmission.samples)
    assert packet_loss.misplaced(sent, image, set()) == 0
    assert packet_loss.misplaced(sent, image, {0}) == 1
    moved = replace(image, symbols=np.roll(image.symbols, 1))
    assert packet_loss.misplaced(sent, moved, set()) == len(sent.transmission.packets)


# ---------------------------------------------------------------- the command


def finding(measured: float, asked: float) -> Finding:
    point = Point("somewhere", measured, measured <= asked, asked, 0.0, (0.0, 1.0), "dB")
    return Finding("a loss", f"≤ {asked} dB", "0 dB", f"{measured} dB", "5 packets", [point], "loss.png", "a note")


def stand_in(monkeypatch: pytest.MonkeyPatch, **rows: Callable[[Run], list[Finding]]) -> None:
    class Module:
        pass

    for name, function in rows.items():
        setattr(Module, name, staticmethod(function))
    monkeypatch.setattr(radio, "ROWS", {name: ("stand_in", name) for name in rows})
    monkeypatch.setattr(radio, "import_module", lambda name: Module)


def test_results_are_written_and_a_row_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, awgn=lambda run: [finding(0.2, 0.5)], speed=lambda run: [finding(0.9, 0.5)])
    monkeypatch.setattr(
        radio, "provenance", lambda words: {"command": " ".join(words), "commit": "c", "machine": {"cores": 2}}
    )
    radio.main(tmp_path, only=None, quick=True, seed=3, as_json=False)
    rows = json.loads((tmp_path / "radio.json").read_text())["rows"]
    assert rows["awgn"]["findings"][0]["passed"] and not rows["speed"]["findings"][0]["passed"]
    assert rows["awgn"]["command"] == "--quick --seed 3"
    table = (tmp_path / "radio.md").read_text()
    assert "| a loss | ≤ 0.5 dB | 0.2 dB | 0 dB | yes |" in table and "| 0.9 dB | 0 dB | **no** |" in table
    assert "![a loss](loss.png)" in table

    stand_in(monkeypatch, awgn=lambda run: [], speed=lambda run: [finding(0.1, 0.5)])
    radio.main(tmp_path, only=[radio.Row("speed")], quick=False, seed=0, as_json=False)
    rows = json.loads((tmp_path / "radio.json").read_text())["rows"]
    assert rows["awgn"]["findings"] and rows["speed"]["findings"][0]["passed"]
    assert rows["speed"]["command"] == "--only speed"
    assert not list(tmp_path.glob(".*.part"))


def test_a_row_that_breaks_is_listed_with_its_reason(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(run: Run) -> list[Finding]:
        raise ImportError("No module named 'gnuradio'")

    stand_in(monkeypatch, speed=broken)
    (entry,) = radio.measure("speed", run)
    assert not entry["passed"] and "No module named 'gnuradio'" in entry["measured"]


def test_results_of_something_else_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "radio.json").write_text("[]")
    with pytest.raises(SystemExit, match="holds no results"):
        radio.main(tmp_path, only=[radio.Row("awgn")], quick=True, seed=0, as_json=False)
    assert (tmp_path / "radio.json").read_text() == "[]"


def test_provenance_names_everything_that_a_figure_depends_on() -> None:
    origin = radio.provenance(["--seed", "1"])
    assert origin["command"] == "python benchmarks/radio.py --seed 1"
    assert origin["machine"]["cores"] >= 1
    assert {"python", "numpy", "scipy", "gnuradio"} <= set(origin["versions"])
