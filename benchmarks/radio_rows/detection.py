"""Packets found and headers read below and above 0 dB, side information, and images found where there are none."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import scipy.fft
from jaxtyping import Complex64
from scipy import stats

from benchmarks.radio_rows import figures
from benchmarks.radio_rows.trial import (
    SESSION,
    SIDE_BYTES,
    Finding,
    Point,
    Run,
    full_packets,
    passage,
    rate_interval,
)
from sdr import fec
from sdr.channel import Channel
from sdr.framing import side_repetition
from sdr.header import CODED_BITS, INFO_BITS
from sdr.impairments import noise_variance
from sdr.receive import Receiver
from sdr.waveform import DEFAULT

CFO_HZ = 100e3
SNRS_DB = (-8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0)
ASKED = {-2.0: 0.99, 0.0: 0.999}
DECODING_ASKED = 1e-3
FALSE_ALARMS_PER_SAMPLE = 1e-9
ZADOFF_CHU_LENGTH = 317
"""The prime next to the 320 samples of the short training sequence; its root 1."""
_CHUNK = 50
_STREAM_PACKETS = 10
# Paths of the K=7 code (171, 133) that leave the all-zero path and return to it, by weight: Conan, "The
# weight spectra of some short low-rate convolutional codes", IEEE Trans. Commun. 32, 1984.
SPECTRUM = {10: 11, 12: 38, 14: 193, 16: 1331, 18: 7275, 20: 40406}


@dataclass(frozen=True)
class _Job:
    seed: tuple[int, ...]
    snr_db: float
    packets: int


def _trials(job: _Job) -> Counter[str]:
    """Streams of one-packet images with CFO, phase and delay of their own, back to back with noise in between."""
    rng = np.random.default_rng(job.seed)
    repetition = side_repetition(job.snr_db, SIDE_BYTES)
    counts: Counter[str] = Counter()
    for first in range(0, job.packets, _STREAM_PACKETS):
        sent = [
            passage(
                rng,
                Channel(snr_db=job.snr_db, cfo_hz=float(rng.uniform(-CFO_HZ, CFO_HZ))),
                full_packets(1, repetition=repetition),
                image_id=number,
                repetition=repetition,
            )
            for number in range(min(_STREAM_PACKETS, job.packets - first))
        ]
        receiver = Receiver(DEFAULT)
        images = receiver.push(np.concatenate([one.samples for one in sent])) + receiver.flush()
        by_id = {image.image_id: image for image in images if image.session == SESSION}
        counts["sent"] += len(sent)
        counts["header"] += len(by_id)
        counts["rejected"] += receiver.packets_rejected
        counts["side"] += sum(image.side == sent[number].side for number, image in by_id.items() if number < len(sent))
        counts["false"] += len(images) - len(by_id)
    return counts


def zadoff_chu(length: int) -> Complex64[np.ndarray, "length"]:
    """Sequence of root 1 and odd length, unit modulus (Chu, IEEE Trans. Inf. Theory 18, 1972)."""
    index = np.arange(length)
    return np.asarray(np.exp(-1j * np.pi * index * (index + 1) / length), np.complex64)


def matched_filter_theory(snr_db: float, length: int, false_alarms: float) -> float:
    """Detection probability of a non-coherent matched filter at known timing and CFO (Marcum's Q function)."""
    energy = length * _per_sample(snr_db)
    return float(stats.ncx2.sf(-2 * math.log(false_alarms), 2, 2 * energy))


def _per_sample(snr_db: float) -> float:
    return float(DEFAULT.tx_rms**2 / noise_variance(snr_db, DEFAULT))


def matched_filter(snr_db: float, trials: int, rng: np.random.Generator) -> int:
    """Detections of a Zadoff-Chu sequence of the packet's power at unknown timing and phase but known CFO.

    The delay is a fraction of a sample; the filter looks at the samples on both sides of it, noise power known.
    """
    length = ZADOFF_CHU_LENGTH
    sequence = zadoff_chu(length)
    spectrum = np.fft.fft(sequence, 2 * length)
    frequency = np.fft.fftfreq(2 * length)
    delay = rng.uniform(0, 1, (trials, 1))
    phase = np.exp(2j * np.pi * (rng.uniform(size=(trials, 1)) - frequency * delay))
    received = scipy.fft.ifft(spectrum * phase, axis=1)
    noise = (rng.standard_normal((trials, 4 * length)) * math.sqrt(0.5 / _per_sample(snr_db))).view(np.complex128)
    received = received + noise
    outputs = np.stack([received[:, lag : lag + length] @ sequence.conj() for lag in (0, 1)])
    threshold = -math.log(FALSE_ALARMS_PER_SAMPLE) * length / _per_sample(snr_db)
    return int(np.count_nonzero(np.max(np.abs(outputs) ** 2, axis=0) > threshold))


def union_bound(snr_db: float, steps: int, energy_per_coded_bit: float) -> float:
    """Union bound of a codeword's error probability with known channel; the energy is in units of Es of a carrier."""
    snr = 10 ** (snr_db / 10) * energy_per_coded_bit
    paths = sum(count * stats.norm.sf(math.sqrt(2 * weight * snr)) for weight, count in SPECTRUM.items())
    return float(min(1.0, steps * paths))


def measure(run: Run) -> list[Finding]:
    """Two properties from one set of packets."""
    many, few = run.count(5000, 300), run.count(1000, 60)
    packets = {snr_db: many if snr_db in ASKED else few for snr_db in SNRS_DB}
    jobs = [
        _Job((run.seed, 4, index, first), snr_db, min(_CHUNK, packets[snr_db] - first))
        for index, snr_db in enumerate(SNRS_DB)
        for first in range(0, packets[snr_db], _CHUNK)
    ]
    counts: dict[float, Counter[str]] = {snr_db: Counter() for snr_db in SNRS_DB}
    for job, result in zip(jobs, run.map(_trials, jobs), strict=True):
        counts[job.snr_db].update(result)
    trials = f"{many} packets at {' and '.join(f'{snr:g}' for snr in ASKED)} dB, {few} at others"
    return [_found(run, counts, trials), _decoded(run, counts, trials)]


def _found(run: Run, counts: dict[float, Counter[str]], trials: str) -> Finding:
    rng = np.random.default_rng((run.seed, 5))
    peers = {snr_db: matched_filter(snr_db, 2000, rng) / 2000 for snr_db in SNRS_DB}
    points, preambles = [], []
    for snr_db in SNRS_DB:
        sent, right = counts[snr_db]["sent"], counts[snr_db]["header"]
        asked = ASKED.get(snr_db)
        rate = right / sent
        preambles.append(min(1.0, (right + counts[snr_db]["rejected"]) / sent))
        points.append(
            Point(
                f"{snr_db:g} dB",
                rate,
                asked is None or rate >= asked,
                asked,
                peers[snr_db],
                rate_interval(right, sent),
                "",
                {**counts[snr_db], "preambles_found": preambles[-1]},
            )
        )
    with figures.figure(run.out / "detection.png") as (axes,):
        fine = np.linspace(SNRS_DB[0], SNRS_DB[-1], 81)
        length = ZADOFF_CHU_LENGTH
        curve = [1 - matched_filter_theory(float(snr), length, FALSE_ALARMS_PER_SAMPLE) for snr in fine]
        figures.theory(axes, fine.tolist(), curve, f"Zadoff-Chu {length}, known CFO and timing")
        misses = [1 - p.measured for p in points]
        bars = [(1 - p.interval[1], 1 - p.interval[0]) if p.interval else None for p in points]
        figures.rates(axes, SNRS_DB, [1 - peers[snr] for snr in SNRS_DB], "Zadoff-Chu, known CFO, any timing", 1)
        figures.rates(axes, SNRS_DB, [1 - rate for rate in preambles], "receiver: preamble found", 2)
        figures.rates(axes, SNRS_DB, misses, "receiver: and header right", 0, bars)
        axes.plot(list(ASKED), [1 - p for p in ASKED.values()], "*", color=figures.RED, markersize=11, label="asked")
        axes.set(xlabel="SNR (Es/N0 per data subcarrier), dB", ylabel="share of packets missed", yscale="log")
        axes.set(ylim=(1e-4, 1.5), title="Packets missed, CFO uniform in ±100 kHz at 4 Msps")
        figures.legend_below(axes)
    judged = [point for point in points if point.asked is not None]
    return Finding(
        title="detection + header, CFO uniform in ±100 kHz at 4 Msps",
        asked=", ".join(f"≥ {rate:g} at {snr:g} dB" for snr, rate in sorted(ASKED.items(), reverse=True)),
        bound=f"Zadoff-Chu {ZADOFF_CHU_LENGTH} matched filter, known CFO: "
        + ", ".join(f"{p.bound:.4g} at {p.at}" for p in reversed(judged)),
        measured=", ".join(f"{p.measured:.4f} at {p.at}" for p in reversed(judged)),
        trials=trials,
        points=points,
        plot="detection.png",
        note=f"the filter's threshold gives {FALSE_ALARMS_PER_SAMPLE:g} false alarms per sample; see false images",
        conditions={"fading": "awgn", "cfo_hz": f"uniform in ±{CFO_HZ:g}"},
    )


def _decoded(run: Run, counts: dict[float, Counter[str]], trials: str) -> Finding:
    points: dict[str, list[Point]] = {"header": [], "side information": []}
    for snr_db in SNRS_DB:
        count = counts[snr_db]
        found = count["header"] + count["rejected"]
        for kind, failed, tried in (
            ("header", count["rejected"], found),
            ("side information", count["header"] - count["side"], count["header"]),
        ):
            if not tried:
                continue
            rate = failed / tried
            asked = DECODING_ASKED if snr_db == 0 else None
            passed = asked is None or rate <= asked
            interval = rate_interval(failed, tried)
            points[kind].append(
                Point(
                    f"{kind}, {snr_db:g} dB", rate, passed, asked, None, interval, "", {"failed": failed, "of": tried}
                )
            )
    copies = DEFAULT.header_symbols * DEFAULT.data_carriers / CODED_BITS
    with figures.figure(run.out / "header_side.png") as (axes,):
        fine = np.linspace(SNRS_DB[0], SNRS_DB[-1], 81).tolist()
        header_bound = [union_bound(snr, INFO_BITS + fec.TAIL_BITS, copies) for snr in fine]
        figures.theory(axes, fine, header_bound, "header: union bound, known channel")
        for series, (kind, row) in enumerate(points.items()):
            places = [float(point.at.split(", ")[1].removesuffix(" dB")) for point in row]
            figures.rates(axes, places, [p.measured for p in row], kind, series, [p.interval for p in row])
        axes.plot([0], [DECODING_ASKED], "*", color=figures.RED, markersize=11, label="asked")
        axes.set(xlabel="SNR (Es/N0 per data subcarrier), dB", ylabel="error rate", yscale="log", ylim=(1e-5, 1.5))
        axes.set_title(f"Header ({copies:g} copies) and {SIDE_BYTES} bytes of side information")
        figures.legend_below(axes)
    judged = [point for row in points.values() for point in row if point.asked is not None]
    return Finding(
        title="header and side information error rate",
        asked=f"≤ {DECODING_ASKED:g} at 0 dB",
        bound="header: union bound of the K=7 code with known channel",
        measured="; ".join(
            f"{p.at.split(',')[0]} {p.extra['failed']} of {p.extra['of']} wrong (95 %: ≤ {p.interval[1]:.1e})"
            for p in judged
            if p.interval
        ),
        trials=trials,
        points=[point for row in points.values() for point in row],
        plot="header_side.png",
        note="headers of the preambles that were found; side information of the packets whose header was right",
        conditions={
            "side_bytes": SIDE_BYTES,
            "repetition": {f"{snr:g} dB": side_repetition(snr, SIDE_BYTES) for snr in SNRS_DB},
        },
    )
