"""White noise alone: implementation loss, SNR estimate and residual CFO of one-packet images.

Every packet has a delay, phase and CFO of its own that the receiver does not know.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from benchmarks.radio_rows import figures
from benchmarks.radio_rows.trial import (
    Finding,
    Point,
    Run,
    deviation_interval,
    full_packets,
    mean_interval,
    passage,
    ratio_db,
    receive,
)
from sdr.channel import Channel
from sdr.waveform import DEFAULT, Waveform

CFO_HZ = 100e3
SNRS_DB = (-2.0, 0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 28.0)
LOSS_RANGE_DB = (0.0, 25.0)
LOSS_ASKED_DB = 0.5
BIAS_ASKED_DB = 0.15
DEVIATION_ASKED = 1.25
CFO_ASKED = 2.0
_CHUNK = 20


@dataclass(frozen=True)
class _Job:
    seed: tuple[int, ...]
    snr_db: float
    packets: int


def _trials(job: _Job) -> Float64[np.ndarray, "packets 3"]:
    """Per received packet: mean symbol error relative to an ideal channel's, estimated SNR in dB, CFO error in Hz."""
    rng = np.random.default_rng(job.seed)
    rows = []
    for _ in range(job.packets):
        channel = Channel(snr_db=job.snr_db, cfo_hz=float(rng.uniform(-CFO_HZ, CFO_HZ)))
        sent = passage(rng, channel, full_packets(1))
        for image in receive(sent.samples):
            arrived = np.isfinite(image.noise_var)
            error = np.mean(np.abs(image.symbols - sent.symbols)[arrived].astype(np.float64) ** 2)
            rows.append((error * 10 ** (job.snr_db / 10), image.snr_db, image.cfo_hz - channel.cfo_hz))
    return np.array(rows).reshape(-1, 3)


def known_subcarriers(waveform: Waveform) -> int:
    """Known complex values in a full packet: long training, header (once its CRC holds) and pilots."""
    header = waveform.header_symbols * waveform.used_subcarriers
    return 2 * waveform.used_subcarriers + header + waveform.payload_symbols * waveform.pilots


def snr_bound_db(snr_db: float, known: int) -> float:
    """Cramér-Rao bound of the standard deviation of an SNR estimate in dB from known values."""
    return 10 / math.log(10) * math.sqrt((1 + 2 * 10 ** (-snr_db / 10)) / known)


def cfo_bound_hz(snr_db: float, waveform: Waveform, *, preamble_only: bool = False) -> float:
    """Cramér-Rao bound of the standard deviation of a CFO estimate, phase unknown, in Hz.

    With w the known share of the energy at each sample, var f ≥ 1/(8π²ρ Σ w (t - t̄)²) cycles per sample; for w = 1
    over N samples this is 3/(2π²Nρ) in units of 1/N. ρ is the SNR per sample.
    """
    share = waveform.pilots / waveform.used_subcarriers
    known = np.ones(waveform.preamble_samples)
    if not preamble_only:
        header = np.ones(waveform.header_symbols * waveform.symbol_samples)
        payload = np.full(waveform.payload_symbols * waveform.symbol_samples, share)
        known = np.concatenate([known, header, payload])
    times = np.arange(known.size)
    spread = np.sum(known * (times - np.average(times, weights=known)) ** 2)
    per_sample = 10 ** (snr_db / 10) * waveform.used_subcarriers / waveform.fft_size
    return waveform.sample_rate_hz / math.sqrt(8 * math.pi**2 * per_sample * float(spread))


def measure(run: Run) -> list[Finding]:
    """Three properties from one set of packets."""
    packets = run.count(600, 60)
    jobs = [
        _Job((run.seed, 1, index, first), snr_db, min(_CHUNK, packets - first))
        for index, snr_db in enumerate(SNRS_DB)
        for first in range(0, packets, _CHUNK)
    ]
    results = run.map(_trials, jobs)
    data = {
        snr_db: np.concatenate([part for job, part in zip(jobs, results, strict=True) if job.snr_db == snr_db])
        for snr_db in SNRS_DB
    }
    trials = f"{packets} packets at each of {len(SNRS_DB)} SNRs"
    return [_loss(run, data, packets, trials), _snr(run, data, trials), _cfo(run, data, trials)]


def _loss(run: Run, data: dict[float, np.ndarray], packets: int, trials: str) -> Finding:
    points = []
    for snr_db in [value for value in SNRS_DB if LOSS_RANGE_DB[0] <= value <= LOSS_RANGE_DB[1]]:
        loss, interval = ratio_db(data[snr_db][:, 0])
        received = {"packets_received": len(data[snr_db]), "packets_sent": packets}
        passed = loss <= LOSS_ASKED_DB
        points.append(Point(f"{snr_db:g} dB", loss, passed, LOSS_ASKED_DB, 0.0, interval, "dB", received))
    places = [value for value in SNRS_DB if LOSS_RANGE_DB[0] <= value <= LOSS_RANGE_DB[1]]
    with figures.figure(run.out / "implementation_loss.png") as (axes,):
        figures.theory(axes, places, [0] * len(places), "ideal AWGN channel")
        figures.limit(axes, places, [LOSS_ASKED_DB] * len(places))
        figures.measured(axes, places, [p.measured for p in points], "whole receiver", 0, [p.interval for p in points])
        axes.set(xlabel="SNR (Es/N0 per data subcarrier), dB", ylabel="implementation loss, dB", ylim=(-0.1, None))
        axes.set_title("Symbol error in AWGN: unknown timing, CFO ±100 kHz, phase")
        axes.legend()
    worst = max(points, key=lambda point: point.measured)
    return Finding(
        title="implementation loss, AWGN, 0…25 dB",
        asked=f"≤ {LOSS_ASKED_DB} dB",
        bound="0 dB",
        measured=f"{min(p.measured for p in points):.2f}…{worst.measured:.2f} dB (worst at {worst.at})",
        trials=trials,
        points=points,
        plot="implementation_loss.png",
        note="mean squared symbol error over that of an ideal AWGN channel of the same SNR",
        conditions={"fading": "awgn", "cfo_hz": f"uniform in ±{CFO_HZ:g}"},
    )


def _snr(run: Run, data: dict[float, np.ndarray], trials: str) -> Finding:
    known = known_subcarriers(DEFAULT)
    biases, deviations = [], []
    for snr_db in SNRS_DB:
        errors = data[snr_db][:, 1] - snr_db
        bound, bias, deviation = snr_bound_db(snr_db, known), float(errors.mean()), float(errors.std(ddof=1))
        passed = abs(bias) <= BIAS_ASKED_DB
        label = f"{snr_db:g} dB"
        biases.append(Point(f"bias, {label}", bias, passed, BIAS_ASKED_DB, 0.0, mean_interval(errors), "dB"))
        passed = deviation <= DEVIATION_ASKED * bound
        interval = deviation_interval(deviation, len(errors))
        deviations.append(Point(f"sd, {label}", deviation, passed, DEVIATION_ASKED * bound, bound, interval, "dB"))
    with figures.figure(run.out / "snr_estimate.png", 2) as (left, right):
        figures.theory(left, SNRS_DB, [0] * len(SNRS_DB), "unbiased")
        for sign, label in ((1, "asked"), (-1, "")):
            figures.limit(left, SNRS_DB, [sign * BIAS_ASKED_DB] * len(SNRS_DB), label or "_")
        figures.measured(left, SNRS_DB, [p.measured for p in biases], "receiver", 0, [p.interval for p in biases])
        left.set(xlabel="SNR, dB", ylabel="bias of the SNR estimate, dB", title="Bias")
        bounds = [snr_bound_db(snr_db, known) for snr_db in SNRS_DB]
        figures.theory(right, SNRS_DB, bounds, f"Cramér-Rao, n = {known}")
        figures.limit(right, SNRS_DB, [DEVIATION_ASKED * bound for bound in bounds])
        figures.measured(
            right, SNRS_DB, [p.measured for p in deviations], "receiver", 0, [p.interval for p in deviations]
        )
        right.set(xlabel="SNR, dB", ylabel="standard deviation, dB", title="Spread", ylim=(0, None))
        left.legend()
        right.legend()
    largest = max(biases, key=lambda point: abs(point.measured))
    ratio = max(point.measured / (point.bound or 1) for point in deviations)
    return Finding(
        title="SNR estimate, −2…28 dB, AWGN",
        asked=f"bias ≤ {BIAS_ASKED_DB} dB, sd ≤ {DEVIATION_ASKED} × bound",
        bound="Cramér-Rao, 4.343·√((1+2/ρ)/n) dB",
        measured=f"bias {largest.measured:+.3f} dB at worst ({largest.at.split(', ')[1]}), sd ≤ {ratio:.2f} × bound",
        trials=trials,
        points=biases + deviations,
        plot="snr_estimate.png",
        note=f"of one packet, n = {known} known subcarriers: long training, header, pilots",
        conditions={"fading": "awgn", "cfo_hz": f"uniform in ±{CFO_HZ:g}"},
    )


def _cfo(run: Run, data: dict[float, np.ndarray], trials: str) -> Finding:
    points = []
    for snr_db in SNRS_DB:
        errors = data[snr_db][:, 2]
        rms, bound = float(np.sqrt(np.mean(errors**2))), cfo_bound_hz(snr_db, DEFAULT)
        extra = {
            "ratio": rms / bound,
            "bound_of_the_preamble_alone_hz": cfo_bound_hz(snr_db, DEFAULT, preamble_only=True),
        }
        points.append(
            Point(
                f"{snr_db:g} dB",
                rms,
                rms <= CFO_ASKED * bound,
                CFO_ASKED * bound,
                bound,
                deviation_interval(rms, len(errors) + 1),
                "Hz",
                extra,
            )
        )
    with figures.figure(run.out / "residual_cfo.png") as (axes,):
        bounds = [cfo_bound_hz(snr_db, DEFAULT) for snr_db in SNRS_DB]
        alone = [cfo_bound_hz(snr_db, DEFAULT, preamble_only=True) for snr_db in SNRS_DB]
        samples = DEFAULT.preamble_samples
        figures.theory(axes, SNRS_DB, bounds, "Cramér-Rao, all that is known in a packet")
        figures.theory(axes, SNRS_DB, alone, f"Cramér-Rao 3/(2π²Nρ), preamble alone, N = {samples}", "-.")
        figures.limit(axes, SNRS_DB, [CFO_ASKED * bound for bound in bounds])
        figures.measured(axes, SNRS_DB, [p.measured for p in points], "receiver", 0, [p.interval for p in points])
        axes.set(xlabel="SNR, dB", ylabel="rms of the remaining CFO, Hz", yscale="log")
        axes.set_title("CFO of one packet, drawn uniform in ±100 kHz")
        axes.legend()
    worst = max(points, key=lambda point: point.extra["ratio"])
    return Finding(
        title="residual CFO",
        asked=f"≤ {CFO_ASKED:g} × bound",
        bound="Cramér-Rao 3/(2π²Nρ), weighted by what is known",
        measured=f"≤ {worst.extra['ratio']:.2f} × bound (worst at {worst.at}); {points[3].measured:.2f} Hz at 10 dB",
        trials=trials,
        points=points,
        plot="residual_cfo.png",
        note="rms of one packet's estimate against the bound for its preamble, header and pilots together",
        conditions={"fading": "awgn", "cfo_hz": f"uniform in ±{CFO_HZ:g}"},
    )
