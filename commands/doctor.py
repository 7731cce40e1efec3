"""`lrisc doctor`: what is installed and what is missing."""

import json

import typer
from rich.console import Console
from rich.table import Table

from commands.common import Json, NoSeed, working

EPILOG = "Example: lrisc doctor --json"


def doctor(
    seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """What is installed, which radios and accelerators there are, what is missing and the command that mends it."""
    from dataclasses import asdict

    from calibration.doctor import diagnose

    with working("look around"):
        checks = diagnose()
    healthy = all(check.ok for check in checks)
    if as_json:
        print(json.dumps({"ok": healthy, "checks": [asdict(check) for check in checks]}))
    else:
        table = Table("", "what")
        for heading in ("found", "to mend or add it"):
            table.add_column(heading, overflow="fold")
        for check in checks:
            table.add_row("[green]ok" if check.ok else "[red]bad", check.name, check.found, check.remedy or "")
        Console().print(table)
    if not healthy:
        raise typer.Exit(1)
