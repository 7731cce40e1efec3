"""The points of a campaign: which there are, in which order, and the seed of each from its own coordinates."""

import hashlib
import itertools
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from calibration.plan import Design, Picture, mask_file
from sdr.channel import Channel


@dataclass(frozen=True)
class Point:
    """One row of the results. `index` is its place in the plan."""

    index: int
    model: str
    steps_asked: int | None
    steps: int


@dataclass(frozen=True)
class Passage:
    """One picture sent once with one set of weights, and the points that are decoded from what was received.

    The unit of work: all that a worker needs to know, and nothing that depends on when or where it works.
    """

    picture: Picture
    snr_db: float
    cbr: float
    channel: str
    conditions: Channel
    roi: str | None
    """As in the plan."""
    favoured: str | None
    """The same for this picture, as `load_roi` takes it."""
    measured: str | None
    """Region that is measured apart: the favoured one, or the plan's first where none is favoured."""
    repeat: int
    seed: int
    hint_db: float
    """What the sender takes the SNR for."""
    weights: str
    """What `load_codec` takes, or one of the models without weights."""
    digest: str
    encoder: str
    """Hash of the sender's part of the weights."""
    points: tuple[Point, ...]
    keep_pictures: bool
    keep_recording: bool
    recording: str | None = None
    """A recording to take instead of sending; then `sent` is what was noted when it was made."""
    sent: "SentFacts | None" = None


@dataclass(frozen=True)
class SentFacts:
    """What a receiver of a recording cannot know: the sender's weights and session, and what it spent."""

    weights_sha256: str
    session: int
    cbr_payload: float
    cbr: float
    cbr_total: float
    packets_sent: int


SHOWN_PICTURES = 3
"""Of so many pictures, the first of the plan, what was received is kept for the report."""


def derive_seed(seed: int, picture: str, snr_db: float, cbr: float, channel: str, repeat: int) -> int:
    """32 bits from the plan's seed and the coordinates of a channel realisation, by SHA-256.

    Neither order nor worker nor the other points have a part in it. Models, steps and regions of interest don't either:
    they are compared over one and the same channel.
    """
    coordinates = json.dumps([seed, picture, float(snr_db), float(cbr), channel, repeat])
    return int.from_bytes(hashlib.sha256(coordinates.encode()).digest()[:4], "big")


def passages(design: Design) -> Iterator[Passage]:
    """All work of a campaign in the order of the plan, picture by picture."""
    plan, index = design.plan, 0
    names = list(dict.fromkeys(name for name, _, _ in design.weights))
    hashes = {found.model: found for found in design.weights.values()}
    for number, picture in enumerate(design.pictures):
        located = {roi: mask_file(roi, picture) or roi for roi in plan.roi}
        first = next((region for region in located.values() if region is not None), None)
        cells = itertools.product(plan.snr_db, plan.ratios, design.channels, plan.roi, range(plan.repeats))
        for snr_db, cbr, channel, roi, repeat in cells:
            by_weights: dict[str, list[Point]] = {}
            for name in names:
                if (found := design.weights.get((name, snr_db, cbr))) is not None:
                    for asked, steps in found.steps:
                        by_weights.setdefault(found.model, []).append(Point(index, name, asked, steps))
                        index += 1
            for weights, points in by_weights.items():
                yield Passage(
                    picture=picture,
                    snr_db=snr_db,
                    cbr=cbr,
                    channel=channel,
                    conditions=replace(design.channels[channel], snr_db=snr_db),
                    roi=roi,
                    favoured=located[roi],
                    measured=located[roi] or first,
                    repeat=repeat,
                    seed=derive_seed(plan.seed, picture.name, snr_db, cbr, channel, repeat),
                    hint_db=snr_db if plan.hint_db is None else plan.hint_db,
                    weights=weights,
                    digest=hashes[weights].digest,
                    encoder=hashes[weights].encoder,
                    points=tuple(points),
                    keep_pictures=number < SHOWN_PICTURES and repeat == 0,
                    keep_recording=plan.keep_recordings,
                )


def remaining(all_passages: Iterator[Passage], done: Collection[int]) -> Iterator[Passage]:
    """Passages with points that are not done, and these points alone."""
    for passage in all_passages:
        points = tuple(point for point in passage.points if point.index not in done)
        if points:
            yield replace(passage, points=points)
