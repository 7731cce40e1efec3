"""`lrisc radios`: what there is to send and receive with."""

import json

from rich.console import Console
from rich.table import Table

from commands.common import Json, working

EPILOG = "Example: lrisc radios --json"


def radios(as_json: Json = False) -> None:
    """List the radios that SoapySDR finds, each as `--to` and `--from` take it; and what is missing if there are none.

    Finding one neither receives nor transmits anything.
    """
    with working("look for radios"):
        from sdr.devices.soapy import list_drivers, list_radios

        drivers, found = list_drivers(), list_radios()
    rows = [{"target": _target(radio), **radio} for radio in found]
    remedy = None if rows else _remedy(drivers)
    if as_json:
        print(json.dumps({"radios": rows, "drivers": drivers, "remedy": remedy}))
        return
    if remedy is not None:
        print(remedy)
        return
    table = Table()
    for heading in ("--to, --from", "what it is"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(row["target"], row.get("label", row.get("product", "")))
    Console().print(table)


def _target(radio: dict[str, str]) -> str:
    given = [f"{key}={radio[key]}" for key in ("driver", "serial") if radio.get(key)]
    return f"soapy:{','.join(given)}"


def _remedy(drivers: list[str]) -> str:
    installed = f"drivers installed: {', '.join(drivers)}" if drivers else "no driver is installed"
    return (
        f"no radio found; {installed}. Plug one in, give yourself access to USB (udev rules), and install its driver: "
        "apt-get install soapysdr-module-hackrf soapysdr-module-uhd (conda install, in conda); "
        "without a radio, `make setup` builds a virtual one: soapy:driver=lrisc,serial=NAME"
    )
