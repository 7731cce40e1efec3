"""State of a training on disk: one JSON and one tensor file, whole after any crash, and a log that agrees with them."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.errors import ModelError

STATE = "checkpoint.json"
LOG = "log.jsonl"


def save(out: Path, state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Replaces the checkpoint in `out`; `state` has a `step`."""
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    # The JSON names the tensor file that belongs to it, so a crash between the two renames leaves a whole pair.
    name = f"checkpoint-{state['step']}.safetensors"
    save_file(tensors, out / f"{name}.tmp")
    os.replace(out / f"{name}.tmp", out / name)
    replace_text(out / STATE, json.dumps({**state, "tensors": name}))
    for old in out.glob("checkpoint-*.safetensors*"):
        if old.name != name:
            old.unlink()


def load_state(out: Path) -> dict[str, Any] | None:
    """The JSON part; None where there is no checkpoint.

    Raises:
        ModelError: damaged.
    """
    if not (out / STATE).exists():
        return None
    try:
        state: dict[str, Any] = json.loads((out / STATE).read_text())
        if not {"step", "seconds", "tensors", "config"} <= state.keys():
            raise ValueError("entries are missing")
    except (OSError, ValueError, AttributeError) as error:
        raise _damaged(out, error) from error
    return state


def load_tensors(out: Path, state: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors that belong to `state`.

    Raises:
        ModelError: damaged.
    """
    try:
        return load_file(out / state["tensors"])
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise _damaged(out, error) from error


def _damaged(out: Path, error: Exception) -> ModelError:
    reason = str(error).splitlines()[0]
    return ModelError(f"{out}: its checkpoint is damaged ({reason}); remove the folder to begin anew")


def log(out: Path, record: dict[str, Any]) -> None:
    """Appends a line to the log."""
    with (out / LOG).open("a") as handle:
        handle.write(json.dumps(record) + "\n")


def read_log(out: Path) -> list[dict[str, Any]]:
    """Records of the log; what a crash left of a line is left out."""
    records = []
    if (out / LOG).exists():
        for line in (out / LOG).read_text().splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict) and isinstance(record.get("step"), int):
                    records.append(record)
    return records


def rewind_log(out: Path, step: int) -> None:
    """Drops what an interrupted run logged after its last checkpoint, half a line perhaps: it is made again."""
    if (out / LOG).exists():
        kept = [record for record in read_log(out) if record["step"] <= step]
        replace_text(out / LOG, "".join(json.dumps(record) + "\n" for record in kept))


def replace_text(path: Path, text: str) -> None:
    """Writes a file as a whole or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
