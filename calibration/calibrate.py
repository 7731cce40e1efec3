"""A calibration: its steps in order, one YAML file of what they found, and a plot of each beside it."""

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from calibration.bench import Bench
from calibration.steps.step import Each, Outcome, Step
from sdr.calibrated import VERSION, CalibrationFile
from sdr.devices.base import DeviceError
from sdr.errors import SdrError

_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.fontsize": 9,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "none",
}


@dataclass(frozen=True)
class Result:
    """What came of one step."""

    step: str
    summary: str
    """What was found; or, if it failed, why."""
    plot: Path | None
    """None: it failed."""
    file: Path
    """Which is there as soon as one step did not fail."""
    calibration: CalibrationFile
    """All that was found by then."""


def calibrate(bench: Bench, steps: Sequence[Step], folder: Path, each: Each) -> Iterator[Result]:
    """Runs the steps and gives the result of each; the file in `folder` holds all that was found by then.

    A step that cannot be done is a result that says why, and the next one follows. Raises DeviceError if a radio
    vanishes: what was found before is good.
    """
    found = _begin(bench)
    path = file_of(found, folder)
    for step in steps:
        try:
            outcome = step.run(bench, each)
        except DeviceError:
            raise
        except SdrError as error:
            yield Result(step.name, str(error), None, path, found)
            continue
        found = replace(found, **outcome.fields)
        plot = path.with_name(f"{path.stem}_{step.name}.png")
        _write(plot, _png(outcome))
        _write(path, yaml.safe_dump(plain(found), sort_keys=False, allow_unicode=True).encode())
        yield Result(step.name, outcome.summary, plot, path, found)


def file_of(calibration: CalibrationFile, folder: Path) -> Path:
    """Where a calibration is written: its name says which radio and when."""
    measured = datetime.fromisoformat(calibration.date)
    return folder / f"calibration_{calibration.receiver}_{measured:%Y%m%dT%H%M%SZ}.yaml"


def _begin(bench: Bench) -> CalibrationFile:
    """A calibration in which nothing was measured yet. Raises SdrError for a radio without a serial number."""
    sender = bench.sender
    for device in filter(None, (bench.receiver, sender)):
        if device.serial is None:
            raise SdrError(f"{device.name} has no serial number, and a calibration is of one radio: give its serial")
    return CalibrationFile(
        version=VERSION,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        frequency_hz=bench.station.frequency_hz,
        rate_hz=bench.receiver.rate_hz,
        sender=sender.serial if sender is not None else None,
        receiver=bench.receiver.serial,
        receive_gains=bench.receive_gains,
        transmit_gains=bench.transmit_gains if sender is not None else {},
    )


def plain(calibration: CalibrationFile) -> dict[str, Any]:
    """What was measured, in what YAML and JSON have."""

    def listed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: listed(entry) for key, entry in value.items()}
        return [listed(entry) for entry in value] if isinstance(value, tuple) else value

    return {key: listed(value) for key, value in asdict(calibration).items() if value is not None}


def _png(outcome: Outcome) -> bytes:
    """Its plot, 900 pixels wide."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 4.8), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        outcome.draw(figure)
        into = io.BytesIO()
        figure.savefig(into, format="png")
    return into.getvalue()


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_bytes(content)
    temporary.replace(path)
