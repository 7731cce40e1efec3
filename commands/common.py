"""What the commands share: options of one meaning everywhere, and what stands between an option and the thing."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

# Everything heavy (torch, SciPy) is imported by the command that needs it: --help answers at once.
if TYPE_CHECKING:
    import numpy as np

    from models.codec import Codec
    from sdr.channel import Channel
    from sdr.waveform import Waveform

terminal = Console(stderr=True)


class UsageError(ValueError):
    """A mistake on the command line that no library would notice."""


Cbr = Annotated[str, typer.Option(help="Channel bandwidth ratio, channel symbols ÷ (3·height·width): 1/12 or 0.083.")]
Roi = Annotated[
    str | None, typer.Option(help="Region of interest: a mask picture, x,y,w,h in pixels, or auto.", show_default=False)
]
Steps = Annotated[int | None, typer.Option(min=0, max=1000, help="Denoising steps; 0 is the direct decoder alone.")]
Seed = Annotated[int, typer.Option(min=0, help="Of everything random: channel and diffusion noise.")]
NoSeed = Annotated[int, typer.Option(min=0, help="Taken, as by every command; nothing here is random.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
RoiWeight = Annotated[
    float, typer.Option(min=0, max=4, help="Of the region: 0 is as without, 1 as trained, more asks for more rate.")
]
Model = Annotated[
    str,
    typer.Option(
        help="A shipped model, a folder of weights, a Hugging Face id, or FILE.py:FUNCTION of an adapter for somebody "
        "else's model."
    ),
]
FeedbackKeys = Annotated[
    Path | None,
    typer.Option(
        help="Folder with CURVE keys for --feedback over a network; the receiver makes them, the sender needs "
        "server.key, client.key and client.key_secret.",
        show_default=False,
    ),
]
Link = Annotated[
    Path | None, typer.Option(help="Waveform as YAML, like configs/link_default.yaml.", show_default=False)
]
Recording = Annotated[
    Path, typer.Argument(help="SigMF recording (cf32_le, ci16_le or ci8), or a raw one (.cf32, .cs16 or .cs8).")
]
Rate = Annotated[
    float | None,
    typer.Option(help="Sample rate of a recording that states none; goes before a stated one.", show_default=False),
]


@contextmanager
def working(first: str) -> Iterator["Any"]:
    """A spinner on stderr that says what is being done."""
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=terminal, transient=True) as bar:
        task = bar.add_task(first, total=None)
        yield lambda text: bar.update(task, description=text)


def open_codec(model: str) -> "Codec":
    """The model of that name, folder, hub id or adapter, on the GPU where there is one. Raises ModelError."""
    import torch

    from models.registry import load_codec

    return load_codec(model, "cuda" if torch.cuda.is_available() else "cpu")


def open_waveform(link: Path | None) -> "Waveform":
    """The waveform of that file, or the default. Raises SdrError."""
    from sdr.waveform import DEFAULT, load_waveform

    return DEFAULT if link is None else load_waveform(link)


def read_conditions(channel: str, **given: float | None) -> "Channel":
    """The channel of that name or file, with the numbers that were given on the command line."""
    from dataclasses import replace

    from sdr.channel import parse_channel

    numbers: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(parse_channel(channel), **numbers)


def open_region(roi: str | None, image: "np.ndarray", weight: float = 1.0) -> "np.ndarray | None":
    """The mask that `--roi` means on this picture, float32[h, w], times its weight. Raises ModelError."""
    if roi is None:
        return None
    import numpy as np

    from models.roi_mask import load_roi

    mask: np.ndarray = load_roi(roi, image) * np.float32(weight)
    return mask


def prepare_folder(folder: Path) -> None:
    """Makes the output folder before hours are spent on what goes into it. Raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"cannot write to the folder {folder}: {error.strerror}; choose another") from error


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
