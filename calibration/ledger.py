"""The ledger of a campaign: every result in an SQLite file, on disk before anybody is told of it.

One process writes at a time, held off by a lock on the folder; any number read.
"""

import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from calibration.errors import CampaignError

RESULTS = {
    "point": "INTEGER",
    "image": "TEXT",
    "model": "TEXT",
    "snr_db": "REAL",
    "snr_db_estimated": "REAL",
    "cbr_asked": "REAL",
    "cbr_payload": "REAL",
    "cbr": "REAL",
    "cbr_total": "REAL",
    "channel": "TEXT",
    "steps": "INTEGER",
    "steps_asked": "INTEGER",
    "roi": "TEXT",
    "repeat": "INTEGER",
    "seed": "INTEGER",
    "status": "TEXT",
    "reason": "TEXT",
    "psnr_db": "REAL",
    "ms_ssim": "REAL",
    "lpips": "REAL",
    "psnr_roi_db": "REAL",
    "lpips_roi": "REAL",
    "packets_sent": "INTEGER",
    "packets_received": "INTEGER",
    "recording": "TEXT",
}
"""Columns of the results in their order, with SQLite's types."""
_FILE = "ledger.sqlite"
_LOCK = "lock"


class Ledger:
    """The ledger of one RUN folder, open for writing. Context manager.

    Raises CampaignError if another process writes in the folder, OSError where it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder)
        self._database = _connect(folder)
        columns = ", ".join(f"{name} {kind}" for name, kind in RESULTS.items())
        with self._writing():
            self._database.execute(f"CREATE TABLE IF NOT EXISTS results ({columns}, PRIMARY KEY (point))")
            for table in (
                "facts (name TEXT PRIMARY KEY, value TEXT)",
                "sessions (session INTEGER PRIMARY KEY, started TEXT, value TEXT)",
                "effort (point INTEGER PRIMARY KEY, session INTEGER, seconds REAL)",
                "pictures (point INTEGER PRIMARY KEY, png BLOB)",
                "originals (number INTEGER PRIMARY KEY, png BLOB)",
            ):
                self._database.execute(f"CREATE TABLE IF NOT EXISTS {table}")
        self._session: int | None = None

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
        os.close(self._lock)

    def require_same(self, document: Mapping[str, Any]) -> None:
        """Note what this campaign is, or make sure that it is what was noted.

        Raises CampaignError with the difference.
        """
        text = json.dumps(document, sort_keys=True)
        known = self._database.execute("SELECT value FROM facts WHERE name = 'design'").fetchone()
        if known is None:
            with self._writing():
                self._database.execute("INSERT INTO facts VALUES ('design', ?)", [text])
        elif known[0] != text:
            changes = difference(json.loads(known[0]), json.loads(text))
            shown = "; ".join(changes[:5]) + (f"; and {len(changes) - 5} more" if len(changes) > 5 else "")
            raise CampaignError(f"the plan is not the one this folder was begun with: {shown}; choose another --out")

    def begin(self, circumstances: Mapping[str, Any]) -> None:
        """Note the circumstances of this process; the rows from now on are its."""
        started = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        with self._writing():
            cursor = self._database.execute(
                "INSERT INTO sessions (started, value) VALUES (?, ?)", [started, json.dumps(dict(circumstances))]
            )
        self._session = cursor.lastrowid

    def keep_original(self, number: int, png: bytes) -> None:
        """Keep the plan's picture of that number, to be shown beside what was received."""
        with self._writing():
            self._database.execute("INSERT OR IGNORE INTO originals VALUES (?, ?)", [number, png])

    def done(self) -> set[int]:
        """Points that have their row."""
        return {point for (point,) in self._database.execute("SELECT point FROM results")}

    def record(self, rows: list[dict[str, Any]], pictures: Mapping[int, bytes]) -> None:
        """Put down rows, all or none; when this returns they are on disk.

        Raises CampaignError if there is no room on it.
        """
        names = ", ".join(RESULTS)
        marks = ", ".join("?" * len(RESULTS))
        with self._writing():
            for row in rows:
                values = [row.get(name) for name in RESULTS]
                self._database.execute(f"INSERT INTO results ({names}) VALUES ({marks})", values)
                self._database.execute(
                    "INSERT INTO effort VALUES (?, ?, ?)", [row["point"], self._session, row.get("seconds")]
                )
            for point, png in pictures.items():
                self._database.execute("INSERT INTO pictures VALUES (?, ?)", [point, png])

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._database:
                yield
        except sqlite3.OperationalError as error:
            raise CampaignError(
                f"the ledger cannot be written ({error}): make room; what was printed is safe, the same command goes on"
            ) from error


class Records:
    """What a RUN folder's ledger holds, to be read. Raises CampaignError if it has none or a broken one."""

    def __init__(self, folder: Path) -> None:
        if not (folder / _FILE).is_file():
            raise CampaignError(f"{folder} is no folder of a campaign: it has no {_FILE}")
        try:
            self._database = sqlite3.connect(folder / _FILE, timeout=30)
            facts = dict(self._database.execute("SELECT name, value FROM facts"))
            sessions = self._database.execute("SELECT session, started, value FROM sessions ORDER BY session")
            self.design: dict[str, Any] = json.loads(facts["design"])
            self.sessions = [{"session": n, "started": at, **json.loads(value)} for n, at, value in sessions]
        except (sqlite3.Error, KeyError, ValueError) as error:
            raise CampaignError(f"{folder / _FILE} cannot be read: {error}") from error

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def rows(self) -> Iterator[dict[str, Any]]:
        """The results in the order of the plan."""
        for values in self._database.execute(f"SELECT {', '.join(RESULTS)} FROM results ORDER BY point"):
            yield dict(zip(RESULTS, values, strict=True))

    def seconds(self) -> dict[tuple[str, int], float]:
        """Mean time of a point by model and steps."""
        query = "SELECT model, steps, AVG(seconds) FROM results JOIN effort USING (point) GROUP BY model, steps"
        return {(model, steps): mean for model, steps, mean in self._database.execute(query) if mean is not None}

    def picture(self, point: int) -> bytes | None:
        """PNG of what was received at a point, where it was kept."""
        return self._blob("SELECT png FROM pictures WHERE point = ?", point)

    def original(self, number: int) -> bytes | None:
        """PNG of the plan's picture of that number, where it was kept."""
        return self._blob("SELECT png FROM originals WHERE number = ?", number)

    def _blob(self, query: str, key: int) -> bytes | None:
        found = self._database.execute(query, [key]).fetchone()
        return None if found is None else bytes(found[0])


def difference(old: Any, new: Any, name: str = "") -> list[str]:
    """Where two JSON documents differ: 'plan.snr_db was [0], is [0, 10]'."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        inner = (difference(old.get(k), new.get(k), f"{name}.{k}" if name else k) for k in keys)
        return [line for lines in inner for line in lines]
    return [] if old == new else [f"{name} was {_brief(old)}, is {_brief(new)}"]


def _brief(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value)
    return text if len(text) <= 100 else text[:97] + "…"


def _connect(folder: Path) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(folder / _FILE, timeout=30)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")  # a commit is on disk, not only with the operating system
    except sqlite3.Error as error:
        raise CampaignError(f"{folder / _FILE} cannot be used: {error}") from error
    return database


def _lock(folder: Path) -> int:
    """Descriptor of the folder's lock, which ends with this process. Raises CampaignError if another one has it."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise CampaignError(f"{folder} is in use by process {holder}: wait for it, or choose another --out") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
