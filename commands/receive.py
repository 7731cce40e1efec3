"""`lrisc receive`: samples back to pictures."""

import json
from pathlib import Path
from typing import Annotated

import typer

from commands.common import (
    Json,
    Link,
    Model,
    Rate,
    Seed,
    Steps,
    open_codec,
    open_waveform,
    prepare_folder,
    terminal,
    working,
)

EPILOG = "Example: lrisc receive --from out/photo.sigmf-meta --out out/received --reference photo.jpg"


def receive(
    source: Annotated[
        Path, typer.Option("--from", help="Recording: SigMF (cf32_le, ci16_le or ci8) or raw (.cf32, .cs16 or .cs8).")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("out/received"),
    reference: Annotated[Path | None, typer.Option(help="Original, to measure the quality against.")] = None,
    steps: Steps = None,
    seed: Seed = 0,
    model: Model = "lrisc",
    link: Link = None,
    rate_hz: Rate = None,
    as_json: Json = False,
) -> None:
    """Find and decode every picture in a recording; nothing but the samples and the sample rate is used.

    Recordings at another rate than the waveform's are resampled. Damage is said, and costs what it covers.
    """
    from sdr.devices.file import RecordingDevice
    from sdr.playback import Playback
    from sdr.recording import open_recording

    waveform = open_waveform(link)
    playback = Playback(RecordingDevice(open_recording(source, rate_hz)), waveform)
    prepare_folder(out)
    with working("load models") as stage:
        from calibration.hearing import Hearing
        from calibration.reception import image_line, receive_pictures, rejected_line
        from models.image import load_image

        original = load_image(reference) if reference is not None else None
        codec, hearing = open_codec(model), Hearing(playback, waveform)
        images = receive_pictures(codec, hearing, out, original, steps=steps, seed=seed, stage=stage)
    report = {"images": images, **hearing.report()}
    if as_json:
        print(json.dumps(report))
        return
    for note in report["notes"]:
        terminal.print(note, style="yellow")
    if not images:
        print(f"no image found in {playback.samples} samples; {rejected_line(hearing)}")
    for image in images:
        print(image_line(image["file"] or "not decoded", image))
