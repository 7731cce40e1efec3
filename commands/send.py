"""`lrisc send`: a photograph as samples, into a file or on the air."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import (
    Cbr,
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

EPILOG = (
    "Example: lrisc send photo.jpg --to out/photo.sigmf-meta --cbr 1/24 --snr-hint-db 8\n\n"
    "Example: lrisc send photo.jpg --to soapy:driver=hackrf --station configs/radio_hackrf.yaml --transmit"
)


def send(
    photo: Annotated[Path, typer.Argument(help="Picture to send.")],
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
    as_json: Json = False,
) -> None:
    """Encode a photograph, and write its samples as a SigMF recording (cf32_le) or send them with a radio.

    A radio transmits only with --transmit, and only what the bands of its station file allow: frequency, gain or power,
    duty cycle. The command ends when the silence that the duty cycle asks for is over; however it ends, the radio is
    left silent.
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

        from calibration.compare import identity
        from flowgraphs import link as chain
        from models.image import load_image

        image = load_image(photo)
        mask = open_region(roi, image, roi_weight)
        codec = open_codec(model)
        session = int(np.random.default_rng(seed).integers(1 << 16))
        stage("encode")
        sent = chain.send(
            codec, image, waveform, cbr=ratio, snr_hint_db=snr_hint_db, mask=mask, session=session, image_id=0
        )
        packets = sent.transmission.packets
        report = {
            **identity(image, str(photo), codec),
            **sent.budget(),
            "session": session,
            "samples": len(sent.transmission.samples),
            "waveform": {
                "sample_rate_hz": waveform.sample_rate_hz,
                "fft_size": waveform.fft_size,
                "cyclic_prefix": waveform.cyclic_prefix,
                "used_subcarriers": waveform.used_subcarriers,
            },
            "packets": [{"start_sample": p.start_sample, "samples": p.samples} for p in packets],
        }
        facts |= {"model": codec.name, "height": image.shape[0], "width": image.shape[1], "cbr": sent.cbr}
        stage("transmit")
        device.transmit(sent.transmission.samples, packets)
    if device.live:
        report["radio"] = device.describe()
    for note in device.notes():
        terminal.print(note, style="yellow")
    if as_json:
        print(json.dumps(report), flush=True)
    else:
        seconds = len(sent.transmission.samples) / waveform.sample_rate_hz
        print(f"{to}: {len(packets)} packets, {1e3 * seconds:.1f} ms at {waveform.sample_rate_hz / 1e6:g} Msps")
    time.sleep(device.silence_s())
