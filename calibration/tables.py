"""The results of a campaign as files that other programs read: CSV and Parquet, whole or not at all."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from calibration.errors import CampaignError
from calibration.ledger import RESULTS, Records

_BATCH = 10_000  # rows in memory at a time


def write_tables(folder: Path) -> None:
    """Writes results.csv and results.parquet from the ledger, in the order of the plan.

    Raises CampaignError if there is no room for them; the ledger has everything all the same.
    """
    for name, write in (("results.csv", _write_csv), ("results.parquet", _write_parquet)):
        path = folder / name
        unfinished = path.with_name(f".{name}.{os.getpid()}.part")
        try:
            with Records(folder) as records:
                write(unfinished, records.rows())
            os.replace(unfinished, path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise CampaignError(f"{path} cannot be written: {reason}; the ledger is whole, run again") from error
        finally:
            unfinished.unlink(missing_ok=True)


def _write_csv(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(RESULTS))
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"INTEGER": pa.int64(), "REAL": pa.float64(), "TEXT": pa.string()}
    schema = pa.schema([(name, types[kind]) for name, kind in RESULTS.items()])
    with pq.ParquetWriter(path, schema) as writer:  # type: ignore[no-untyped-call]
        batch: list[dict[str, Any]] = []
        for row in rows:
            batch.append(row)
            if len(batch) == _BATCH:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                batch = []
        writer.write_table(pa.Table.from_pylist(batch, schema))
