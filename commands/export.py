"""`lrisc export`: the decoder's networks as ONNX files."""

import json
from pathlib import Path
from typing import Annotated

import typer

from commands.common import Json, Model, NoSeed, UsageError, working

EPILOG = "Example: lrisc export, then: lrisc serve --runtime onnx"


def export(
    model: Model = "lrisc",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder that is written as a whole [default: where --runtime onnx looks, in ~/.cache/lrisc].",
            show_default=False,
        ),
    ] = None,
    seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """Write the direct decoder and the denoiser step as ONNX, for pictures of any size, and compare them with torch.

    Nothing is written if a graph differs from torch by more than 1e-4 (a level of 8 bits is 4e-3). Inputs and outputs
    are described in models/export.py.
    """
    with working("load models") as stage:
        from models.export import INDEX, cache_folder
        from models.export import export as write
        from models.pipeline import JsccCodec
        from models.registry import load_codec

        codec = load_codec(model)
        if not isinstance(codec, JsccCodec):
            raise UsageError(f"{model} is not of a kind that is exported: name lrisc, or another model of its kind")
        folder = out if out is not None else cache_folder(codec.card)
        if folder.is_dir() and not (folder / INDEX).exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} holds something else than an export: choose another folder")
        stage("export and compare")
        differences = write(codec, folder)
    if as_json:
        print(json.dumps({"folder": str(folder), "largest_difference": differences}))
        return
    for name, difference in differences.items():
        print(f"{folder / name}: differs from torch by {difference:.1e} at most")
