"""Memory of the receiver over ten minutes of a stream of noise, whole images and images that never become whole."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Complex64

from benchmarks.radio_rows import figures
from benchmarks.radio_rows.false_images import Noise
from benchmarks.radio_rows.trial import SIDE_BYTES, Finding, Point, Run, full_packets, gaussian
from sdr.receive import Receiver
from sdr.transmit import transmit
from sdr.waveform import DEFAULT

MINUTES = 10.0
GROWTH_ASKED_MIB = 1.0
_SEGMENT = 1 << 22
_CHUNK = 1 << 18
_SETTLED = 0.2
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
            symbols, rng.bytes(SIDE_BYTES), DEFAULT, session=2 * number + order, image_id=order, repetition=8
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


def measure(run: Run) -> list[Finding]:
    """Growth of the resident memory once the stream has settled, in a process that does nothing else."""
    samples = int(run.count(round(MINUTES * 60), 12) * DEFAULT.sample_rate_hz)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
        result = alone.submit(_trials, _Job(run.seed, samples)).result()
    run.advance(1.0)
    minutes, resident = np.array(result["trace"]).T
    settled = minutes >= _SETTLED * minutes[-1]
    level = float(np.median(resident[settled][: max(1, settled.sum() // 4)]))
    growth = float(resident[settled].max()) - level
    images = {"images_complete": result["complete"], "images_incomplete": result["incomplete"]}
    extra = {"trace_minutes_mib": result["trace"], **images}
    point = Point(
        "after the first fifth", growth, growth <= GROWTH_ASKED_MIB, GROWTH_ASKED_MIB, 0.0, None, "MiB", extra
    )
    with figures.figure(run.out / "memory.png") as (axes,):
        figures.theory(axes, [minutes[0], minutes[-1]], [level, level], "constant")
        limit = level + GROWTH_ASKED_MIB
        figures.limit(
            axes, [_SETTLED * minutes[-1], minutes[-1]], [limit, limit], f"asked: within {GROWTH_ASKED_MIB:g} MiB"
        )
        axes.plot(minutes, resident, color=figures.BLUE, linewidth=1.6, label="process with the receiver")
        axes.set(xlabel="stream at 4 Msps, minutes", ylabel="resident memory, MiB", title="Memory over a mixed stream")
        low, high = resident.min(), resident.max()
        axes.set_ylim(low - 10 - 0.1 * (high - low), high + 10 + 0.1 * (high - low))
        axes.legend()
    return [
        Finding(
            title=f"memory over {minutes[-1]:.3g} minutes of stream",
            asked="constant",
            bound="–",
            measured=f"{growth:+.2f} MiB on {level:.0f} MiB",
            trials=f"{samples:.3g} samples with {result['complete']} whole and {result['incomplete']} cut images",
            points=[point],
            plot="memory.png",
            note=f"constant: within {GROWTH_ASKED_MIB:g} MiB of the first fifth's level; noise buffers included",
        )
    ]
