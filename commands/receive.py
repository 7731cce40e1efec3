"""`lrisc receive`: samples back to pictures."""

import json
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.common import (
    FeedbackKeys,
    Json,
    Link,
    Model,
    Rate,
    Seed,
    Steps,
    UsageError,
    open_codec,
    open_waveform,
    prepare_folder,
    terminal,
    working,
)
from commands.device import StationFile, open_station, stopping, using
from flowgraphs.errors import LinkError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from flowgraphs.feedback import Publisher
    from flowgraphs.pictures import PictureDecoder

EPILOG = (
    "Example: lrisc receive --from out/photo.sigmf-meta --out out/received --reference photo.jpg\n\n"
    "Example: lrisc receive --from soapy:driver=hackrf --station configs/radio_hackrf.yaml --seconds 60"
)


def receive(
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="Recording, SigMF (cf32_le, ci16_le or ci8) or raw (.cf32, .cs16 or .cs8), "
            "or a radio, soapy:driver=NAME[,serial=…], with --station.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("out/received"),
    reference: Annotated[Path | None, typer.Option(help="Original, to measure the quality against.")] = None,
    station: StationFile = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="End after that many pictures.", show_default="never")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.0, help="End after so much time on the air.", show_default="never")
    ] = None,
    decoder: Annotated[
        str | None,
        typer.Option(
            help="Decoder service, zmq:tcp://HOST:PORT [default: for a radio a process of its own, for a recording "
            "this one].",
            show_default=False,
        ),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(help="Folder with the keys of a decoder on another machine.", show_default=False),
    ] = None,
    feedback: Annotated[
        str | None,
        typer.Option(
            help="Publish the SNR of every image at zmq:tcp://HOST:PORT, for `lrisc send --feedback`.",
            show_default=False,
        ),
    ] = None,
    feedback_keys: FeedbackKeys = None,
    steps: Steps = None,
    seed: Seed = 0,
    model: Model = "lrisc",
    link: Link = None,
    rate_hz: Rate = None,
    as_json: Json = False,
) -> None:
    """Find and decode every picture in a recording or from a radio; nothing but the samples and their rate is used.

    A radio is listened to until Ctrl-C, --images or --seconds; what was heard by then is still decoded. Samples at
    another rate than the waveform's are resampled. Damage is said, and costs what it covers. An image that cannot be
    decoded is kept as NAME.npz, for `lrisc decode`.

    With --json, a recording gives one object. A radio gives one object per line: each picture as it comes, then the
    same object as a recording's without them.
    """
    from sdr.devices import Opening

    waveform = open_waveform(link)
    opening = Opening(waveform, station=open_station(source, station), rate_hz=rate_hz)
    with _open_publisher(feedback, feedback_keys) as publisher, using(source, opening) as device:
        from sdr.playback import Playback

        playback = Playback(device, waveform)
        prepare_folder(out)
        with working("load models") as stage, closing(_open_decoder(decoder, model, keys, device.live)) as decoding:
            from calibration.hearing import Hearing
            from calibration.reception import Reception, image_line, rejected_line
            from flowgraphs.pictures import Pictures
            from models.image import load_image

            original = load_image(reference) if reference is not None else None
            hearing = Hearing(playback, waveform, on_samples=lambda samples: end_in_time())
            pictures = Pictures(decoding, out, steps=steps, seed=seed)
            tell = publisher.publish if publisher is not None else lambda image: None
            reception = Reception(hearing, pictures, original=original, limit=images, stage=stage, on_image=tell)

            def end_in_time() -> None:
                if seconds is not None and hearing.samples >= seconds * waveform.sample_rate_hz:
                    playback.stop()

            found: list[dict[str, Any]] = []
            with stopping(playback.stop) as stopped:
                for image in reception.images():
                    if not device.live:
                        found.append(image)
                    elif as_json:
                        print(json.dumps(image), flush=True)
                    else:
                        print(image_line(image["file"] or image["kept"], image), flush=True)
    report = hearing.report()
    if as_json:
        print(json.dumps(report if device.live else {"images": found, **report}))
    else:
        for note in report["notes"]:
            terminal.print(note, style="yellow")
        if not reception.count:
            print(f"no image found in {playback.samples} samples; {rejected_line(hearing)}")
        for image in found:
            print(image_line(image["file"] or image["kept"], image))
    if playback.failure is not None:
        raise playback.failure
    if stopped():
        raise KeyboardInterrupt
    if images is not None and reception.written < images:
        raise LinkError(f"{reception.written} of {images} pictures came")


def _open_decoder(address: str | None, model: str, keys: Path | None, live: bool) -> "PictureDecoder":
    """Where the pictures are decoded. Raises ModelError."""
    from flowgraphs.pictures import LocalDecoder
    from models.client import open_decoder

    return open_decoder(address, model, keys) if live or address is not None else LocalDecoder(open_codec(model))


def _open_publisher(
    address: str | None, keys: Path | None
) -> "AbstractContextManager[Publisher] | AbstractContextManager[None]":
    """Where the sender hears of what was received. Raises UsageError, ModelError."""
    if address is None:
        if keys is not None:
            raise UsageError("--feedback-keys are for --feedback zmq:tcp://HOST:PORT, which is missing")
        return nullcontext()
    from flowgraphs.feedback import Publisher

    return closing(Publisher(address, keys))
