"""Measures one passage of a campaign: the same numbers wherever and whenever it is done."""

import functools
import io
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex64, Float32, UInt8
from PIL import Image
from threadpoolctl import threadpool_limits

from calibration.errors import CampaignError
from calibration.plan import DIGITAL, DIGITAL_REAL, RADIO
from calibration.points import Passage, Point, SentFacts
from flowgraphs import link
from flowgraphs.digital import DigitalLink
from flowgraphs.errors import LinkError
from models.codec import Codec
from models.digital import digital_reference
from models.errors import ModelError
from models.image import load_image
from models.metrics import psnr_db, quality
from models.registry import load_codec
from models.roi_mask import load_roi
from models.side import pack, unpack
from sdr.errors import SdrError
from sdr.receive import ReceivedImage, Receiver
from sdr.recording import open_recording
from sdr.transmit import PacketSpan, Transmission
from sdr.waveform import DEFAULT

OK, LOST, FAILED = "ok", "lost", "failed"
"""Status of a row. Of a lost picture, flat grey is measured, which is what its receiver would see."""
_GREY = 128
_SMALLEST_CROP = 31  # pixels a side, of LPIPS

_turn = threading.Lock()  # a cluster's worker may have threads, but one passage at a time has the process's cores


@dataclass(frozen=True, eq=False)
class Heard:
    """What a receiver heard, for a recording."""

    samples: Complex64[np.ndarray, "n"]
    packets: tuple[PacketSpan, ...]
    truth: dict[str, Any]


@dataclass(eq=False)
class Outcome:
    """What came out of a passage: rows for the ledger, and whatever the passage was to keep."""

    passage: Passage
    rows: list[dict[str, Any]] = field(default_factory=list)
    pictures: dict[int, bytes] = field(default_factory=dict)
    """PNG by point."""
    heard: Heard | None = None


Air = Callable[[Transmission, float], Complex64[np.ndarray, "n"]]
"""What is heard of a transmission, at an SNR in dB. Raises SdrError if that cannot be had."""


def measure(passage: Passage, air: Air | None = None) -> Outcome:
    """Sends or replays, receives, decodes and measures. What goes wrong becomes rows with a reason.

    On one thread, because sums depend on how many share them. Without `air` through the software channel.

    Raises:
        CampaignError: this machine's weights cannot be loaded, or are not those of the plan; of `air`, that it is gone.
    """
    with _turn, threadpool_limits(1):
        torch.set_num_threads(1)
        outcome, begun = Outcome(passage), time.perf_counter()
        try:
            _measure(outcome, air)
        except CampaignError:
            raise
        except (ModelError, SdrError) as error:
            _fail(outcome, str(error))
        except Exception as error:  # of one picture among thousands; it must not end the others' campaign
            _fail(outcome, f"{type(error).__name__}: {error}")
        for row in outcome.rows:
            row["seconds"] = (time.perf_counter() - begun) / len(outcome.rows)
        return outcome


def failed(passage: Passage, reason: str) -> Outcome:
    """The outcome of a passage that could not be measured."""
    outcome = Outcome(passage)
    _fail(outcome, reason)
    return outcome


def _fail(outcome: Outcome, reason: str) -> None:
    done = {row["point"] for row in outcome.rows}
    reason = " ".join(reason.split())
    for point in outcome.passage.points:
        if point.index not in done:
            outcome.rows.append({**_coordinates(outcome.passage, point), "status": FAILED, "reason": reason})


def _measure(outcome: Outcome, air: Air | None) -> None:
    passage = outcome.passage
    image = _picture(passage.picture.path)
    region = _mask(passage.measured, passage.picture.path)
    if passage.weights == DIGITAL:
        picture, ratio = _digital(passage.picture.path, passage.cbr, passage.snr_db)
        _add(outcome, passage.points[0], image, picture, region, {"cbr_payload": ratio, "cbr": ratio})
        return
    codec = open_codec(passage.weights, passage.digest)
    sent, received = _replay(passage) if passage.recording else _send(outcome, codec, image, air)
    facts: dict[str, Any] = {**vars(sent), "packets_received": 0}
    if received is not None:
        facts |= {"snr_db_estimated": received.snr_db, "packets_received": received.packets_received}
    for point in passage.points:
        decoded, lost = None, None
        if received is None:
            lost = "no packet was recognised"
        else:
            try:
                decoded = link.decode(codec, received, steps=point.steps, seed=passage.seed)
            except LinkError as error:
                lost = str(error)
        _add(outcome, point, image, decoded, region, facts, lost)


def _send(
    outcome: Outcome, codec: Codec, image: UInt8[np.ndarray, "h w 3"], air: Air | None
) -> tuple[SentFacts, ReceivedImage | None]:
    """Through the software channel, drawn as `flowgraphs.link.loopback` draws it for this seed, or between radios."""
    passage = outcome.passage
    favoured = _mask(passage.favoured, passage.picture.path)
    rng = np.random.default_rng(passage.seed)
    session = int(rng.integers(1 << 16))
    sent = link.send(
        codec, image, DEFAULT, cbr=passage.cbr, snr_hint_db=passage.hint_db, mask=favoured, session=session
    )
    spans = sent.transmission.packets
    facts = SentFacts(passage.digest, session, sent.cbr_payload, sent.cbr, sent.cbr_total, len(spans))
    if air is None:
        samples = link.through_air(sent.transmission, DEFAULT, passage.conditions, rng)
    else:
        samples, spans = air(sent.transmission, passage.snr_db), ()  # nobody knows when they came
    if passage.keep_recording:
        outcome.heard = Heard(samples, spans, _truth(passage, facts))
    return facts, strongest([samples], session)


def _replay(passage: Passage) -> tuple[SentFacts, ReceivedImage | None]:
    """From a recording that the same encoder's symbols are in."""
    assert passage.recording is not None and passage.sent is not None
    received = strongest(open_recording(Path(passage.recording)).chunks(), passage.sent.session)
    other = passage.sent.weights_sha256 != passage.digest
    if other and received is not None and received.side is not None:
        # It holds the number of the weights that it was sent with; what the sender used of them is the same.
        side = replace(unpack(received.side), model_id=int(passage.digest[:2], 16))
        received = replace(received, side=pack(side))
    return passage.sent, received


def strongest(chunks: list[np.ndarray] | Iterator[np.ndarray], session: int) -> ReceivedImage | None:
    """The image of a session, of several the one of which most came, or None."""
    images = [found for found in link.listen(chunks, Receiver(DEFAULT)) if found.session == session]
    return max(images, key=lambda found: found.packets_received, default=None)


def _add(
    outcome: Outcome,
    point: Point,
    image: UInt8[np.ndarray, "h w 3"],
    picture: UInt8[np.ndarray, "h w 3"] | None,
    region: Float32[np.ndarray, "h w"] | None,
    facts: dict[str, Any],
    lost: str | None = None,
) -> None:
    """The row of a decoded picture, or of one that was `lost`."""
    shown = np.full_like(image, _GREY) if picture is None else picture
    measured = quality(image, shown)
    row = {**_coordinates(outcome.passage, point), **facts, "status": LOST if lost else OK, "reason": lost}
    row |= {"psnr_db": measured.psnr_db, "ms_ssim": measured.ms_ssim, "lpips": measured.lpips}
    if region is not None and (region >= 0.5).any():
        row |= _inside(image, shown, region)
    outcome.rows.append(row)
    if outcome.passage.keep_pictures and picture is not None:
        outcome.pictures[point.index] = to_png(picture)


def to_png(picture: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """A picture as a file in memory."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    return file.getvalue()


def bounding_box(region: Float32[np.ndarray, "h w"]) -> tuple[slice, slice]:
    """Rows and columns of the smallest box around a region that is not empty."""
    rows, columns = (np.flatnonzero((region >= 0.5).any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _inside(
    image: UInt8[np.ndarray, "h w 3"], shown: UInt8[np.ndarray, "h w 3"], region: Float32[np.ndarray, "h w"]
) -> dict[str, Any]:
    """PSNR of the region's pixels, and LPIPS of the box around it."""
    inside = region >= 0.5
    box = bounding_box(region)
    crop = np.ascontiguousarray(image[box]), np.ascontiguousarray(shown[box])
    large = min(crop[0].shape[:2]) >= _SMALLEST_CROP
    return {
        "psnr_roi_db": psnr_db(image[inside][None], shown[inside][None]),
        "lpips_roi": quality(*crop).lpips if large else None,
    }


def _coordinates(passage: Passage, point: Point) -> dict[str, Any]:
    return {
        "point": point.index,
        "image": passage.picture.name,
        "model": point.model,
        "snr_db": passage.snr_db,
        "cbr_asked": passage.cbr,
        "channel": passage.channel,
        "steps": point.steps,
        "steps_asked": point.steps_asked,
        "roi": passage.roi,
        "repeat": passage.repeat,
        "seed": passage.seed,
    }


def _truth(passage: Passage, facts: SentFacts) -> dict[str, Any]:
    """What a recording's annotation says of it: what was sent, and through what."""
    conditions = {name: value for name, value in vars(passage.conditions).items() if value is not None}
    if passage.channel == RADIO:
        conditions = {"snr_db": passage.snr_db}  # what was asked of them; all else is theirs
    return {
        "picture": passage.picture.name,
        "model": passage.weights,
        "encoder_sha256": passage.encoder,
        "hint_db": passage.hint_db,
        "cbr_asked": passage.cbr,
        "channel": passage.channel,
        "roi": passage.roi or "none",
        "repeat": passage.repeat,
        "seed": passage.seed,
        **vars(facts),
        **conditions,
    }


@functools.lru_cache(maxsize=2)
def _picture(path: str) -> UInt8[np.ndarray, "h w 3"]:
    image: np.ndarray = load_image(path)
    return image


@functools.lru_cache(maxsize=8)
def _mask(spec: str | None, path: str) -> Float32[np.ndarray, "h w"] | None:
    return None if spec is None else load_roi(spec, _picture(path))


@functools.lru_cache(maxsize=2)
def _digital(path: str, cbr: float, snr_db: float) -> tuple[UInt8[np.ndarray, "h w 3"], float]:
    """Picture of the ideal code, which knows neither channels nor repeats, and the ratio that it may use."""
    image = _picture(path)
    return digital_reference(image, cbr, snr_db).image, int(cbr * image.size) / image.size


@functools.lru_cache(maxsize=16)
def open_codec(weights: str, digest: str) -> Codec:
    """The codec of a passage, on the GPU where there is one.

    Raises:
        CampaignError: it cannot be loaded, or its weights are not those of the plan: no fault of a picture's.
    """
    codec: Codec
    try:
        if weights == DIGITAL_REAL:
            codec = DigitalLink()
        else:
            codec = load_codec(weights, "cuda" if torch.cuda.is_available() else "cpu")
    except ModelError as error:
        raise CampaignError(f"model {weights!r}: {error}") from error
    if codec.digest != digest:
        raise CampaignError(f"the weights of {weights!r} here are {codec.digest[:12]}…, in the plan {digest[:12]}…")
    return codec
