"""Images found in a billion samples of noise, of noise with a DC offset, and of noise with a strong tone."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Complex64

from benchmarks.radio_rows import figures
from benchmarks.radio_rows.trial import Finding, Point, Run, rate_interval
from sdr.candidate import Candidate
from sdr.noise import complex_normal
from sdr.receive import Receiver
from sdr.waveform import DEFAULT

LEVELS_DB = {"noise": None, "noise + DC": (-10.0, 30.0), "noise + tone": (0.0, 40.0)}
"""Range of the disturbance's power over the noise's; drawn anew, with the tone's frequency, for every segment."""
_STAGES = {
    "detector": (),
    "long training": ("unconfirmed", "overlap"),
    "header CRC": ("unconfirmed", "overlap", "header"),
}
"""Stages of the receiver, and what becomes of alarms that do not pass them."""
_BUFFERS = 4
_BUFFER = 1 << 22
_SEGMENT = 1 << 20
_PIECE = 1 << 16
_JOB = 1 << 26
_NOISE_RMS = 0.03


@dataclass(frozen=True)
class _Job:
    seed: tuple[int, ...]
    kind: str
    samples: int


class Noise:
    """White noise at the cost of a few additions, where a random generator would cost more than the receiver.

    Four buffers of independent samples are drawn once. Each stretch of `_BUFFER` samples is their sum, every buffer
    rotated by an offset and multiplied by a complex weight of its own, the weights of unit energy. This is a fair
    test: offsets and weights are drawn apart from the buffers, so each stretch is a sum of independent white Gaussian
    sequences and hence exactly white Gaussian noise. Every position therefore has exactly the false-alarm probability
    of fresh noise, and so is the expected number of false alarms the same. Only different stretches are not quite
    independent: they share each buffer with a correlation of about 1/4 at one random lag, which can widen the spread
    of the count, but hardly for events as rare as these.
    """

    def __init__(self, seed: int, rng: np.random.Generator) -> None:
        self._buffers, self._rng = _drawn(seed), rng

    def pieces(self, samples: int) -> Iterator[Complex64[np.ndarray, "piece"]]:
        """Noise of rms `_NOISE_RMS`, `_PIECE` samples at a time; what is yielded is overwritten by the next."""
        scaled, total = np.empty(_PIECE, np.complex64), np.empty(_PIECE, np.complex64)
        for first in range(0, samples, _PIECE):
            if first % _BUFFER == 0:
                weights = complex_normal(self._rng, (_BUFFERS,))
                weights *= np.float32(_NOISE_RMS) / np.linalg.norm(weights)
                offsets = self._rng.integers(0, _BUFFER, _BUFFERS)
            total[:] = 0
            for buffer, weight, offset in zip(self._buffers, weights, offsets, strict=True):
                place = (first + int(offset)) % _BUFFER
                np.multiply(buffer[place : place + _PIECE], weight, out=scaled)
                total += scaled
            yield total


@lru_cache(maxsize=1)
def _drawn(seed: int) -> list[Complex64[np.ndarray, "extended"]]:
    rng = np.random.default_rng((seed, 7))
    drawn = [complex_normal(rng, (_BUFFER,)) for _ in range(_BUFFERS)]
    return [np.concatenate([buffer, buffer[:_PIECE]]) for buffer in drawn]  # a piece may cross the end


def disturbance(kind: str, rng: np.random.Generator) -> Complex64[np.ndarray, "piece"] | None:
    """DC or a tone of random level, phase and frequency; the frequencies are those that repeat after a piece."""
    levels = LEVELS_DB[kind]
    if levels is None:
        return None
    amplitude = _NOISE_RMS * 10 ** (rng.uniform(*levels) / 20)
    cycles = int(rng.integers(1, _PIECE)) if kind == "noise + tone" else 0
    turns = np.arange(_PIECE) * cycles % _PIECE / _PIECE
    return np.asarray(amplitude * np.exp(2j * np.pi * (turns + rng.uniform())), np.complex64)


def _trials(job: _Job) -> Counter[str]:
    """Images, and the reasons why the detector's other alarms were none."""
    counts: Counter[str] = Counter()

    def count(candidate: Candidate) -> None:
        counts["alarms"] += 1
        counts[candidate.reason.name.lower() if candidate.reason else "packet"] += 1

    rng = np.random.default_rng(job.seed)
    receiver = Receiver(DEFAULT, observer=count)
    for number, piece in enumerate(Noise(job.seed[0], rng).pieces(job.samples)):
        if number * _PIECE % _SEGMENT == 0:
            added = disturbance(job.kind, rng)
        counts["images"] += len(receiver.push(piece if added is None else piece + added))
    counts["images"] += len(receiver.flush())
    counts["samples"] = job.samples
    return counts


def measure(run: Run) -> list[Finding]:
    """Counts images where there are none."""
    size = min(_JOB, run.count(1 << 30, 10 << 20))
    total = -(-run.count(1_000_000_000, 10_000_000) // size)
    jobs = [
        _Job((run.seed, 6, index, number), kind, size)
        for index, kind in enumerate(LEVELS_DB)
        for number in range(total)
    ]
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in LEVELS_DB}
    for job, result in zip(jobs, run.map(_trials, jobs), strict=True):
        counts[job.kind].update(result)
    points = []
    for kind, count in counts.items():
        images, samples = count["images"], count["samples"]
        high = rate_interval(images, samples)[1]
        extra = {**count, "level_range_db": LEVELS_DB[kind], "rate_at_most_per_sample": high}
        points.append(Point(kind, images, images == 0, 0, None, (0.0, high * samples), "images", extra))
    with figures.figure(run.out / "false_images.png") as (axes,):
        floor = 3e-11
        for series, (kind, count) in enumerate(counts.items()):
            passed = [count["alarms"] - sum(count[reason] for reason in gone) for gone in _STAGES.values()]
            rates = [max(floor, number / count["samples"]) for number in (*passed, count["images"])]
            places = np.arange(len(_STAGES) + 1) + 0.12 * (series - 1)
            axes.plot(places, rates, figures.MARKERS[series], color=figures.COLOURS[series], markersize=8, label=kind)
        samples = counts["noise"]["samples"]
        axes.axhline(3 / samples, color="black", linestyle="--", linewidth=1.3, label="none seen: 95 % below this")
        axes.set_xticks(range(len(_STAGES) + 1), [*_STAGES, "image"])
        axes.set(yscale="log", ylim=(floor / 3, 1e-3), ylabel="alarms per sample", xlabel="passed this stage")
        axes.set_title(f"Alarms in {samples:.2g} samples without a packet (at the bottom: none)")
        axes.legend()
    return [
        Finding(
            title="false images in 10⁹ samples of noise, of noise + DC, of noise + a strong tone",
            asked="0",
            bound="–",
            measured=", ".join(f"{point.measured:g} ({point.at})" for point in points),
            trials=f"{counts['noise']['samples']:.3g} samples of each kind",
            points=points,
            plot="false_images.png",
            note="DC −10…30 dB and tone 0…40 dB over the noise, random frequency, new ones every 2²⁰ samples",
        )
    ]
