"""The `lrisc` command: photographs over radio with learned joint source-channel coding."""

import sys
from typing import Any

import typer

from calibration.errors import CampaignError
from commands import (
    calibrate,
    decode,
    doctor,
    export,
    inspect,
    loopback,
    radios,
    receive,
    report,
    send,
    serve,
    sweep,
    train,
)
from commands.common import UsageError
from flowgraphs.errors import LinkError
from models.errors import ModelError
from sdr.errors import SdrError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Photographs over software-defined radio with learned joint source-channel coding and a diffusion decoder.",
)
COMMANDS = (loopback, send, receive, decode, inspect, radios, calibrate, serve, export, train, sweep, report, doctor)
for command in COMMANDS:
    name = command.__name__.rpartition(".")[2]
    app.command(name, epilog=command.EPILOG)(getattr(command, name))

# Click's ClickException, by way of a public name: newer releases of typer carry a click of their own.
CommandLineError: type[Any] = typer.BadParameter.__mro__[2]
_INTERRUPTED = 130
_KEPT = "lrisc: interrupted; what was finished is kept"


def main() -> None:
    """Entry point: user errors become one line on stderr and exit code 2, a picture that did not arrive 1."""
    try:
        code = app(standalone_mode=False)
    except (CampaignError, CommandLineError, ModelError, SdrError, UsageError) as error:
        text = error.format_message() if isinstance(error, CommandLineError) else str(error)
        print(f"lrisc: {text}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a full disk, a folder that vanished
        print(f"lrisc: {error.strerror or error}: {error.filename or 'no file named'}", file=sys.stderr)
        sys.exit(2)
    except LinkError as error:
        print(f"lrisc: {error}", file=sys.stderr)
        sys.exit(1)
    except (typer.Abort, KeyboardInterrupt):
        print(_KEPT, file=sys.stderr)
        sys.exit(_INTERRUPTED)
    if code == _INTERRUPTED:  # typer's answer to Ctrl-C
        print(_KEPT, file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
