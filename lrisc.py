"""The `lrisc` command: photographs over radio with learned joint source-channel coding."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from flowgraphs.errors import LinkError
from models.codec import parse_cbr
from models.errors import ModelError
from sdr.errors import SdrError

# Everything heavy (torch, SciPy) is imported by the command that needs it: --help answers at once.
if TYPE_CHECKING:
    import numpy as np

    from models.pipeline import JsccCodec
    from sdr.channel import Channel
    from sdr.waveform import Waveform

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Photographs over software-defined radio with learned joint source-channel coding and a diffusion decoder.",
)
terminal = Console(stderr=True)
# Click's ClickException, by way of a public name: newer releases of typer carry a click of their own.
CommandLineError: type[Any] = typer.BadParameter.__mro__[2]


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
Model = Annotated[str, typer.Option(help="A shipped model, a folder of weights, or a Hugging Face id.")]
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


@app.command(epilog="Example: lrisc loopback photo.jpg --snr-db 5 --cbr 1/24 --channel multipath --cfo-hz 12000")
def loopback(
    photo: Annotated[Path | None, typer.Argument(help="Picture to send; without it, one of scikit-image's.")] = None,
    snr_db: Annotated[
        float | None, typer.Option(help="Es/N0 per data subcarrier, dB; −10…40.", show_default="10")
    ] = None,
    cbr: Cbr = "1/12",
    roi: Roi = None,
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
    ratio, conditions = parse_cbr(cbr), _conditions(channel, snr_db=snr_db, cfo_hz=cfo_hz, sfo_ppm=sfo_ppm, loss=loss)
    _prepare_folder(out)
    with _working("load models") as stage:
        from calibration.compare import compare, loopback_report
        from calibration.report import comparison_sheet
        from models.image import default_photo, load_image, save_image

        image, name = (load_image(photo), str(photo)) if photo is not None else default_photo()
        mask = _region(roi, image)
        waveform = _waveform(link)
        lrisc, deepjscc = _codec(model), _codec("deepjscc")
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
        _write_text(out / "report.json", json.dumps(report, indent=2) + "\n")
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


@app.command(epilog="Example: lrisc send photo.jpg --to out/photo.sigmf-meta --cbr 1/24 --snr-hint-db 8")
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
    _prepare_folder(to.parent)
    with _working("load models") as stage:
        import numpy as np

        from calibration.compare import identity
        from flowgraphs import link as chain
        from models.image import load_image
        from sdr.recording import write_recording

        image = load_image(photo)
        mask = _region(roi, image)
        waveform, codec = _waveform(link), _codec(model)
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


@app.command(epilog="Example: lrisc receive --from out/photo.sigmf-meta --out out/received --reference photo.jpg")
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
    from sdr.playback import Playback
    from sdr.recording import open_recording

    waveform = _waveform(link)
    playback = Playback(open_recording(source, rate_hz), waveform)
    _prepare_folder(out)
    with _working("load models") as stage:
        from calibration.hearing import Hearing
        from calibration.reception import image_line, receive_pictures, rejected_line
        from models.image import load_image

        original = load_image(reference) if reference is not None else None
        codec, hearing = _codec(model), Hearing(playback, waveform)
        images = receive_pictures(codec, hearing, out, original, steps=steps, seed=seed, stage=stage)
    report = {"images": images, **hearing.report()}
    if as_json:
        print(json.dumps(report))
        return
    for note in report["notes"]:
        terminal.print(note, style="yellow")
    if not images:
        print(f"no image found in {playback.recording.samples} samples; {rejected_line(hearing)}")
    for image in images:
        print(image_line(image["file"] or "not decoded", image))


@app.command(epilog="Example: lrisc inspect out/photo.sigmf-meta --out out/inspect")
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

    waveform = _waveform(link)
    opened = open_recording(recording, rate_hz)
    _prepare_folder(out)
    with _working("search for packets") as stage:
        from calibration.figure import draw
        from calibration.inspect import inspect as listen
        from calibration.inspect import report as numbers
        from calibration.reception import image_line, rejected_line
        from models.image import save_image

        inspection = listen(opened, waveform)
        stage("draw")
        report = numbers(inspection)
        save_image(out / "inspect.png", draw(inspection, recording.name))
        _write_text(out / "inspect.json", json.dumps(report) + "\n")
    if as_json:
        print(json.dumps(report))
        return
    for note in report["notes"]:
        terminal.print(note, style="yellow")
    for image in report["images"]:
        name = f"image {image['image_id']} of session {image['session']} at {image['start_s']:.4f} s"
        print(image_line(name, image))
    print(f"{report['packets_received']} packets; {rejected_line(inspection.hearing)}. Look at {out / 'inspect.png'}")


@app.command(epilog="Example: lrisc train configs/train_lrisc_jscc.yaml --data photos/ --validation held_out/")
def train(
    config: Annotated[Path, typer.Argument(help="Training stage as YAML.")],
    data: Annotated[list[Path], typer.Option(help="Folder or tar file of training pictures; may be repeated.")],
    validation: Annotated[list[Path], typer.Option(help="Folder or tar file of held-out pictures; may be repeated.")],
    out: Annotated[Path | None, typer.Option(help="Run folder [default: runs/NAME OF THE CONFIG].")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the config's.")] = None,
    as_json: Json = False,
) -> None:
    """Train one stage, or go on with an interrupted run; ends in a folder that --model takes.

    On several GPUs: accelerate launch -m lrisc train …
    """
    from models.train import train as run

    folder = out if out is not None else Path("runs") / config.stem.removeprefix("train_")
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    follower = os.environ.get("RANK", "0") != "0"  # of several processes, the first alone speaks
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=terminal, disable=follower) as bar:
        task = bar.add_task("training", total=None)

        def show(step: int, steps: int, losses: dict[str, float]) -> None:
            text = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
            bar.update(task, completed=step, total=steps, description=text)

        model = run(config, data, validation, folder, show, seed=seed)
    if follower:
        return
    if as_json:
        print(json.dumps({"model": str(model), "log": str(folder / "log.jsonl")}))
    else:
        print(f"trained: {model} (log in {folder / 'log.jsonl'})")


@app.command(epilog="Example: lrisc doctor --json")
def doctor(
    seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """What is installed, which radios and accelerators there are, what is missing and the command that mends it."""
    from dataclasses import asdict

    from calibration.doctor import diagnose

    with _working("look around"):
        checks = diagnose()
    healthy = all(check.ok for check in checks)
    if as_json:
        print(json.dumps({"ok": healthy, "checks": [asdict(check) for check in checks]}))
    else:
        table = Table("", "what")
        for heading in ("found", "to mend or add it"):
            table.add_column(heading, overflow="fold")
        for check in checks:
            table.add_row("[green]ok" if check.ok else "[red]bad", check.name, check.found, check.remedy or "")
        Console().print(table)
    if not healthy:
        raise typer.Exit(1)


@contextmanager
def _working(first: str) -> Iterator["Any"]:
    """A spinner on stderr that says what is being done."""
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=terminal, transient=True) as bar:
        task = bar.add_task(first, total=None)
        yield lambda text: bar.update(task, description=text)


def _codec(model: str) -> "JsccCodec":
    import torch

    from models.pipeline import JsccCodec

    return JsccCodec.from_pretrained(model, "cuda" if torch.cuda.is_available() else "cpu")


def _waveform(link: Path | None) -> "Waveform":
    from sdr.waveform import DEFAULT, load_waveform

    return DEFAULT if link is None else load_waveform(link)


def _conditions(channel: str, **given: float | None) -> "Channel":
    """The channel of that name or file, with the numbers that were given on the command line."""
    from dataclasses import replace

    from sdr.channel import parse_channel

    numbers: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(parse_channel(channel), **numbers)


def _region(roi: str | None, image: "np.ndarray") -> "np.ndarray | None":
    if roi is None:
        return None
    from models.roi_mask import load_roi

    mask: np.ndarray = load_roi(roi, image)
    return mask


def _prepare_folder(folder: Path) -> None:
    """Makes the output folder before hours are spent on what goes into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"cannot write to the folder {folder}: {error.strerror}; choose another") from error


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def main() -> None:
    """Entry point: user errors become one line on stderr and exit code 2, a picture that did not arrive 1."""
    try:
        code = app(standalone_mode=False)
    except (CommandLineError, ModelError, SdrError, UsageError) as error:
        text = error.format_message() if isinstance(error, CommandLineError) else str(error)
        print(f"lrisc: {text}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a full disk, a folder that vanished
        print(f"lrisc: {error.strerror or error}: {error.filename or 'no file named'}", file=sys.stderr)
        sys.exit(2)
    except LinkError as error:
        print(f"lrisc: {error}", file=sys.stderr)
        sys.exit(1)
    except (typer.Abort, KeyboardInterrupt):
        print("lrisc: interrupted; what was finished is kept", file=sys.stderr)
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
