"""`lrisc send`: a photograph as samples."""

import json
from pathlib import Path
from typing import Annotated

import typer

from commands.common import Cbr, Json, Link, Model, Roi, open_codec, open_region, open_waveform, prepare_folder, working
from models.codec import parse_cbr

EPILOG = "Example: lrisc send photo.jpg --to out/photo.sigmf-meta --cbr 1/24 --snr-hint-db 8"


def send(
    photo: Annotated[Path, typer.Argument(help="Picture to send.")],
    to: Annotated[Path, typer.Option(help="SigMF recording to write, NAME.sigmf-meta.")],
    cbr: Cbr = "1/12",
    roi: Roi = None,
    snr_hint_db: Annotated[float, typer.Option(help="SNR that the receiver is expected to have, dB.")] = 10.0,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the session number; random without.")] = None,
    model: Model = "lrisc",
    link: Link = None,
    as_json: Json = False,
) -> None:
    """Encode a photograph and write its samples as a SigMF recording (cf32_le)."""
    ratio = parse_cbr(cbr)
    prepare_folder(to.parent)
    with working("load models") as stage:
        import numpy as np

        from calibration.compare import identity
        from flowgraphs import link as chain
        from models.image import load_image
        from sdr.recording import write_recording

        image = load_image(photo)
        mask = open_region(roi, image)
        waveform, codec = open_waveform(link), open_codec(model)
        session = int(np.random.default_rng(seed).integers(1 << 16))
        stage("encode and transmit")
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
        facts = {"model": codec.name, "height": image.shape[0], "width": image.shape[1], "cbr": sent.cbr}
        write_recording(to, sent.transmission.samples, waveform, packets, facts)
    if as_json:
        print(json.dumps(report))
        return
    seconds = len(sent.transmission.samples) / waveform.sample_rate_hz
    print(f"{to}: {len(packets)} packets, {1e3 * seconds:.1f} ms at {waveform.sample_rate_hz / 1e6:g} Msps")
