"""What the rows share: a run with its processes and progress, findings, confidence intervals, one passage."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Complex64, Float, Float64
from scipy import stats

from sdr.channel import Channel
from sdr.framing import FramePlan, plan_frame
from sdr.impairments import ChannelRealisation, apply_channel, draw_channel
from sdr.receive import ReceivedImage, Receiver
from sdr.transmit import Transmission, transmit
from sdr.waveform import DEFAULT, Waveform

CONFIDENCE = 0.95
SIDE_BYTES = 60
REPETITION = 4
SESSION = 77

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Point:
    """One measured number beside what was asked of it and the bound or peer, all in `unit`."""

    at: str
    measured: float
    passed: bool
    asked: float | None = None
    bound: float | None = None
    interval: tuple[float, float] | None = None
    """95 % confidence interval."""
    unit: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """One line of the table. Texts are for people; `points` hold the numbers."""

    title: str
    asked: str
    bound: str
    measured: str
    trials: str
    points: list[Point]
    plot: str
    note: str = ""
    conditions: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every point is within what was asked."""
        return all(point.passed for point in self.points)


@dataclass(frozen=True)
class Run:
    """How one row is to be measured."""

    seed: int
    quick: bool
    out: Path
    advance: Callable[[float], None]
    """Told the share of the row that is done, 0…1, step by step."""
    pool: Executor | None = None
    """None: everything in this process."""

    def count(self, full: int, quick: int) -> int:
        """Trials for this run."""
        return quick if self.quick else full

    def map(self, function: Callable[[_Job], _Result], jobs: Sequence[_Job]) -> list[_Result]:
        """Results of all jobs in their order, from all processes."""
        results = map(function, jobs) if self.pool is None else self.pool.map(function, jobs)
        done = []
        for result in results:
            done.append(result)
            self.advance(1 / len(jobs))
        return done


# ---------------------------------------------------------------- statistics


def mean_interval(values: Float[np.ndarray, "n"]) -> tuple[float, float] | None:
    """Student's interval of the mean of independent values; None for a single one."""
    if len(values) < 2:
        return None
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    mean = float(np.mean(values))
    return mean - half, mean + half


def deviation_interval(deviation: float, count: int) -> tuple[float, float]:
    """Interval of the standard deviation of `count` Gaussian values with that sample deviation (χ²)."""
    low, high = stats.chi2.ppf([0.5 + CONFIDENCE / 2, 0.5 - CONFIDENCE / 2], count - 1)
    return deviation * float(((count - 1) / low) ** 0.5), deviation * float(((count - 1) / high) ** 0.5)


def rate_interval(events: int, trials: int) -> tuple[float, float]:
    """Exact interval of a probability (Clopper and Pearson, Biometrika 26, 1934)."""
    low, high = stats.binomtest(events, trials).proportion_ci(CONFIDENCE, method="exact")
    return float(low), float(high)


def ratio_db(ratios: Float[np.ndarray, "trials"]) -> tuple[float, tuple[float, float] | None]:
    """Mean of independent power ratios in dB, and its interval."""
    interval = mean_interval(ratios)
    return db(float(np.mean(ratios))), interval and (db(max(interval[0], 1e-12)), db(interval[1]))


def db(ratio: float) -> float:
    """Power ratio in dB."""
    return 10 * math.log10(ratio)


# ---------------------------------------------------------------- one image through the software channel


@dataclass(frozen=True, eq=False)
class Passage:
    """An image of random symbols on its way."""

    symbols: Complex64[np.ndarray, "n"]
    side: bytes
    transmission: Transmission
    realisation: ChannelRealisation
    samples: Complex64[np.ndarray, "samples"]
    """As received."""
    plan: FramePlan


def gaussian(count: int, rng: np.random.Generator) -> Complex64[np.ndarray, "n"]:
    """Complex Gaussian symbols of mean power exactly 1, as a learned code sends."""
    values = rng.standard_normal(count) + 1j * rng.standard_normal(count)
    return np.asarray(values / np.sqrt(np.mean(np.abs(values) ** 2)), np.complex64)


def full_packets(packets: int, waveform: Waveform = DEFAULT, repetition: int = REPETITION) -> int:
    """JSCC symbols that, with the benchmark's side information, fill exactly that many packets."""
    empty = plan_frame(waveform, 0, SIDE_BYTES, repetition)
    return packets * waveform.packet_capacity - empty.side_symbols


def passage(
    rng: np.random.Generator,
    channel: Channel,
    count: int,
    *,
    image_id: int = 0,
    waveform: Waveform = DEFAULT,
    repetition: int = REPETITION,
    send: Callable[[Complex64[np.ndarray, "n"]], Complex64[np.ndarray, "n"]] | None = None,
) -> Passage:
    """`count` random symbols through the software channel; `send` changes the samples before it."""
    symbols, side = gaussian(count, rng), rng.bytes(SIDE_BYTES)
    sent = transmit(symbols, side, waveform, session=SESSION, image_id=image_id, repetition=repetition)
    drawn = draw_channel(channel, waveform, len(sent.packets), rng)
    samples = apply_channel(send(sent.samples) if send else sent.samples, sent.packets, drawn)
    return Passage(symbols, side, sent, drawn, samples, plan_frame(waveform, count, SIDE_BYTES, repetition))


def receive(samples: Complex64[np.ndarray, "n"], waveform: Waveform = DEFAULT) -> list[ReceivedImage]:
    """Every image that a fresh receiver finds."""
    receiver = Receiver(waveform)
    return receiver.push(samples) + receiver.flush()


def in_symbol_order(slots: Float64[np.ndarray, "packets slots"], plan: FramePlan) -> Float64[np.ndarray, "n"]:
    """Values of each slot of each packet in the order of the JSCC symbols."""
    stream = np.empty(plan.packets * plan.slots, slots.dtype)
    stream[plan.stream_index()] = slots
    return stream[plan.side_symbols : plan.side_symbols + plan.jscc_symbols]
