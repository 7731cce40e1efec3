"""Carries out a campaign: passages in, rows into the ledger, tables at the end; goes on wherever it was stopped."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.errors import CampaignError
from calibration.ledger import Ledger, Records
from calibration.measure import FAILED, LOST, Outcome, to_png
from calibration.plan import Design
from calibration.points import SHOWN_PICTURES, Passage, passages, remaining
from calibration.provenance import circumstances
from calibration.recordings import keep, replayed
from calibration.tables import write_tables
from models.errors import ModelError
from models.image import load_image

Source = Callable[[Iterator[Passage]], Iterator[Outcome]]
"""What does the work: the built-in `map` with `measure`, a pool, a cluster."""


@dataclass(frozen=True)
class Summary:
    """How a campaign stands: `points` in all, `done` before this process began, `lost` and `failed` among all."""

    points: int
    done_before: int
    lost: int
    failed: int


def carry_out(
    design: Design,
    folder: Path,
    source: Source,
    *,
    plan_text: str,
    notes: dict[str, Any],
    recorded: Path | None = None,
    show: Callable[[dict[str, Any], int, int], None] = lambda row, done, points: None,
) -> Summary:
    """Measures every point that has no row yet.

    Args:
        folder: the RUN folder; made if it isn't there.
        plan_text: the plan as it was written, to lie beside the results.
        notes: more circumstances, such as the number of workers.
        recorded: RUN folder of a campaign whose recordings are received instead of sending anew.
        show: is told of each row when it is on disk, how many there are, and how many there will be.

    Raises:
        CampaignError: another process has the folder, the plan is another one, no room, or the source gave up. What
            was shown is safe; the same call goes on.
    """
    with Ledger(folder) as ledger:
        document = design.document() | ({"recordings_of": _identity(recorded)} if recorded is not None else {})
        ledger.require_same(document)
        ledger.begin({**circumstances(), **notes})
        _describe(folder, plan_text)
        for number, picture in enumerate(design.pictures[:SHOWN_PICTURES]):
            with suppress(ModelError):  # its rows will say what is wrong with it
                ledger.keep_original(number, to_png(load_image(picture.path)))
        points = sum(len(passage.points) for passage in passages(design))
        done = ledger.done()
        before = len(done)
        todo = remaining(passages(design), done)
        if recorded is not None:
            todo = iter(list(replayed(todo, recorded)))  # all of them are looked for before the first is decoded
        finished = before
        try:
            for outcome in source(todo):
                if outcome.heard is not None:
                    name = keep(folder, outcome.passage, outcome.heard)
                    for row in outcome.rows:
                        row["recording"] = name
                ledger.record(outcome.rows, outcome.pictures)
                for row in outcome.rows:
                    finished += 1
                    show(row, finished, points)
        except BaseException:
            with suppress(CampaignError):  # the first error is the one to tell
                write_tables(folder)
            raise
        write_tables(folder)
    with Records(folder) as records:
        states = [row["status"] for row in records.rows()]
    return Summary(points, before, states.count(LOST), states.count(FAILED))


def _identity(folder: Path) -> dict[str, Any]:
    """Which campaign's recordings are decoded."""
    with Records(folder) as records:
        return {"plan": records.design["plan"], "models": records.design["models"]}


def _describe(folder: Path, plan_text: str) -> None:
    """plan.yaml and run.json, for people; the ledger has the same and is what counts."""
    with Records(folder) as records:
        document = {"design": records.design, "sessions": records.sessions}
    for name, text in (("plan.yaml", plan_text), ("run.json", json.dumps(document, indent=2) + "\n")):
        unfinished = folder / f".{name}.part"
        try:
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(folder / name)
        except OSError as error:
            raise CampaignError(f"{folder / name} cannot be written: {error.strerror}") from error
