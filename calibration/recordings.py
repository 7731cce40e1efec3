"""The recordings of a campaign: written beside its ledger, and found again to be decoded anew."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from calibration.errors import CampaignError
from calibration.ledger import Records
from calibration.measure import Heard
from calibration.plan import DIGITAL
from calibration.points import Passage, SentFacts
from sdr.recording import open_recording, write_recording
from sdr.waveform import DEFAULT

_FOLDER = "recordings"
_Key = tuple[Any, ...]


def keep(folder: Path, passage: Passage, heard: Heard) -> str:
    """Writes what was heard on a passage; returns the file's name within `folder`. Raises SdrError."""
    name = f"{_FOLDER}/{passage.points[0].index:07d}.sigmf-meta"
    (folder / _FOLDER).mkdir(exist_ok=True)
    facts = {"picture": passage.picture.name, "model": passage.weights}
    write_recording(folder / name, heard.samples, DEFAULT, heard.packets, facts, heard.truth)
    return name


def replayed(passages: Iterator[Passage], folder: Path) -> Iterator[Passage]:
    """The same passages, received from the recordings of another campaign.

    A recording holds the symbols of the model that sent it: what can decode them are the same weights with any number
    of steps, and other weights whose sender's part is the same.

    Raises CampaignError where there is no such recording.
    """
    found = _index(folder)
    encoders = {key[-1] for key in found}
    for passage in passages:
        if passage.weights == DIGITAL:
            yield passage
            continue
        if passage.encoder not in encoders:
            raise CampaignError(
                f"nothing in {folder} was sent with the encoder of {passage.weights!r}, and a recording can only be "
                "decoded by a model with the encoder that sent it"
            )
        coordinates = passage.cbr, passage.channel, passage.roi, passage.repeat
        key = _key(passage.picture.name, passage.snr_db, passage.hint_db, *coordinates)
        if (entry := found.get((*key, passage.encoder))) is None:
            raise CampaignError(
                f"{folder} has no recording of {passage.picture.name} at {passage.snr_db:g} dB, hint "
                f"{passage.hint_db:g} dB, CBR {passage.cbr:.4g}, {passage.channel}, region {passage.roi}, "
                f"repeat {passage.repeat} for {passage.weights!r}"
            )
        path, truth = entry
        sent = SentFacts(**{field.name: truth[field.name] for field in fields(SentFacts)})
        yield replace(passage, recording=str(path), sent=sent, seed=truth["seed"], keep_recording=False)


def _index(folder: Path) -> dict[_Key, tuple[Path, Mapping[str, Any]]]:
    """Recordings by what was sent, how and through what."""
    with Records(folder) as records:
        names = sorted({row["recording"] for row in records.rows() if row["recording"]})
    if not names:
        raise CampaignError(f"the campaign {folder} kept no recordings: its plan needs keep_recordings: true")
    found: dict[_Key, tuple[Path, Mapping[str, Any]]] = {}
    for name in names:
        notes = open_recording(folder / name).annotations
        truths = [note for note in notes if note.get("core:label") == "truth"]
        if not truths:
            raise CampaignError(f"{folder / name} does not say what was sent: its annotation 'truth' is missing")
        truth = {key.removeprefix("lrisc:"): value for key, value in truths[0].items()}
        roi = None if truth["roi"] == "none" else truth["roi"]
        hint_db = truth.get("hint_db", truth["snr_db"])  # older recordings have no other
        coordinates = truth["cbr_asked"], truth["channel"], roi, truth["repeat"]
        key = _key(truth["picture"], truth["snr_db"], hint_db, *coordinates)
        found[(*key, truth["encoder_sha256"])] = (folder / name, truth)
    return found


def _key(picture: str, snr_db: float, hint_db: float, cbr: float, channel: str, roi: str | None, repeat: int) -> _Key:
    return picture, float(snr_db), float(hint_db), round(cbr, 9), channel, roi, repeat
