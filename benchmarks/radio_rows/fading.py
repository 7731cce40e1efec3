"""Multipath, jammer and loss: the whole receiver beside a genie that knows the channel and every variance.

The genie divides by the true response, so its error on a symbol is the noise over |H|², and it says exactly that.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float64
from scipy.optimize import brentq

from benchmarks.radio_rows import figures
from benchmarks.radio_rows.trial import (
    Finding,
    Passage,
    Point,
    Run,
    db,
    full_packets,
    in_symbol_order,
    mean_interval,
    passage,
    receive,
)
from sdr import noise, ofdm
from sdr.channel import Channel
from sdr.fading import CHANNELS
from sdr.waveform import DEFAULT

SNRS_DB = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0)
LOSS_UP_TO_DB = 20.0
LOSS_ASKED_DB = 0.8
GAP_ASKED_NAT = 0.1
CALIBRATION_ASKED_DB = 0.5
HARD = Channel(fading="four-tap", cfo_hz=20e3, sfo_ppm=40.0, phase_noise_hz=30.0)
_JAMMED = Channel(snr_db=12.0, cfo_hz=20e3, jammer_db=0.0, jammer_hz=400e3, jammer_bandwidth_hz=100e3)
CONDITIONS = {
    "fading": Channel(fading="four-tap", snr_db=12.0, cfo_hz=20e3),
    "jammer": _JAMMED,
    "loss": Channel(snr_db=12.0, cfo_hz=20e3, loss=0.3),
    "all three": replace(_JAMMED, fading="four-tap", loss=0.3),
}
_DECILES = 10
_PACKETS = 10
_CHUNK = 2


@dataclass(frozen=True)
class _Job:
    seed: tuple[int, ...]
    channel: Channel
    images: int


@lru_cache(maxsize=8)
def _jammer_variance(channel: Channel) -> Float64[np.ndarray, "used"]:
    """Mean power of the jammer on each carrier once the CFO is removed, relative to the signal's."""
    if channel.jammer_db is None:
        return np.zeros(DEFAULT.used_subcarriers)
    rate, size = DEFAULT.sample_rate_hz, DEFAULT.fft_size
    power = DEFAULT.tx_rms**2 * 10 ** (channel.jammer_db / 10)
    centre, width = (channel.jammer_hz - channel.cfo_hz) / rate, channel.jammer_bandwidth_hz / rate
    samples = noise.jammer(8192 * size, power, centre, width, np.random.default_rng(0))
    spectrum = ofdm.to_carriers(samples.reshape(-1, size), DEFAULT)
    return np.asarray(np.mean(np.abs(spectrum).astype(np.float64) ** 2, axis=0))


def genie_variance(sent: Passage) -> Float64[np.ndarray, "n"]:
    """Noise variance of each symbol for one who knows channel, noise and jammer; infinite in lost packets."""
    layout, plan, drawn = ofdm.grid(DEFAULT), sent.plan, sent.realisation
    carriers = layout.carriers[layout.data]
    turns = np.outer(np.arange(drawn.taps.shape[1]), carriers) / DEFAULT.fft_size
    response = drawn.taps @ np.exp(-2j * np.pi * turns)
    disturbance = 10 ** (-drawn.channel.snr_db / 10) + _jammer_variance(drawn.channel)[layout.data]
    variance = disturbance / np.abs(response) ** 2
    variance[drawn.lost] = np.inf
    return in_symbol_order(np.tile(variance, (1, plan.payload_symbols)), plan)


def _trials(job: _Job) -> list[Float64[np.ndarray, "4 n"]]:
    """Per image: squared error of each symbol, the variance that the receiver claims, the genie's, and the squared
    error after Wiener scaling.

    Symbols of packets that were not found are left out; those of packets that were never there are checked.
    """
    rng = np.random.default_rng(job.seed)
    rows = []
    for _ in range(job.images):
        sent = passage(rng, job.channel, full_packets(_PACKETS))
        genie = genie_variance(sent)
        for image in receive(sent.samples):
            if np.any(np.isfinite(image.noise_var[np.isinf(genie)])):
                raise AssertionError("symbols of a lost packet were not erased")
            claim = image.noise_var.astype(np.float64)
            error = np.abs(image.symbols - sent.symbols).astype(np.float64) ** 2
            wiener = np.abs(image.symbols / (1 + claim) - sent.symbols) ** 2
            packet = in_symbol_order(np.repeat(np.arange(sent.plan.packets)[:, None], sent.plan.slots, 1), sent.plan)
            came = np.isin(packet, np.unique(packet[np.isfinite(claim)]))
            rows.append(np.stack([error, claim, genie, wiener])[:, came])
    return rows


def equivalent_loss_db(wiener: Float64[np.ndarray, "..."], genie: Float64[np.ndarray, "..."]) -> float:
    """By how much the genie's noise must rise for its mean squared error to be that of the receiver.

    Both scale every symbol by 1/(1 + variance), the Wiener factor for what they know of it. Without it there is no
    mean to compare: that of noise/|H|² over Rayleigh fading is infinite, and some symbols in deep fades decide it.
    """

    def excess(loss_db: float) -> float:
        raised = genie * 10 ** (loss_db / 10)
        return float(np.mean(raised / (1 + raised)) - np.mean(wiener))

    return float(brentq(excess, -20.0, 40.0))


def measure_loss(run: Run) -> list[Finding]:
    """Implementation loss in the hardest channel that is asked for."""
    images = run.count(40, 6)
    jobs = [
        _Job((run.seed, 2, index, first), replace(HARD, snr_db=snr_db), min(_CHUNK, images - first))
        for index, snr_db in enumerate(SNRS_DB)
        for first in range(0, images, _CHUNK)
    ]
    results = run.map(_trials, jobs)
    points = []
    for snr_db in SNRS_DB:
        rows = [row for job, part in zip(jobs, results, strict=True) if job.channel.snr_db == snr_db for row in part]
        losses = np.array([equivalent_loss_db(wiener, genie) for _, _, genie, wiener in rows])
        loss, interval = float(losses.mean()), mean_interval(losses)
        asked = LOSS_ASKED_DB if snr_db <= LOSS_UP_TO_DB else None
        arrived = sum(row.shape[1] for row in rows) / (images * full_packets(_PACKETS))
        passed = asked is None or loss <= asked
        points.append(Point(f"{snr_db:g} dB", loss, passed, asked, 0.0, interval, "dB", {"symbols_arrived": arrived}))
    with figures.figure(run.out / "fading_loss.png") as (axes,):
        figures.theory(axes, SNRS_DB, [0] * len(SNRS_DB), "genie that knows the channel")
        fine = np.linspace(SNRS_DB[0], SNRS_DB[-1], 26).tolist()
        floor = [one_tap_loss_db(snr_db, HARD.phase_noise_hz) for snr_db in fine]
        figures.theory(axes, fine, floor, "and each symbol's phase, not how it moves within", "-.")
        judged = [snr_db for snr_db in SNRS_DB if snr_db <= LOSS_UP_TO_DB]
        figures.limit(axes, judged, [LOSS_ASKED_DB] * len(judged))
        figures.measured(axes, SNRS_DB, [p.measured for p in points], "whole receiver", 0, [p.interval for p in points])
        axes.set(xlabel="SNR (Es/N0 per data subcarrier), dB", ylabel="loss against the genie, dB", ylim=(-0.1, None))
        axes.set_title("4-tap fading, 40 ppm SFO, 20 kHz CFO, 30 Hz phase noise")
        axes.legend()
    judged_points = [point for point in points if point.asked is not None]
    worst = max(judged_points, key=lambda point: point.measured)
    return [
        Finding(
            title="the same with 4-tap fading, 40 ppm SFO, 20 kHz CFO, 30 Hz phase noise",
            asked=f"≤ {LOSS_ASKED_DB} dB up to {LOSS_UP_TO_DB:g} dB",
            bound="genie channel knowledge, 0 dB",
            measured=f"{min(p.measured for p in judged_points):.2f}…{worst.measured:.2f} dB (worst at {worst.at})",
            trials=f"{images} images of {_PACKETS} packets at each of {len(SNRS_DB)} SNRs",
            points=points,
            plot="fading_loss.png",
            note="by how much the genie's noise must rise for the same mean squared error after Wiener scaling; phase "
            "noise within each symbol alone costs a one-tap equaliser "
            f"{one_tap_loss_db(LOSS_UP_TO_DB, HARD.phase_noise_hz):.2f} dB at {LOSS_UP_TO_DB:g} dB",
            conditions={"channel": vars(HARD)},
        )
    ]


def phase_noise_share(linewidth_hz: float) -> float:
    """Share of the signal that phase noise within an OFDM symbol turns into interference between carriers.

    Over the time T of an FFT a Wiener phase departs from its mean by a variance of 2π·linewidth·T/6 (Pollet, Van
    Bladel and Moeneclaey, IEEE Trans. Commun. 43, 1995, without the common phase).
    """
    return 2 * math.pi * linewidth_hz * DEFAULT.fft_size / DEFAULT.sample_rate_hz / 6


def one_tap_loss_db(snr_db: float, linewidth_hz: float, images: int = 40) -> float:
    """Mean loss of a one-tap equaliser in 4-tap fading that knows the response and every symbol's mean phase.

    The n-th Fourier coefficient of a Wiener phase has a variance ∝ 1/n²: n carriers away, its interference is 3/(π²n²)
    of the whole, and carriers in a fade hear the weak ones beside them most.
    """
    carriers = ofdm.grid(DEFAULT).carriers
    taps = CHANNELS[HARD.fading].draw_taps(images * _PACKETS, DEFAULT, np.random.default_rng(0))
    power = np.abs(taps @ np.exp(-2j * np.pi * np.outer(np.arange(taps.shape[1]), carriers) / DEFAULT.fft_size)) ** 2
    distance = np.abs(np.subtract.outer(carriers, carriers)).clip(1)
    coupling = phase_noise_share(linewidth_hz) * 3 / (np.pi * distance) ** 2
    np.fill_diagonal(coupling, 0)
    noise_level = 10 ** (-snr_db / 10)
    raised, known = (noise_level + power @ coupling) / power, noise_level / power
    parts = zip(np.split(raised, images), np.split(known, images), strict=True)
    return float(np.mean([equivalent_loss_db(one_tap / (1 + one_tap), genie) for one_tap, genie in parts]))


def log_likelihood(error: Float64[np.ndarray, "n"], variance: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """Log-density in nat of circular complex Gaussian errors of squared magnitude `error`."""
    return np.asarray(-np.log(np.pi * variance) - error / variance)


def genie_log_likelihood(variance: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """Its expectation for errors that do have that variance."""
    return np.asarray(-np.log(np.pi * variance) - 1)


def measure_noise_var(run: Run) -> list[Finding]:
    """What the receiver says of each symbol's reliability."""
    images = run.count(40, 6)
    jobs = [
        _Job((run.seed, 3, index, first), channel, min(_CHUNK, images - first))
        for index, channel in enumerate(CONDITIONS.values())
        for first in range(0, images, _CHUNK)
    ]
    results = run.map(_trials, jobs)
    points, curves = [], {}
    for name, channel in CONDITIONS.items():
        rows = [row for job, part in zip(jobs, results, strict=True) if job.channel == channel for row in part]
        arrived = [row[:3, np.isfinite(row[1])] for row in rows]
        gaps = np.array(
            [np.mean(genie_log_likelihood(genie) - log_likelihood(error, claim)) for error, claim, genie in arrived]
        )
        gap = float(gaps.mean())
        passed = gap <= GAP_ASKED_NAT
        loss = {"mean_ratio_db": db(float(np.mean([np.mean(error / genie) for error, _, genie in arrived])))}
        points.append(Point(f"gap, {name}", gap, passed, GAP_ASKED_NAT, 0.0, mean_interval(gaps), "nat/symbol", loss))
        error, claim, _ = np.concatenate(arrived, axis=1)
        parts = np.array_split(np.argsort(claim), _DECILES)
        curves[name] = [(db(float(claim[part].mean())), db(float(error[part].mean()))) for part in parts]
        for number, (said, was) in enumerate(curves[name], 1):
            passed = abs(was - said) <= CALIBRATION_ASKED_DB
            label = f"calibration, {name}, decile {number}"
            points.append(Point(label, was - said, passed, CALIBRATION_ASKED_DB, 0.0, None, "dB"))
    gap_points = [point for point in points if point.at.startswith("gap")]
    _plot_noise_var(run, gap_points, curves)
    worst_gap = max(gap_points, key=lambda point: point.measured)
    worst = max((point for point in points if point not in gap_points), key=lambda point: abs(point.measured))
    gap_text = f"{worst_gap.measured:.3f} nat/symbol ({worst_gap.at.removeprefix('gap, ')})"
    return [
        Finding(
            title="per-symbol noise_var under fading, a narrow-band jammer and packet loss",
            asked=f"log-likelihood within {GAP_ASKED_NAT} nat/symbol of the genie's; "
            f"calibrated within {CALIBRATION_ASKED_DB} dB per decile",
            bound="genie",
            measured=f"gap ≤ {gap_text}; {worst.measured:+.2f} dB ({worst.at.removeprefix('calibration, ')})",
            trials=f"{images} images of {_PACKETS} packets under each of {len(CONDITIONS)} conditions",
            points=points,
            plot="noise_var.png",
            note="the gap holds the loss of the receiver too; it is negative where the receiver cuts the jammer out "
            "before the FFT, whose leakage the genie suffers",
            conditions={name: vars(channel) for name, channel in CONDITIONS.items()},
        )
    ]


def _plot_noise_var(run: Run, gaps: list[Point], curves: dict[str, list[tuple[float, float]]]) -> None:
    with figures.figure(run.out / "noise_var.png", 2) as (left, right):
        places = list(range(len(gaps)))
        figures.theory(left, [-0.5, len(gaps) - 0.5], [0, 0], "genie")
        figures.limit(left, [-0.5, len(gaps) - 0.5], [GAP_ASKED_NAT] * 2)
        left.bar(places, [point.measured for point in gaps], width=0.5, color=figures.COLOURS[: len(gaps)])
        for place, point in zip(places, gaps, strict=True):
            if point.interval:
                left.plot([place, place], point.interval, color="black", linewidth=1.2)
        left.set_xticks(places, [point.at.removeprefix("gap, ") for point in gaps])
        left.set(ylabel="log-likelihood below the genie's, nat/symbol", title="Log-likelihood of the true symbols")
        said_range = [min(c[0][0] for c in curves.values()), max(c[-1][0] for c in curves.values())]
        figures.theory(right, said_range, [0, 0], "calibrated")
        for sign in (1, -1):
            figures.limit(right, said_range, [sign * CALIBRATION_ASKED_DB] * 2, "asked" if sign > 0 else "_")
        for series, (name, curve) in enumerate(curves.items()):
            said = [point[0] for point in curve]
            figures.measured(right, said, [was - claim for claim, was in curve], name, series)
        right.set(xlabel="claimed noise variance of a decile, dB", ylabel="measured over claimed, dB")
        right.set_title("Calibration by decile of the claim")
        left.legend()
        right.legend()
