"""What the commands that use a radio share: its options, and a way out of every interruption that leaves it silent."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from commands.common import UsageError, terminal

if TYPE_CHECKING:
    from sdr.devices import Opening
    from sdr.devices.base import Device
    from sdr.station import Station

StationFile = Annotated[
    Path | None,
    typer.Option("--station", help="The radio's settings as YAML, like configs/radio_hackrf.yaml.", show_default=False),
]
_Opened = TypeVar("_Opened")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def open_station(target: str, file: Path | None) -> "Station | None":
    """The station of a radio, None for what is no radio. Raises SdrError, UsageError."""
    from sdr.devices import parse_target
    from sdr.safety import input_warning
    from sdr.station import load_station

    scheme, _ = parse_target(target)
    if scheme == "loopback":
        raise UsageError("loopback: is a channel within one process; `lrisc loopback` sends and receives through it")
    if scheme == "file":
        if file is not None:
            raise UsageError(f"--station is for radios, and {target} is a file; a radio is soapy:driver=…")
        return None
    if file is None:
        raise UsageError(f"{target} needs --station FILE for frequency and gains, like configs/radio_hackrf.yaml")
    station = load_station(file)
    if warning := input_warning(station):
        terminal.print(warning, style="yellow", highlight=False, soft_wrap=True)
    return station


@contextmanager
def using(target: str, opening: "Opening") -> Iterator["Device"]:
    """The opened device, closed and silent afterwards, whatever happens; SIGTERM and SIGHUP end it as Ctrl-C does."""
    from sdr.devices import open_device

    with _handling(signal.default_int_handler):
        device = open_device(target, opening)
        try:
            yield device
        finally:
            with _handling(signal.SIG_IGN):  # a second Ctrl-C must not keep a radio from being switched off
                device.close()


@contextmanager
def leaving_silent(opening: AbstractContextManager[_Opened]) -> Iterator[_Opened]:
    """What is opened, closed as `using` closes a device."""
    with _handling(signal.default_int_handler), ExitStack() as stack:
        opened = stack.enter_context(opening)
        try:
            yield opened
        finally:
            with _handling(signal.SIG_IGN):
                stack.close()


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Within, the first Ctrl-C (or SIGTERM, SIGHUP) calls `stop`, the next interrupts; gives whether one came."""
    came = False

    def first(number: int, frame: Any) -> None:
        nonlocal came
        came = True
        stop()
        for other in _SIGNALS:
            signal.signal(other, signal.default_int_handler)

    with _handling(first):
        yield lambda: came


@contextmanager
def _handling(handler: Any) -> Iterator[None]:
    before = [signal.signal(number, handler) for number in _SIGNALS]
    try:
        yield
    finally:
        for number, old in zip(_SIGNALS, before, strict=True):
            signal.signal(number, old)
