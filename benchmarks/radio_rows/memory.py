"""Memory of the receiver over ten minutes of a stream of noise, whole images and images that never become whole."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Complex64, Float64
from scipy import stats

from benchmarks.radio_rows import figures
from benchmarks.radio_rows.false_images import Noise
from benchmarks.radio_rows.trial import CONFIDENCE, SIDE_BYTES, Finding, Point, Run, full_packets, gaussian
from sdr.receive import Receiver
from sdr.transmit import transmit
from sdr.waveform import DEFAULT

MINUTES = 10.0
GROWTH_ASKED_MIB = 1.0
_SEGMENT = 1 << 22
_CHUNK = 1 << 18
SETTLED = 0.5
"""Share of the stream after which every cache is full and nothing may grow any more."""
_TICKS = 100


@dataclass(frozen=True)
class _Job:
    seed: int
    samples: int


def resident_mib() -> float:
    """Memory of this process that is in RAM, from Linux' /proc."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def segment(noise: Noise, number: int, rng: np.random.Generator) -> Iterator[Complex64[np.ndarray, "chunk"]]:
    """One second of air: an image of six packets, another of which packets are missing, sessions never seen before."""
    places: list[tuple[int, np.ndarray]] = []
    for order, keep in enumerate((1.0, 0.5)):
        symbols = gaussian(full_packets(6), rng)
        sent = transmit(
            symbols, rng.bytes(SIDE_BYTES), DEFAULT, session=2 * number + order, image_id=order, repetition=4
        )
        start = int(rng.integers(_SEGMENT // 2 - sent.samples.size)) + order * (_SEGMENT // 2)
        for span in sent.packets:
            if rng.uniform() < keep:
                end = span.start_sample + span.samples
                places.append((start + span.start_sample, sent.samples[span.start_sample : end]))
    buffer = np.concatenate([piece.copy() for piece in noise.pieces(_SEGMENT)])
    for start, samples in places:
        buffer[start : start + samples.size] += samples
    for first in range(0, _SEGMENT, _CHUNK):
        yield buffer[first : first + _CHUNK]


def _trials(job: _Job) -> dict[str, Any]:
    """Resident memory at even steps of the stream."""
    rng = np.random.default_rng((job.seed, 11))
    noise, receiver = Noise(job.seed, rng), Receiver(DEFAULT)
    segments = -(-job.samples // _SEGMENT)
    trace, complete, incomplete = [], 0, 0
    for number in range(segments):
        for chunk in segment(noise, number, rng):
            for image in receiver.push(chunk):
                whole = image.packets_received == image.packets_expected
                complete, incomplete = complete + whole, incomplete + (not whole)
        if number % max(1, segments // _TICKS) == 0 or number == segments - 1:
            minutes = (number + 1) * _SEGMENT / DEFAULT.sample_rate_hz / 60
            trace.append((minutes, resident_mib()))
    return {"trace": trace, "complete": complete, "incomplete": incomplete}


def trend(
    minutes: Float64[np.ndarray, "n"], resident: Float64[np.ndarray, "n"]
) -> tuple[float, tuple[float, float] | None]:
    """Rise of the straight line through a trace from its first to its last moment, and its interval."""
    fit, duration = stats.linregress(minutes, resident), float(minutes[-1] - minutes[0])
    rise = float(fit.slope) * duration
    if len(minutes) < 3:
        return rise, None
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(minutes) - 2) * fit.stderr) * duration
    return rise, (rise - half, rise + half)


def measure(run: Run) -> list[Finding]:
    """Growth of the resident memory once the stream has settled, in a process that does nothing else."""
    samples = int(run.count(round(MINUTES * 60), 12) * DEFAULT.sample_rate_hz)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
        result = alone.submit(_trials, _Job(run.seed, samples)).result()
    run.advance(1.0)
    minutes, resident = np.array(result["trace"]).T
    later = minutes >= SETTLED * minutes[-1]
    growth, interval = trend(minutes[later], resident[later])
    level = float(resident[later].mean())
    images = {"images_complete": result["complete"], "images_incomplete": result["incomplete"]}
    extra = {"trace_minutes_mib": result["trace"], **images}
    passed = growth <= GROWTH_ASKED_MIB
    point = Point("over the second half", growth, passed, GROWTH_ASKED_MIB, 0.0, interval, "MiB", extra)
    with figures.figure(run.out / "memory.png") as (axes,):
        ends = [minutes[later][0], minutes[-1]]
        figures.theory(axes, ends, [level, level], "constant")
        low, high = level - GROWTH_ASKED_MIB / 2, level + GROWTH_ASKED_MIB / 2
        figures.limit(axes, ends, [low, high], f"asked: rises by {GROWTH_ASKED_MIB:g} MiB at most")
        axes.plot(minutes, resident, color=figures.BLUE, linewidth=1.6, label="process with the receiver")
        axes.set(xlabel="stream at 4 Msps, minutes", ylabel="resident memory, MiB", title="Memory over a mixed stream")
        axes.set_ylim(level - 12, level + 12)
        axes.legend()
    return [
        Finding(
            title=f"memory over {minutes[-1]:.3g} minutes of stream",
            asked="constant",
            bound="–",
            measured=f"{growth:+.2f} MiB in the second half, on {level:.0f} MiB",
            trials=f"{samples:.3g} samples with {result['complete']} whole and {result['incomplete']} cut images",
            points=[point],
            plot="memory.png",
            note=f"constant: a line through the second half rises by {GROWTH_ASKED_MIB:g} MiB at most; the first half "
            "fills caches; the noise buffers of the test are included",
        )
    ]
