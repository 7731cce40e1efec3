"""`lrisc inspect`: what a recording holds."""

import json
from pathlib import Path
from typing import Annotated

import typer

from commands.common import (
    Json,
    Link,
    NoSeed,
    Rate,
    Recording,
    open_waveform,
    prepare_folder,
    terminal,
    working,
    write_text,
)

EPILOG = "Example: lrisc inspect out/photo.sigmf-meta --out out/inspect"


def inspect(
    recording: Recording,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out/inspect"),
    seed: NoSeed = 0,
    link: Link = None,
    rate_hz: Rate = None,
    as_json: Json = False,
) -> None:
    """Show what a recording holds and what its packets went through; pictures are not decoded.

    Writes inspect.png: power and spectrogram with packets and rejected candidates marked, constellation, channel,
    impulse response, and the tracks of SNR, phase and timing over the first packets, 48 at most, within 0.1 s.
    Writes inspect.json: the same as numbers, with every packet and candidate, what is missing, and why.
    """
    from sdr.recording import open_recording

    waveform = open_waveform(link)
    opened = open_recording(recording, rate_hz)
    prepare_folder(out)
    with working("search for packets") as stage:
        from calibration.figure import draw
        from calibration.inspect import inspect as listen
        from calibration.inspect import report as numbers
        from calibration.reception import image_line, rejected_line
        from models.image import save_image

        inspection = listen(opened, waveform)
        stage("draw")
        report = numbers(inspection)
        save_image(out / "inspect.png", draw(inspection, recording.name))
        write_text(out / "inspect.json", json.dumps(report) + "\n")
    if as_json:
        print(json.dumps(report))
        return
    for note in report["notes"]:
        terminal.print(note, style="yellow")
    for image in report["images"]:
        name = f"image {image['image_id']} of session {image['session']} at {image['start_s']:.4f} s"
        print(image_line(name, image))
    print(f"{report['packets_received']} packets; {rejected_line(inspection.hearing)}. Look at {out / 'inspect.png'}")
