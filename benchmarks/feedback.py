"""What feedback saves on a link whose SNR wanders: pictures through the software channel, reports late and noisy.

    python benchmarks/feedback.py --pictures kodak/            # about seven minutes on two busy cores
    python benchmarks/feedback.py --pictures kodak/ --quick    # a look

The SNR is a Gauss-Markov process in dB from picture to picture, 10 ± 5 dB, within 0…20 dB. Every method sends the same
256×256 centre crops through the same channels with the whole receiver; reports carry the receiver's own estimates. With
feedback, symbols cost what they gain an average picture with --cbr at --snr-hint-db (flowgraphs/adaptation.py).

Compared with a fixed rate twice: at equal LPIPS of the worst tenth (what nine of ten pictures are better than), and at
equal mean LPIPS. The fixed rate that does as well is interpolated between those measured, in log CBR. Intervals are
95 % of a bootstrap over blocks of successive pictures. Writes feedback.json, feedback.md and feedback.png.
"""

import json
import shlex
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script sees its own folder only

import numpy as np
import typer
from jaxtyping import Float64, UInt8
from rich.progress import track

from benchmarks.quality import pictures_in
from benchmarks.radio import provenance
from flowgraphs import link
from flowgraphs.adaptation import LinkAdapter, Setting, information
from flowgraphs.errors import LinkError
from flowgraphs.feedback import Report
from models.checkpoint import replace_text
from models.codec import Codec, grey_picture, parse_cbr
from models.errors import ModelError
from models.image import load_image
from models.metrics import lpips
from models.registry import load_codec
from models.weights import Quality, verify
from sdr.channel import Channel
from sdr.header import IMAGE_ID_LIMIT
from sdr.waveform import DEFAULT

LADDER = ("1/24", "1/16", "1/12", "1/8", "1/6")  # fixed rates
SIDE = 256
MEAN_DB, SPREAD_DB, MEMORY = 10.0, 5.0, 0.9
RADIO = Channel(cfo_hz=12e3, sfo_ppm=5.0)
KINDS = {
    "feedback": (1, 1.0, True),
    "feedback, ±3 dB": (1, 3.0, True),
    "feedback, 10 pictures late": (10, 1.0, True),
    "feedback, all pictures taken as average": (1, 1.0, False),
}
"""Pictures by which reports are late, standard deviation in dB of what is added to their SNR, and whether the rate
follows the information of pictures."""
HINT_ONLY = "hint alone"
WORST = 0.9
RESAMPLES, BLOCK = 2000, 8

Series = dict[str, list[float]]


def wander(count: int, rng: np.random.Generator) -> Float64[np.ndarray, "count"]:
    """SNR of each picture, dB."""
    values = np.empty(count)
    state = rng.standard_normal()
    for index in range(count):
        values[index] = state
        state = MEMORY * state + (1 - MEMORY**2) ** 0.5 * rng.standard_normal()
    return np.clip(MEAN_DB + SPREAD_DB * values, 0.0, 20.0)


def send(codec: Codec, image: UInt8[np.ndarray, "h w 3"], snr_db: float, use: Setting, seed: int) -> dict[str, float]:
    """One picture: symbols per value, LPIPS, and the SNR that the receiver saw; NaN where no picture came."""
    try:
        passage = link.loopback(
            codec,
            image,
            DEFAULT,
            replace(RADIO, snr_db=snr_db),
            cbr=use.cbr,
            snr_hint_db=use.snr_hint_db,
            seed=seed,
        )
        picture = link.decode(codec, passage.received)
    except LinkError:
        return {"cbr": use.cbr, "lpips": lpips(image, grey_picture(*image.shape[:2])), "estimate_db": float("nan")}
    return {"cbr": passage.sent.cbr, "lpips": lpips(image, picture), "estimate_db": passage.received.snr_db}


def follow(
    one: Callable[[int, Setting], dict[str, float]],
    default: Setting,
    quality: tuple[Quality, ...],
    late: int,
    noise_db: Float64[np.ndarray, "count"],
    held: list[float],
) -> Series:
    """A sender with feedback: every picture with the setting of what has been reported by then, one a second.

    held: information of the pictures, one after the other and again.
    """
    time_s = 0.0
    adapter = LinkAdapter(0, default, quality, clock=lambda: time_s)
    on_the_way: deque[Report | None] = deque([None] * (late - 1))
    found: Series = {"cbr": [], "lpips": [], "hint_db": []}
    for index, noise in enumerate(noise_db):
        time_s = float(index)
        use = adapter.setting(index % IMAGE_ID_LIMIT, held[index % len(held)])
        result = one(index, use)
        for key in ("cbr", "lpips"):
            found[key].append(result[key])
        found["hint_db"].append(use.snr_hint_db)
        on_the_way.append(Report(0, index % IMAGE_ID_LIMIT, result["estimate_db"] + float(noise), 1, 1, index + 1))
        report = on_the_way.popleft()
        if report is not None:
            adapter.update(report)
    return found


def equal_rate(fixed: dict[str, Series], wanted: float, statistic: Callable[..., Any], rows: Any) -> float:
    """CBR of the fixed rate with that LPIPS, at most and at least those measured."""
    curve = sorted(
        (float(np.mean(np.array(s["cbr"])[rows])), float(statistic(np.array(s["lpips"])[rows]))) for s in fixed.values()
    )
    cbrs, values = np.log([c for c, _ in curve]), np.minimum.accumulate([v for _, v in curve])
    return float(np.exp(np.interp(-wanted, -values, cbrs)))


def saving(series: Series, fixed: dict[str, Series], statistic: Callable[..., Any]) -> dict[str, float]:
    """Share of the symbols saved against the fixed rate of equal quality, with its interval."""
    cbr, quality = np.array(series["cbr"]), np.array(series["lpips"])

    def saved(rows: Any) -> float:
        return 1 - float(cbr[rows].mean()) / equal_rate(fixed, float(statistic(quality[rows])), statistic, rows)

    rng, count = np.random.default_rng(0), len(cbr)
    draws = [
        (rng.integers(count, size=-(-count // BLOCK))[:, None] + np.arange(BLOCK)).ravel()[:count] % count
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile([saved(draw) for draw in draws], (0.025, 0.975))
    return {"saved": saved(np.arange(count)), "low": float(low), "high": float(high)}


def table(report: dict[str, Any]) -> str:
    """The result as Markdown."""
    head = "| | mean CBR | LPIPS mean | LPIPS, 9 of 10 better | saved at equal worst tenth | saved at equal mean |"
    lines = [
        "# Feedback on a wandering link\n",
        f"{report['pictures']} pictures of {SIDE}×{SIDE}; a symbol costs what it gains at CBR {report['cbr']} and "
        f"{report['snr_hint_db']:g} dB. Brackets: 95 % intervals. `{report['command']}`\n",
        head,
        "|---|---|---|---|---|---|",
    ]
    for name, row in report["methods"].items():
        cells = [f"1/{1 / row['cbr']:.1f}", f"{row['mean']:.3f}", f"{row['worst_tenth']:.3f}"]
        for key in ("at_equal_worst_tenth", "at_equal_mean"):
            value = row.get(key)
            cells.append(
                f"{100 * value['saved']:.1f} % [{100 * value['low']:.1f}, {100 * value['high']:.1f}]" if value else "–"
            )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Saved against the fixed rate with that LPIPS, in the mean or of the picture that nine of ten are better than. "
        "An interval that holds 0 shows no saving.",
    ]
    return "\n".join(lines) + "\n\n![SNR, rate and LPIPS from picture to picture](feedback.png)\n"


def nearest(fixed: dict[str, Series], cbr: float) -> str:
    """The fixed rate that an average picture of the others would have."""
    return min(fixed, key=lambda name: abs(float(np.mean(fixed[name]["cbr"])) - cbr))


def plot(path: Path, snrs_db: Float64[np.ndarray, "count"], shown: dict[str, Series]) -> None:
    """SNR and hints, rate, LPIPS over the pictures."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(3, 1, figsize=(8, 7), sharex=True, layout="constrained")
    axes[0].plot(snrs_db, "k", label="SNR of the link")
    for colour, (name, series) in enumerate(shown.items()):
        for axis, key in zip(axes, ("hint_db", "cbr", "lpips"), strict=True):
            axis.plot(series.get(key, []), f"C{colour}", label=name, linewidth=1)
    for axis, label in zip(axes, ("dB", "CBR", "LPIPS"), strict=True):
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize="small")
    axes[-1].set_xlabel("picture")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(
    pictures: Annotated[Path, typer.Option(help="Folder of pictures, of at least 256×256, one after the other.")],
    count: Annotated[int, typer.Option(min=2, help="Pictures to send.")] = 64,
    model: Annotated[str, typer.Option(help="As `lrisc send --model`; with a table of quality.")] = "lrisc",
    cbr: Annotated[str, typer.Option(help="Of an average picture at --snr-hint-db.")] = "1/8",
    snr_hint_db: Annotated[float, typer.Option(help="Of the fixed rates, and before the first report.")] = 8.0,
    seed: Annotated[int, typer.Option(min=0, help="Of SNR, channels and noise of the reports.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Six pictures, three fixed rates.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("benchmarks/results/feedback"),
) -> None:
    """Measure what feedback saves on a link whose SNR wanders."""
    count, ladder = (6, LADDER[::2]) if quick else (count, LADDER)
    try:
        files = [pictures / name for name in pictures_in(pictures, count)]
        codec, quality, ratio = load_codec(model), verify(model).quality, parse_cbr(cbr)
        if not quality:
            raise ModelError(f"model {model!r} has no table of quality: run scripts/rate_table.py")
        images = []
        for file in files:
            image = load_image(file)
            top, left = ((side - SIDE) // 2 for side in image.shape[:2])
            images.append(np.ascontiguousarray(image[top : top + SIDE, left : left + SIDE]))
    except ModelError as error:
        print(f"feedback: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    rng = np.random.default_rng(seed)
    snrs_db = wander(count, rng)
    noise_db = rng.standard_normal(count)

    def one(index: int, use: Setting) -> dict[str, float]:
        return send(codec, images[index % len(images)], float(snrs_db[index]), use, seed + index)

    default = Setting(snr_hint_db, ratio)
    jobs: dict[str, Callable[[], Series]] = {}
    for text in ladder:

        def run_fixed(rate: float = parse_cbr(text)) -> Series:
            results = [one(index, Setting(snr_hint_db, rate)) for index in range(count)]
            return {key: [result[key] for result in results] for key in ("cbr", "lpips")}

        jobs[f"fixed {text}"] = run_fixed
    average, held = [1.0], [information(codec, image) for image in images]
    jobs[HINT_ONLY] = lambda: follow(one, default, (), 1, noise_db, average)
    for name, (late, spread, looks) in KINDS.items():

        def run_kind(late: int = late, spread: float = spread, looks: bool = looks) -> Series:
            return follow(one, default, quality, late, spread * noise_db, held if looks else average)

        jobs[name] = run_kind
    series = {name: job() for name, job in track(jobs.items(), "methods")}
    fixed = {name: values for name, values in series.items() if name.startswith("fixed")}

    def worst_tenth(values: Any) -> float:
        return float(np.quantile(values, WORST))

    methods: dict[str, dict[str, Any]] = {}
    for name, values in series.items():
        methods[name] = {
            "cbr": float(np.mean(values["cbr"])),
            "mean": float(np.mean(values["lpips"])),
            "worst_tenth": worst_tenth(values["lpips"]),
        }
        if name not in fixed:
            methods[name]["at_equal_worst_tenth"] = saving(values, fixed, worst_tenth)
            methods[name]["at_equal_mean"] = saving(values, fixed, np.mean)
    given = [f"{pictures.name}/" if word == str(pictures) else word for word in sys.argv[1:]]  # of nobody's disk
    command = ["python", "benchmarks/feedback.py", *given]
    report = {
        **provenance([]),
        "command": shlex.join(command),
        "model": codec.name,
        "digest": codec.digest,
        "pictures": count,
        "cbr": cbr,
        "snr_hint_db": snr_hint_db,
        "snr_db": snrs_db.tolist(),
        "methods": methods,
        "series": series,
    }
    out.mkdir(parents=True, exist_ok=True)
    replace_text(out / "feedback.json", json.dumps(report, indent=1) + "\n")
    replace_text(out / "feedback.md", table(report))
    plot(out / "feedback.png", snrs_db, {name: series[name] for name in (nearest(fixed, ratio), "feedback")})
    print(table(report))


if __name__ == "__main__":
    typer.run(main)
