"""`lrisc loopback`: a photograph through the software air, beside the baselines."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from commands.common import (
    Cbr,
    Json,
    Link,
    Model,
    Roi,
    RoiWeight,
    Seed,
    Steps,
    open_codec,
    open_region,
    open_waveform,
    prepare_folder,
    read_conditions,
    terminal,
    working,
    write_text,
)
from models.codec import parse_cbr

EPILOG = "Example: lrisc loopback photo.jpg --snr-db 5 --cbr 1/24 --channel multipath --cfo-hz 12000"


def loopback(
    photo: Annotated[Path | None, typer.Argument(help="Picture to send; without it, one of scikit-image's.")] = None,
    snr_db: Annotated[
        float | None, typer.Option(help="Es/N0 per data subcarrier, dB; −10…40.", show_default="10")
    ] = None,
    cbr: Cbr = "1/12",
    roi: Roi = None,
    roi_weight: RoiWeight = 1.0,
    steps: Steps = None,
    channel: Annotated[
        str,
        typer.Option(
            help="awgn, rayleigh, multipath, four-tap, tdl-a, tdl-b, tdl-c, ideal, or conditions as YAML, like "
            "configs/channel_lab.yaml; the four options beside it go before the file's."
        ),
    ] = "awgn",
    cfo_hz: Annotated[float | None, typer.Option(help="Carrier frequency offset, Hz.", show_default="0")] = None,
    sfo_ppm: Annotated[float | None, typer.Option(help="Sample clock offset, ppm.", show_default="0")] = None,
    loss: Annotated[float | None, typer.Option(help="Fraction of packets lost.", show_default="0")] = None,
    seed: Seed = 0,
    model: Model = "lrisc",
    link: Link = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out/loopback"),
    as_json: Json = False,
) -> None:
    """Send a photograph through the software air and compare what arrives with the baselines.

    Writes received.png, deepjscc.png, digital.png, comparison.png and report.json.
    """
    ratio, conditions = (
        parse_cbr(cbr),
        read_conditions(channel, snr_db=snr_db, cfo_hz=cfo_hz, sfo_ppm=sfo_ppm, loss=loss),
    )
    prepare_folder(out)
    with working("load models") as stage:
        from calibration.compare import compare, loopback_report
        from calibration.report import comparison_sheet
        from models.image import default_photo, load_image, save_image

        image, name = (load_image(photo), str(photo)) if photo is not None else default_photo()
        mask = open_region(roi, image, roi_weight)
        waveform = open_waveform(link)
        lrisc, deepjscc = open_codec(model), open_codec("deepjscc")
        result = compare(
            lrisc, deepjscc, image, waveform, conditions, cbr=ratio, mask=mask, steps=steps, seed=seed, stage=stage
        )
        stage("write pictures")
        for method, file in (("lrisc", "received"), ("deepjscc", "deepjscc"), ("digital", "digital")):
            picture = result.pictures[method]
            if picture is not None:
                save_image(out / f"{file}.png", picture)
        report = loopback_report(result, lrisc, image, name, conditions)
        save_image(out / "comparison.png", comparison_sheet(result, image, mask, conditions, ratio))
        write_text(out / "report.json", json.dumps(report, indent=2) + "\n")
    if as_json:
        print(json.dumps(report))
        return
    table = Table(title=f"{name}: {channel}, SNR {conditions.snr_db:g} dB, CBR {cbr}")
    for heading in ("", "PSNR dB", "MS-SSIM", "LPIPS"):
        table.add_column(heading, justify="right")
    for method, values in report["quality"].items():
        numbers = [values and values[key] for key in ("psnr_db", "ms_ssim", "lpips")]
        table.add_row(method, *("–" if v is None else f"{v:.{d}f}" for v, d in zip(numbers, (2, 4, 4), strict=True)))
    console = Console()
    console.print(table)
    console.print(
        f"SNR estimated {report['snr_db_estimated']:.2f} dB, CFO {round(report['cfo_hz_estimated'])} Hz, "
        f"{report['packets_received']} of {report['packets_sent']} packets, CBR {report['cbr']:.5f}. "
        f"Look at {out / 'comparison.png'}",
        highlight=False,
    )
    missing = next((q.lpips_missing for q in result.quality.values() if q is not None and q.lpips_missing), None)
    if missing:
        terminal.print(f"LPIPS is missing: {missing}", style="yellow")
