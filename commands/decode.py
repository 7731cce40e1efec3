"""`lrisc decode`: received images that were kept, to pictures."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import Json, Model, Seed, Steps, open_codec, prepare_folder, working

EPILOG = "Example: lrisc decode out/received/received_003.npz"


def decode(
    images: Annotated[list[Path], typer.Argument(help="Received images as .npz, as a receiver keeps them.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the pictures [default: beside each image].")] = None,
    steps: Steps = None,
    seed: Seed = 0,
    model: Model = "lrisc",
    as_json: Json = False,
) -> None:
    """Decode images that a receiver kept because its decoder was busy, gone or not wanted.

    NAME.npz becomes NAME.png. Nothing is removed.
    """
    if out is not None:
        prepare_folder(out)
    report: list[dict[str, Any]] = []
    with working("load model") as stage:
        from flowgraphs.exchange import read_image
        from flowgraphs.link import decode as paint
        from models.image import save_image

        received = [read_image(path) for path in images]
        codec = open_codec(model)
        for path, image in zip(images, received, strict=True):
            stage(f"decode {path.name}")
            file = (out or path.parent) / f"{path.stem}.png"
            save_image(file, paint(codec, image, steps=steps, seed=seed))
            report.append({"file": str(file), "snr_db_estimated": image.snr_db})
    if as_json:
        print(json.dumps({"images": report}))
        return
    for entry in report:
        print(f"{entry['file']}: SNR {entry['snr_db_estimated']:.1f} dB")
