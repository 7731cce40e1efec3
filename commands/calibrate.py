"""`lrisc calibrate`: what a pair of radios really does, measured and written down."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from commands.common import Json, Link, UsageError, open_waveform, prepare_folder, terminal
from commands.device import leaving_silent

if TYPE_CHECKING:
    from calibration.steps import Step
    from sdr.station import Side, Station

EPILOG = (
    "Example: lrisc calibrate noise-floor --station configs/radio_hackrf.yaml\n\n"
    "Example: lrisc calibrate all --station receiver.yaml --peer sender.yaml --dry-run, then with --transmit instead"
)


def calibrate(
    step: Annotated[
        str, typer.Argument(help="noise-floor, frequency, clip, tx-gain, snr-bias, iq; or all, in this order.")
    ],
    station: Annotated[
        Path, typer.Option(help="The receiver's settings as YAML, like configs/radio_hackrf.yaml.", show_default=False)
    ],
    peer: Annotated[
        Path | None,
        typer.Option(
            help="The sender's; all but noise-floor need one, iq measures the receiver alone without.",
            show_default=False,
        ),
    ] = None,
    transmit: Annotated[
        bool, typer.Option("--transmit", help="Let the peer transmit, within what its station file allows.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; no radio is opened.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the file and its plots.")] = Path("out/calibration"),
    link: Link = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what is sent.")] = 0,
    as_json: Json = False,
) -> None:
    """Measure a receiver, or a receiver and a sender on a cable, and write a calibration file with plots.

    noise-floor: noise at each receiving gain. frequency: carrier offset of the pair. clip: where the receiver's
    converter ends, and which gain stays clear of it. tx-gain: received SNR at each transmitting gain and amplitude.
    snr-bias: what the SNR estimate says against power on and off the air. iq: DC and imbalance of both.

    The peer transmits only with --transmit, and only gains, powers and frequencies that the bands of its station file
    allow. Steps that need the link use the gains of both stations: about 20 dB of SNR is good. The file names both
    radios, frequency and rate, and has what was found by the time a later step fails or is interrupted; name it in a
    station as `calibration: {file: PATH}`. Exit code 1 if a step failed.
    """
    from calibration.bench import check_stations
    from calibration.steps import STEPS, Peer
    from sdr.safety import input_warning
    from sdr.station import load_station

    if step != "all" and step not in STEPS:
        raise UsageError(f"there is no step '{step}'; there are {', '.join(STEPS)}, and all")
    steps = list(STEPS.values()) if step == "all" else [STEPS[step]]
    waveform, receiver = open_waveform(link), load_station(station)
    if alone := [one.name for one in steps if one.peer is Peer.NEEDED and peer is None]:
        raise UsageError(f"{', '.join(alone)} needs a second radio that sends: --peer FILE, its station")
    sender = None
    if peer is not None and any(one.peer is not Peer.NONE for one in steps):
        sender = load_station(peer)
        if not (transmit or dry_run):
            raise UsageError(
                f"station '{sender.name}' would transmit, and does so only when told to: add --transmit if you may"
            )
    check_stations(receiver, sender, waveform)
    if not as_json or dry_run:
        _print_plan(steps, receiver, sender, as_json)
    if dry_run:
        return
    prepare_folder(out)
    if warning := input_warning(receiver):
        terminal.print(warning, style="yellow", highlight=False, soft_wrap=True)
    report = _run(steps, receiver, sender, waveform, out, seed, quiet=as_json)
    if as_json:
        print(json.dumps(report), flush=True)
    elif report["file"] is not None:
        print(f"{report['file']}: name it in the station file as calibration: {{file: …}}")
    if report["failed"]:
        raise typer.Exit(1)


def _run(
    steps: "list[Step]", receiver: "Station", sender: "Station | None", waveform: Any, out: Path, seed: int, quiet: bool
) -> dict[str, Any]:
    """Measures, prints the result of each step, and gives what `--json` prints."""
    from calibration.bench import open_bench
    from calibration.calibrate import calibrate as measure
    from calibration.calibrate import plain

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    report: dict[str, Any] = {"file": None, "calibration": None, "steps": [], "failed": []}
    with (
        leaving_silent(open_bench(receiver, sender, waveform, seed)) as bench,
        Progress(*columns, console=terminal, transient=True) as bar,
    ):
        whole, part = bar.add_task("steps", total=len(steps)), bar.add_task("points", total=None)

        def each(points: Iterable[Any]) -> Iterator[Any]:
            listed = list(points)
            bar.reset(part, total=len(listed))
            for point in listed:
                yield point
                bar.advance(part)

        names = iter(steps)
        bar.update(whole, description=next(names).name)
        for result in measure(bench, steps, out, each):
            bar.update(whole, advance=1, description=getattr(next(names, None), "name", "done"))
            plot = str(result.plot) if result.plot is not None else None
            report["steps"].append({"step": result.step, "summary": result.summary, "plot": plot})
            if result.plot is None:
                report["failed"].append(result.step)
                terminal.print(f"{result.step}: failed: {result.summary}", style="red", highlight=False, soft_wrap=True)
            else:
                report |= {"file": str(result.file), "calibration": plain(result.calibration)}
                if not quiet:
                    print(f"{result.step}: {result.summary}")
    return report


def _print_plan(steps: "list[Step]", receiver: "Station", sender: "Station | None", as_json: bool) -> None:
    if as_json:
        plan = {
            "receiver": receiver.name,
            "sender": sender.name if sender is not None else None,
            "frequency_hz": receiver.frequency_hz,
            "steps": [{"step": one.name, "what": one.what, "transmits": _sends(one, sender)} for one in steps],
        }
        print(json.dumps(plan), flush=True)
        return
    table = Table(title=f"Plan at {receiver.frequency_hz / 1e6:g} MHz", title_justify="left")
    for heading in ("step", "what is measured", "transmits"):
        table.add_column(heading, overflow="fold")
    for one in steps:
        table.add_row(one.name, one.what, sender.name if sender is not None and _sends(one, sender) else "nobody")
    console = Console()
    console.print(table)
    console.print(f"'{receiver.name}' receives with {_listed(receiver.receive)}", highlight=False)
    if sender is not None:
        limits = ", ".join(
            f"{band.max_gain_db:g} dB in {band.low_hz / 1e6:g}…{band.high_hz / 1e6:g} MHz" for band in sender.bands
        )
        console.print(
            f"'{sender.name}' sends with {_listed(sender.transmit)}, in tx-gain also with others, up to {limits}",
            highlight=False,
        )


def _listed(side: "Side | None") -> str:
    gains = side.gains if side is not None else {}
    return ", ".join(f"{name} {gain_db:g} dB" for name, gain_db in gains.items())


def _sends(step: "Step", sender: "Station | None") -> bool:
    from calibration.steps import Peer

    return sender is not None and step.peer is not Peer.NONE
