"""Dataclasses of arrays that hold many packets along the first axis of each array, or one packet without that axis."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Int64

Batch = TypeVar("Batch")


def take(batch: Batch, index: int | Int64[np.ndarray, "taken"] | Bool[np.ndarray, "packets"]) -> Batch:
    """Some packets of a batch, or a single one."""
    return _map(lambda values: np.asarray(values[index]), batch)


def merge(parts: list[tuple[Int64[np.ndarray, "_"], Batch]]) -> Batch:
    """One batch of several; with each comes the place of each of its packets."""
    order = np.argsort(np.concatenate([places for places, _ in parts]))
    return _map(lambda *values: np.concatenate(values)[order], *(part for _, part in parts))


def _map(function: Callable[..., Any], *batches: Batch) -> Batch:
    """Applied to each array, however deep it lies."""
    kind: Any = type(batches[0])
    columns = [[getattr(batch, name) for batch in batches] for name in _names(kind)]
    mapped = [_map(function, *column) if is_dataclass(column[0]) else function(*column) for column in columns]
    result: Batch = kind(*mapped)
    return result


@lru_cache(maxsize=16)
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
