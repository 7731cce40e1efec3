"""`lrisc send`: photographs as samples, into a file or on the air."""

import json
import time
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.common import (
    Cbr,
    FeedbackKeys,
    Json,
    Link,
    Model,
    Roi,
    RoiWeight,
    UsageError,
    open_codec,
    open_region,
    open_waveform,
    prepare_folder,
    terminal,
    working,
)
from commands.device import StationFile, open_station, using
from models.codec import parse_cbr
from models.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from flowgraphs.adaptation import Follower
    from flowgraphs.frames import Frames
    from flowgraphs.link import Sent
    from models.codec import Codec
    from sdr.devices.base import Device
    from sdr.waveform import Waveform

EPILOG = (
    "Example: lrisc send photo.jpg --to out/photo.sigmf-meta --cbr 1/24 --snr-hint-db 8\n\n"
    "Example: lrisc send photo.jpg --to soapy:driver=hackrf --station configs/radio_hackrf.yaml --transmit\n\n"
    "Example: lrisc send camera: --to soapy:driver=hackrf --station configs/radio_hackrf.yaml --transmit --seconds 60 "
    "--feedback zmq:tcp://127.0.0.1:5756"
)


def send(
    source: Annotated[
        str, typer.Argument(help="Picture, folder of pictures, list of pictures (NAME.txt), or camera:[NUMBER].")
    ],
    to: Annotated[
        str,
        typer.Option(
            help="SigMF recording to write, NAME.sigmf-meta, or a radio, soapy:driver=NAME[,serial=…], with --station "
            "and --transmit."
        ),
    ],
    station: StationFile = None,
    transmit: Annotated[
        bool, typer.Option("--transmit", help="Let the radio transmit, within what its station file allows.")
    ] = False,
    cbr: Cbr = "1/12",
    roi: Roi = None,
    roi_weight: RoiWeight = 1.0,
    snr_hint_db: Annotated[float, typer.Option(help="SNR that the receiver is expected to have, dB.")] = 10.0,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the session number; random without.")] = None,
    model: Model = "lrisc",
    link: Link = None,
    feedback: Annotated[
        str | None,
        typer.Option(
            help="Follow the SNR that `lrisc receive --feedback` publishes at zmq:tcp://HOST:PORT; --cbr is then what "
            "an average picture gets at --snr-hint-db.",
            show_default=False,
        ),
    ] = None,
    feedback_keys: FeedbackKeys = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.0, help="Send no more pictures after that time.", show_default="never")
    ] = None,
    as_json: Json = False,
) -> None:
    """Encode a photograph, and write its samples as a SigMF recording (cf32_le) or send them with a radio.

    A folder or a list is sent picture by picture, one being encoded while another is on the air. Of a camera, the
    latest picture is sent, until Ctrl-C or --seconds; those in between are dropped. With --json, such a source gives
    one object per line: each picture when it has been sent, then how many, how fast, how late and what was dropped.

    A radio transmits only with --transmit, and only what the bands of its station file allow: frequency, gain or power,
    duty cycle. The command ends when the silence that the duty cycle asks for is over; however it ends, the radio is
    left silent.

    With --feedback the SNR hint follows the receiver's reports from the first of them on, so it is of use where
    pictures follow each other. --cbr is then what an average picture gets at --snr-hint-db, and no upper limit: others
    get symbols as long as these improve them as much as the last ones do that one. Of a model without a table of
    quality (scripts/rate_table.py) the rate stays. When reports stop or come late, the hint goes back towards
    --snr-hint-db, never above.
    """
    from sdr.devices import Opening
    from sdr.safety import TransmitGuard

    ratio, waveform = parse_cbr(cbr), open_waveform(link)
    settings = open_station(to, station)
    if settings is None:
        prepare_folder(Path(to.removeprefix("file:")).parent)
    elif not transmit:
        raise UsageError(f"{to} is a radio, which transmits only when told to: add --transmit if you may")
    else:
        TransmitGuard(settings, waveform)  # refused at once, not when the models are loaded
    facts: dict[str, Any] = {}
    with working("load models") as stage, using(to, Opening(waveform, True, settings, facts=facts)) as device:
        import numpy as np

        from flowgraphs import link as chain
        from flowgraphs.frames import open_frames

        frames = open_frames(source)
        with closing(frames) if frames is not None else nullcontext():
            codec = open_codec(model)
            session = int(np.random.default_rng(seed).integers(1 << 16))
            facts["model"] = codec.name
            follower = _open_follower(feedback, feedback_keys, session, ratio, snr_hint_db, model)

            def encode(image: "np.ndarray", image_id: int) -> "Sent":
                setting = follower.setting(image_id, codec, image)

                def at(cbr: float) -> "Sent":
                    return chain.send(
                        codec,
                        image,
                        waveform,
                        cbr=cbr,
                        snr_hint_db=setting.snr_hint_db,
                        mask=open_region(roi, image, roi_weight),
                        session=session,
                        image_id=image_id,
                    )

                try:
                    return at(setting.cbr)
                except ModelError:  # the rate that feedback chose is too small for this picture's side information
                    if setting.cbr == ratio:
                        raise
                    return at(ratio)

            stage("encode")
            with closing(follower):
                if frames is not None:
                    _send_all(frames, encode, device, session, seconds, follower, as_json)
                else:
                    _send_one(source, encode, codec, device, waveform, session, facts, as_json)
    time.sleep(device.silence_s())


def _send_one(
    photo: str,
    encode: "Callable[[np.ndarray, int], Sent]",
    codec: "Codec",
    device: "Device",
    waveform: "Waveform",
    session: int,
    facts: dict[str, Any],
    as_json: bool,
) -> None:
    from calibration.compare import identity
    from models.image import load_image

    image = load_image(photo)
    sent = encode(image, 0)
    samples, packets = sent.transmission.samples, sent.transmission.packets
    facts |= {"height": image.shape[0], "width": image.shape[1], "cbr": sent.cbr}
    device.transmit(samples, packets)
    report = {
        **identity(image, photo, codec),
        **sent.budget(),
        "session": session,
        "samples": len(samples),
        "waveform": {
            "sample_rate_hz": waveform.sample_rate_hz,
            "fft_size": waveform.fft_size,
            "cyclic_prefix": waveform.cyclic_prefix,
            "used_subcarriers": waveform.used_subcarriers,
        },
        "packets": [{"start_sample": p.start_sample, "samples": p.samples} for p in packets],
    }
    if device.live:
        report["radio"] = device.describe()
    for note in device.notes():
        terminal.print(note, style="yellow")
    if as_json:
        print(json.dumps(report), flush=True)
        return
    seconds = len(samples) / waveform.sample_rate_hz
    print(f"{device.name}: {len(packets)} packets, {1e3 * seconds:.1f} ms at {waveform.sample_rate_hz / 1e6:g} Msps")


def _send_all(
    frames: "Frames",
    encode: "Callable[[np.ndarray, int], Sent]",
    device: "Device",
    session: int,
    seconds: float | None,
    follower: "Follower",
    as_json: bool,
) -> None:
    from flowgraphs.stream import PictureStream

    stream = PictureStream(frames, encode, device, seconds)
    try:
        for entry in stream.run():
            if as_json:
                print(json.dumps({"session": session, **entry}), flush=True)
            else:
                print(f"{entry['name']}: {entry['packets']} packets, {entry['latency_s']:.2f} s after it was taken")
    finally:  # also of what Ctrl-C ended
        report = stream.report()
        if feedback := follower.report():
            report["feedback"] = feedback
        if as_json:
            print(json.dumps({**report, **({"radio": device.describe()} if device.live else {})}), flush=True)
        for note in report["notes"] + device.notes():
            terminal.print(note, style="yellow", highlight=False)
        if not as_json and report["pictures_sent"]:
            latency = report["latency_s"]
            print(
                f"{report['pictures_sent']} pictures in {report['seconds']:.1f} s: {report['fps']:.2f} fps, latency "
                f"{latency['mean']:.2f} s on average and {latency['max']:.2f} s at most, "
                f"{report['pictures_dropped']} dropped, on the air {100 * report['air_share']:.1f} % of the time"
            )
        if not as_json and feedback:
            print(
                f"feedback: {feedback['reports']} reports, {feedback['ignored']} ignored, {feedback['malformed']} "
                f"malformed; the link at {feedback['snr_hint_db']:.1f} dB"
            )


def _open_follower(
    address: str | None, keys: Path | None, session: int, cbr: float, snr_hint_db: float, model: str
) -> "Follower":
    """What each picture is encoded with. Raises UsageError, ModelError."""
    from flowgraphs.adaptation import Follower, LinkAdapter, Setting
    from flowgraphs.feedback import Subscriber
    from models.weights import verify

    default = Setting(snr_hint_db, cbr)
    if address is None:
        if keys is not None:
            raise UsageError("--feedback-keys are for --feedback zmq:tcp://HOST:PORT, which is missing")
        return Follower(LinkAdapter(session, default), None)
    return Follower(LinkAdapter(session, default, verify(model).quality), Subscriber(address, keys))
