"""Results as they come, one line of JSON each, so that nothing measured is lost and nothing is measured twice."""

import hashlib
import json
import os
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.quality_rows.trial import Sources, Trial, mask_path
from models.weights import verify


class Store:
    """Measures by trial, weights and picture. A trial with other weights or another picture is another trial.

    Args:
        path: file of lines; made with the first result.
    """

    def __init__(self, path: Path, sources: Sources) -> None:
        self.path, self.sources = path, sources
        self.cards = {role: verify(model) for role, model in sources.models.items()}
        self._results: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    record = json.loads(line)
                    self._results[record["key"]] = record["measures"]
                except (ValueError, KeyError, TypeError):  # half a line, from a run that was killed
                    continue

    def get(self, trial: Trial) -> dict[str, Any] | None:
        """Measures; None where it was not measured, or nothing arrived."""
        if trial.model not in self._known:
            return None
        found = self._results.get(self._key(trial))
        return None if found is None or "error" in found else found

    def error(self, trial: Trial) -> str | None:
        """Why nothing arrived."""
        found = self._results.get(self._key(trial)) if trial.model in self._known else None
        return found["error"] if found and "error" in found else None

    def missing(self, trials: list[Trial]) -> list[Trial]:
        """Those still to be measured, each once."""
        unique = dict.fromkeys(trial for trial in trials if trial.model in self._known)
        return [trial for trial in unique if self._key(trial) not in self._results]

    def add(self, trial: Trial, measures: dict[str, Any], commit: str) -> None:
        """Writes a result through to the disk."""
        key = self._key(trial)
        self._results[key] = measures
        line = json.dumps({"key": key, "trial": asdict(trial), "measures": measures, "commit": commit})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as handle:
            handle.write(line + "\n")
            handle.flush()
            os.fsync(handle.fileno())

    def _key(self, trial: Trial) -> str:
        path = self.sources.path(trial)
        files = (path,) if trial.roi is None else (path, mask_path(path))
        return trial.key(self._identity(trial.model), _hash(files))

    @property
    def _known(self) -> set[str]:
        return {"digital", *self.cards}

    def _identity(self, role: str) -> str:
        """Of weights and of what was chosen for them: other defaults give other pictures."""
        if role == "digital":
            return ""
        card = self.cards[role]
        chosen = repr((card.default_steps, card.choices)).encode()
        return f"{card.digest[:16]}-{hashlib.sha256(chosen).hexdigest()[:8]}"


@cache
def _hash(paths: tuple[Path, ...]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]
