"""The latency benchmark's arithmetic: turns, ratios within rounds, and findings that can fail."""

from typing import Any

import pytest

from benchmarks import latency
from benchmarks.latency_rows.timing import Times, ratio, take_turns


def test_cases_take_turns_after_a_round_that_does_not_count() -> None:
    order: list[str] = []
    times = take_turns({name: lambda name=name: order.append(name) for name in "ab"}, 2, lambda: None)  # type: ignore[misc]
    assert order == ["a", "b"] * 3
    assert {name: len(found.seconds) for name, found in times.items()} == {"a": 2, "b": 2}


def test_ratios_do_not_mind_what_slows_a_whole_round_down() -> None:
    ours, theirs = Times((1.0, 10.0, 2.0)), Times((2.0, 20.0, 4.0))
    assert ratio(ours, theirs) == (0.5, 0.5, 0.5)
    assert ours.median == 2.0


def times_of(ours: float, deepjscc: float, onnx: float) -> dict[Any, Times]:
    def same(seconds: float) -> Times:
        return Times((seconds,) * 3)

    mine = {(name, 4, 1): same(seconds) for name, seconds in (("torch eager", 2.0), ("bf16", ours), ("onnx", onnx))}
    return mine | {(f"DeepJSCC, {name}", 0, 1): same(deepjscc) for name in ("torch eager", "bf16")}


@pytest.mark.parametrize(
    ("ours", "deepjscc", "onnx", "passed"),
    [
        (1.0, 0.5, 1.5, [True, True, True]),
        (1.0, 0.15, 1.5, [False, True, True]),
        (1.6, 0.15, 1.5, [False, False, False]),
    ],
)
def test_what_is_asked_of_two_cores_can_fail(ours: float, deepjscc: float, onnx: float, passed: list[bool]) -> None:
    findings = latency.judge("cpu", (256, 256), times_of(ours, deepjscc, onnx), "bf16")
    assert [found["passed"] for found in findings] == passed
    assert "the better of torch eager and onnx (onnx)" in findings[2]["title"]
    assert latency.judge("cpu", (512, 768), times_of(ours, deepjscc, onnx), "bf16") == []


@pytest.mark.parametrize(("seconds", "passed"), [(0.0199, True), (0.0201, False)])
def test_what_is_asked_of_a_gpu_can_fail(seconds: float, passed: bool) -> None:
    (found,) = latency.judge("cuda", (512, 768), {("bf16", 4, 1): Times((seconds,) * 3)}, "bf16")
    assert found["passed"] is passed
    assert latency.judge("cuda", (256, 256), {("bf16", 4, 1): Times((seconds,) * 3)}, "bf16") == []


def test_a_device_that_is_not_there_is_said() -> None:
    origin = {"command": "python benchmarks/latency.py", "commit": "0" * 40, "quick": True}
    machine = {"cores": 2, "processor": "none", "threads": 2}
    text = latency.markdown({**origin, "machine": machine, "devices": {"cuda": None}})
    assert "Not measured: this machine has none." in text and "No figures to quote" in text
