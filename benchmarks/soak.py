"""A soak: pictures over the air of two virtual HackRFs for half an hour, by `lrisc send` and `lrisc receive`.

    python benchmarks/soak.py                  # 30 minutes
    python benchmarks/soak.py --minutes 600    # over night
    python benchmarks/soak.py --quick          # a minute: no figures to quote

Two processes, two radios of 8 bits, 26 ppm apart at 2.45 GHz. The sender's duty cycle makes it about one picture of
256×256 a second; the receiver listens to 4 Msps all the time. Every image is followed from its last sample to its
picture, which is compared with the original; the memory of every process is sampled. The air's pace is `free`: a
machine that is too slow makes the air slower and loses no sample. The
networks run on one thread each. Writes soak.json, soak.md and soak.png.
"""

import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script sees its own folder only

import numpy as np
import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.radio import provenance, write
from benchmarks.radio_rows.figures import COLOURS, figure
from benchmarks.soak_rows.account import SETTLED, Account, judge
from benchmarks.soak_rows.processes import ROOT, Watched
from models.image import default_photo, load_image, save_image
from models.metrics import psnr_db

MINUTES = 30.0
DUTY_CYCLE = 0.01
SIZE = 256
SNR_HINT_DB = 20
MOST_FPS = 20
"""No sender is as fast; so many names are in its list."""
SAMPLE_S, TICK_S = 1.0, 0.1
SILENCE_S = 30.0
"""When nothing has come for so long after the sender's end, nothing will."""
FIRST_S = 180.0
"""So long may loading the models and the first picture take, or any other."""
terminal = Console(stderr=True)


def prepare(folder: Path, minutes: float) -> tuple[list[np.ndarray], Path, Path]:
    """Pictures, a list that names them in turn often enough, and the virtual station with its duty cycle."""
    photo = default_photo()[0]
    corners = [(top, left) for top in (0, SIZE) for left in (0, SIZE)]
    pictures = [photo[top : top + SIZE, left : left + SIZE] for top, left in corners]
    for number, picture in enumerate(pictures):
        save_image(folder / f"{number}.png", picture)
    names = [f"{number % len(pictures)}.png" for number in range(int(minutes * 60 * MOST_FPS) + 1)]
    (folder / "list.txt").write_text("\n".join(names) + "\n")
    station = yaml.safe_load((ROOT / "configs" / "radio_virtual.yaml").read_text())
    for band in station["bands"]:
        band["duty_cycle"] = DUTY_CYCLE
    (folder / "station.yaml").write_text(yaml.safe_dump(station))
    return pictures, folder / "list.txt", folder / "station.yaml"


class Soak:
    """Both commands at work, and what is noted of them."""

    def __init__(self, receiver: Watched, sender: Watched, pictures: list[np.ndarray]) -> None:
        self.receiver, self.sender = receiver, sender
        self.account = Account()
        self.memory: dict[str, list[tuple[float, float]]] = {}
        self.loads: list[float] = []
        self.reports: dict[str, dict[str, Any]] = {}
        self._pictures = pictures
        self._begun = self._moved = time.monotonic()

    def run(self, told: Callable[[float], None]) -> None:
        """To the end; `told` gets the minutes passed. Raises SystemExit if a command fails or nothing moves."""
        sampled = -SAMPLE_S
        while self.sender.running() or not (self.account.settled() or self._silent_s() > SILENCE_S):
            time.sleep(TICK_S)
            self._listen()
            if not self.receiver.running():
                raise SystemExit(f"the receiver ended: {self.receiver.last_words()}")
            if self._silent_s() > FIRST_S:
                raise SystemExit(f"nothing comes any more; the sender said: {self.sender.last_words()}")
            if (passed := time.monotonic() - self._begun) >= sampled + SAMPLE_S:
                sampled = passed
                told(passed / 60)
                if self.account.images and self.sender.running():  # before, models are loaded
                    self._sample(passed)
        code = self.sender.wait()
        self._listen()
        self.receiver.interrupt()
        self.receiver.wait()
        self._listen()
        self.account.close()
        if code or not self.account.images:
            raise SystemExit(f"the sender ended with {code}: {self.sender.last_words()}")

    def _silent_s(self) -> float:
        return time.monotonic() - self._moved

    def _sample(self, at_s: float) -> None:
        self.loads.append(os.getloadavg()[0])
        for name, mib in (self.sender.resident_mib() | self.receiver.resident_mib()).items():
            self.memory.setdefault(name, []).append((round(at_s, 1), round(mib, 3)))

    def _listen(self) -> None:
        for at, line in self.sender.lines():
            self._moved = at
            if "image_id" in line:
                self.account.sent(line, at - self._begun)
            else:
                self.reports["sender"] = line
        for at, line in self.receiver.lines():
            self._moved = at
            if "image_id" not in line:
                self.reports["receiver"] = line
                continue
            image = self.account.came(line, at - self._begun)
            if line["file"] is not None:
                file = Path(line["file"])
                image.psnr_db = psnr_db(self._pictures[image.number % len(self._pictures)], load_image(file))
                file.unlink()  # a night would fill the disk


def soak(minutes: float, folder: Path, told: Callable[[float], None]) -> Soak:
    """Runs both commands in `folder`. Raises SystemExit if one of them fails."""
    pictures, listed, station = prepare(folder, minutes)
    environment = os.environ | {"LRISC_AIR_DIR": str(folder / "air")}
    radio = "soapy:driver=lrisc,serial={},ppm={}"
    receive = ["receive", "--from", radio.format("bob", -12), "--station", str(station)]
    receive += ["--out", str(folder / "received"), "--json"]
    send = ["send", str(listed), "--to", radio.format("alice", 14) + ",peers=1", "--station", str(station)]
    send += ["--transmit", "--seconds", str(60 * minutes), "--snr-hint-db", str(SNR_HINT_DB), "--seed", "0", "--json"]
    with (
        Watched("receiver", receive, environment, folder) as receiver,
        Watched("sender", send, environment, folder) as sender,
    ):
        work = Soak(receiver, sender, pictures)
        work.run(told)
    return work


# ---------------------------------------------------------------- to read


def markdown(result: dict[str, Any]) -> str:
    """What was asked, what was counted, and under which conditions."""
    load, counts = result["load"], result["images"]
    lines = ["# Soak", ""]
    if result["quick"]:
        lines += ["**A quick look: too short to tell a leak. No figures to quote.**", ""]
    lines += [
        f"{result['minutes']:g} minutes of sending between two virtual HackRFs (two processes and their decoder), on "
        f"{result['machine']['cores']} cores with a load of {load['mean']:.1f} on average "
        f"({load['min']:.1f}…{load['max']:.1f}, this benchmark included).",
        "",
        "| | asked | measured | passed |",
        "|-|-|-|-|",
    ]
    for row in result["findings"]:
        lines.append(
            f"| {row['title']} | {row['asked']} | {row['measured']} | {'yes' if row['passed'] else '**no**'} |"
        )
    lines += [
        "",
        "Rises are of the straight line through the trace, from its first to its last moment, with 95 % confidence "
        "(scatter taken as independent, so that the interval is too narrow where memory goes up and down again "
        "slowly), and the mean.",
        "",
        f"Sent {counts['sent']}, received {counts['received']}, decoded {counts['decoded']}. PSNR of the pictures "
        f"{result['psnr_db']['mean']:.2f} dB on average, {result['psnr_db']['min']:.2f} dB at least. From the last "
        f"sample, the radio's padding included, to the picture in a file {result['latency_s']['median']:.2f} s in the "
        f"middle, {result['latency_s']['max']:.2f} s at most; negative where the picture came before the sender knew.",
    ]
    if result["minutes"] < MINUTES:
        rejected = sum(result["reports"]["receiver"]["rejected"].values())
        lines += [
            "",
            f"**Shorter than the {MINUTES:g} minutes that are asked.** The receiver remembers its last 10,000 "
            f"candidates that were no packets, and had {rejected}: while that fills, memory rises by a MiB or two, and "
            "a slow leak cannot be told from it.",
        ]
    for reason, count in counts["incomplete_reasons"].items():
        lines += ["", f"Incomplete: {count} × {reason}."]
    lines += [
        "",
        "![memory, SNR and latency over time](soak.png)",
        "",
        f"Made by `{result['command']}`, commit {result['commit'][:12]}"
        + (" with changes" if result["commit"].endswith("-dirty") else "")
        + ".",
    ]
    return "\n".join(lines) + "\n"


def draw(path: Path, result: dict[str, Any]) -> None:
    """Memory against its beginning, SNR, and latency over time."""
    images = [image for image in result["account"] if image["came_s"] is not None]
    minutes = [image["sent_s"] / 60 for image in images]
    with figure(path, columns=3) as (memory, snr, latency):
        for (name, trace), colour in zip(result["memory_s_mib"].items(), COLOURS, strict=False):
            at, mib = np.array(trace).T
            settled = float(np.mean(mib[int(SETTLED * len(mib)) :]))
            memory.plot(at / 60, mib - settled, color=colour, label=f"{name}, {settled:.0f} MiB")
        memory.set(title="Memory", xlabel="minutes", ylabel="resident, above the mean of the second half, MiB")
        memory.legend()
        snr.plot(minutes, [image["snr_db"] for image in images], ".", color=COLOURS[0])
        snr.set(title="SNR estimate of every image", xlabel="minutes", ylabel="dB")
        latency.plot(minutes, [image["came_s"] - image["sent_s"] for image in images], ".", color=COLOURS[1])
        latency.set(title="Last sample to picture in a file", xlabel="minutes", ylabel="s")


def main(
    out: Annotated[Path, typer.Option(help="Folder for soak.json, soak.md and soak.png.")] = Path(
        "benchmarks/results/soak"
    ),
    minutes: Annotated[float, typer.Option(min=0.1, help="How long pictures are sent.")] = MINUTES,
    quick: Annotated[bool, typer.Option("--quick", help="One minute: no figures to quote.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print soak.json on stdout instead of the table.")] = False,
) -> None:
    """Send pictures over the virtual air for a long time: nothing may leak, drift or be unaccounted for.

    Takes --minutes and a little; the machine need not be idle, and its load is reported.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"cannot make folder {out}: {error.strerror}") from error
    minutes = 1.0 if quick else minutes
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, Progress(*columns, console=terminal) as progress:
        task = progress.add_task("soak", total=minutes)
        work = soak(minutes, Path(folder), lambda passed: progress.update(task, completed=passed))
    result = {"quick": quick, "minutes": minutes, **origin(minutes, quick), **summarise(work)}
    write(out / "soak.json", json.dumps(result, ensure_ascii=False) + "\n")
    draw(out / "soak.png", result)
    write(out / "soak.md", markdown(result))
    if as_json:
        print((out / "soak.json").read_text(encoding="utf-8"), end="")
        return
    table = Table("", "asked", "measured", "passed")
    for row in result["findings"]:
        table.add_row(escape(row["title"]), row["asked"], row["measured"], "yes" if row["passed"] else "[red]no[/]")
    Console().print(table)


def origin(minutes: float, quick: bool) -> dict[str, Any]:
    """How the result was made."""
    arguments = ["--quick"] if quick else ["--minutes", f"{minutes:g}"]
    return provenance([]) | {"command": shlex.join(["python", "benchmarks/soak.py", *arguments])}


def summarise(work: Soak) -> dict[str, Any]:
    """Findings and everything noted, for JSON."""
    images = work.account.images.values()
    quality = [image.psnr_db for image in images if image.psnr_db is not None]
    latency = [image.latency_s for image in images if image.latency_s is not None]
    if not quality:
        raise SystemExit(f"no picture came: {work.receiver.last_words()}")
    return {
        "load": {"mean": float(np.mean(work.loads)), "min": min(work.loads), "max": max(work.loads)},
        "findings": judge(work.account, work.memory),
        "images": work.account.summary(),
        "psnr_db": {"mean": float(np.mean(quality)), "min": min(quality)},
        "latency_s": {"median": float(np.median(latency)), "max": max(latency)},
        "reports": work.reports,
        "memory_s_mib": work.memory,
        "account": work.account.rows(),
    }


if __name__ == "__main__":
    typer.run(main)
