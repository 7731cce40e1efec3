"""Pictures of three senders at once through the shipped codec and the whole radio, while packets are lost.

The senders' packets take turns on the air, so that every image arrives in pieces between those of others.
"""

import itertools
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Complex64, UInt8
from skimage import data

from benchmarks.radio_rows import figures
from benchmarks.radio_rows.trial import Finding, Point, Run, db, rate_interval, receive
from flowgraphs import link
from models.codec import Codec
from models.metrics import psnr_db
from models.registry import load_codec
from sdr.channel import Channel
from sdr.framing import plan_frame, side_repetition
from sdr.impairments import apply_channel, draw_channel
from sdr.receive import ReceivedImage
from sdr.transmit import PacketSpan, Transmission
from sdr.waveform import DEFAULT

LOSSES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
CHANNEL = Channel(snr_db=10.0, cfo_hz=20e3, sfo_ppm=10.0)
CBR = 1 / 6
STEP_ASKED_DB = 6.0
"""Largest fall of the mean PSNR per tenth of the packets that counts as smooth."""
RISE_ALLOWED_DB = 0.5
"""Chance of which packets are lost."""
PICTURES = ("astronaut", "chelsea", "coffee")
_MISPLACED = 0.5
"""A mean squared error of a packet's symbols over this means that they stand in the wrong place: that gives about 2."""


@dataclass(frozen=True)
class _Job:
    seed: tuple[int, ...]
    loss: float


@dataclass(frozen=True)
class _Outcome:
    """One picture of one trial."""

    picture: int
    psnr_db: float | None
    """None: it could not be decoded."""
    lost: float
    """Share of its own packets."""
    misplaced: int
    """Packets whose symbols are not the sent ones, or erasures that are not exactly the lost packets'."""


@lru_cache(maxsize=1)
def _senders() -> list[tuple[UInt8[np.ndarray, "h w 3"], link.Sent]]:
    """Photographs that scikit-image brings along, sent in a session each."""
    senders = []
    for session, name in enumerate(PICTURES, 1):
        picture: np.ndarray = getattr(data, name)()
        sent = link.send(_codec(), picture, DEFAULT, cbr=CBR, snr_hint_db=CHANNEL.snr_db, session=session)
        senders.append((picture, sent))
    return senders


@lru_cache(maxsize=1)
def _codec() -> Codec:
    torch.set_num_threads(1)
    return load_codec("lrisc")


def in_turns(
    transmissions: list[Transmission],
) -> tuple[Complex64[np.ndarray, "n"], list[PacketSpan], list[tuple[int, int]]]:
    """Packets of all transmissions, one of each at a time: samples, spans, and (transmission, packet) of each span."""
    longest = max(len(one.packets) for one in transmissions)
    order = [
        (sender, index)
        for index in range(longest)
        for sender, one in enumerate(transmissions)
        if index < len(one.packets)
    ]
    parts, spans, position = [], [], 0
    for sender, index in order:
        span = transmissions[sender].packets[index]
        parts.append(transmissions[sender].samples[span.start_sample : span.start_sample + span.samples])
        spans.append(PacketSpan(position, span.samples))
        position += span.samples
    return np.concatenate(parts), spans, order


def misplaced(sent: link.Sent, image: ReceivedImage, lost: set[int]) -> int:
    """Packets of an image whose symbols are not where they belong."""
    encoded = sent.encoded
    copies = side_repetition(CHANNEL.snr_db, len(encoded.side))
    plan = plan_frame(DEFAULT, len(encoded.symbols), len(encoded.side), copies)
    first, last = plan.side_symbols, plan.side_symbols + plan.jscc_symbols
    wrong = 0
    for index, slots in enumerate(plan.stream_index()):
        own = slots[(slots >= first) & (slots < last)] - first
        came = np.isfinite(image.noise_var[own])
        error = np.abs(image.symbols[own] - encoded.symbols[own])[came] ** 2
        wrong += bool(came.any()) == (index in lost) or bool(came.any() and np.mean(error) > _MISPLACED)
    return wrong


def _trials(job: _Job) -> list[_Outcome]:
    """All pictures through one stream."""
    rng = np.random.default_rng(job.seed)
    senders = _senders()
    samples, spans, order = in_turns([sent.transmission for _, sent in senders])
    drawn = draw_channel(CHANNEL, DEFAULT, len(spans), rng)
    gone = {
        (sender, int(index))
        for sender, (_, sent) in enumerate(senders)
        for index in rng.permutation(len(sent.transmission.packets))[: round(job.loss * len(sent.transmission.packets))]
    }
    drawn = replace(drawn, lost=np.array([packet in gone for packet in order]))
    images = receive(apply_channel(samples, spans, drawn))
    outcomes = []
    for number, (picture, sent) in enumerate(senders):
        lost = {index for sender, index in gone if sender == number}
        own = [image for image in images if image.session == number + 1]
        share = len(lost) / len(sent.transmission.packets)
        quality = None
        if len(own) == 1 and own[0].side == sent.encoded.side:
            quality = psnr_db(picture, link.decode(_codec(), own[0], steps=0, seed=0))
        wrong = sum(misplaced(sent, image, lost) for image in own) + (len(own) > 1)
        outcomes.append(_Outcome(number, quality, share, wrong))
    return outcomes


def measure(run: Run) -> list[Finding]:
    """PSNR over the share of packets that were lost, and what went wrong."""
    streams = run.count(8, 1)
    jobs = [_Job((run.seed, 12, index, number), loss) for index, loss in enumerate(LOSSES) for number in range(streams)]
    results = run.map(_trials, jobs)
    outcomes = {
        loss: [o for job, part in zip(jobs, results, strict=True) if job.loss == loss for o in part] for loss in LOSSES
    }
    points: list[Point] = []
    for loss, row in outcomes.items():
        label = f"{100 * loss:.0f} % lost"
        failed = sum(outcome.psnr_db is None for outcome in row)
        interval = rate_interval(failed, len(row))
        points.append(Point(f"not decoded, {label}", failed / len(row), failed == 0, 0.0, None, interval))
        wrong = sum(outcome.misplaced for outcome in row)
        points.append(Point(f"misaligned or mixed, {label}", wrong, wrong == 0, 0, None, None, "packets"))
    curves = [_curve(outcomes, number) for number in range(len(PICTURES))]
    for name, curve in zip(PICTURES, curves, strict=True):
        for (_, before), (loss, after) in itertools.pairwise(curve):
            fall, extra = before - after, {"psnr_db": after}
            smooth = -RISE_ALLOWED_DB <= fall <= STEP_ASKED_DB
            label = f"fall of PSNR to {100 * loss:.0f} % lost, {name}"
            points.append(Point(label, fall, smooth, STEP_ASKED_DB, None, None, "dB", extra))
    _plot(run, outcomes, curves)
    failures = sum(outcome.psnr_db is None for row in outcomes.values() for outcome in row)
    wrong = sum(outcome.misplaced for row in outcomes.values() for outcome in row)
    steepest = max(point.measured for point in points if point.at.startswith("fall"))
    total = sum(map(len, outcomes.values()))
    return [
        Finding(
            title="loss of 0…60 % of packets",
            asked="every image still decodes, PSNR falls smoothly, none is ever misaligned or mixed with another",
            bound="–",
            measured=f"{failures} of {total} not decoded, {wrong} packets misplaced; mean PSNR "
            f"{np.mean([curve[0][1] for curve in curves]):.1f} → {np.mean([curve[-1][1] for curve in curves]):.1f} dB, "
            f"at most {steepest:.1f} dB per 10 %",
            trials=f"{streams} streams of {len(PICTURES)} interleaved pictures at each of {len(LOSSES)} rates",
            points=points,
            plot="packet_loss.png",
            note=f"shipped codec, direct decoder, CBR 1/{1 / CBR:g}; smooth: at most {STEP_ASKED_DB:g} dB per 10 %",
            conditions={"channel": vars(CHANNEL), "pictures": PICTURES},
        )
    ]


def _curve(outcomes: dict[float, list[_Outcome]], picture: int) -> list[tuple[float, float]]:
    """Mean PSNR of a picture at each loss, over the times that it was decoded."""
    values = {
        loss: [o.psnr_db for o in row if o.picture == picture and o.psnr_db is not None]
        for loss, row in outcomes.items()
    }
    return [(loss, float(np.mean(psnr))) for loss, psnr in values.items() if psnr]


def _plot(run: Run, outcomes: dict[float, list[_Outcome]], curves: list[list[tuple[float, float]]]) -> None:
    with figures.figure(run.out / "packet_loss.png") as (axes,):
        variances = [np.var(picture.astype(np.float64), axis=(0, 1)).mean() for picture, _ in _senders()]
        for number, (name, curve, variance) in enumerate(zip(PICTURES, curves, variances, strict=True)):
            row = [o for part in outcomes.values() for o in part if o.picture == number and o.psnr_db is not None]
            x, y = [100 * outcome.lost for outcome in row], [outcome.psnr_db or 0.0 for outcome in row]
            axes.plot(x, y, figures.MARKERS[number], color=figures.COLOURS[number], markersize=4, alpha=0.35)
            figures.measured(axes, [100 * loss for loss, _ in curve], [psnr for _, psnr in curve], name, number)
            start = 255**2 / 10 ** (curve[0][1] / 10)
            holes = [db(255**2 / ((1 - loss) * start + loss * variance)) for loss in LOSSES]
            label = "_" if number else "if losses cut grey holes into them"
            figures.theory(axes, [100 * loss for loss in LOSSES], holes, label)
        axes.set(xlabel="packets lost, %", ylabel="PSNR, dB", title="Pictures of three senders, packets in turns")
        axes.legend()
