"""Runs a tiny campaign again and again, killing it at random; for a process of its own, started by test_killed.py.

    python -m tests.calibration.killed FOLDER RUN KILLS SEED

Forks, because a process that has everything imported can be killed many times in a second. Prints which points were
shown by each child.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from tests.calibration.tiny import run, tiny_design


def child(folder: Path, out: Path, pipe: int) -> None:
    torch.set_num_threads(1)  # before any work: a fork has none of its parent's threads
    run(
        tiny_design(folder, images=(str(folder / "0.png"),), repeats=4),
        out,
        show=lambda row, done, points: os.write(pipe, f"{row['point']}\n".encode()),
    )


def main(folder: Path, out: Path, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    shown: list[list[int]] = []
    for number in range(kills + 1):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            child(folder, out, writer)
            os._exit(0)
        os.close(writer)
        lines = os.fdopen(reader)
        points: list[int] = []
        if number < kills:
            for _ in range(rng.randrange(4)):
                if line := lines.readline():
                    points.append(int(line))
            if number % 2:  # every other one at the very moment at which a row is shown
                time.sleep(rng.random() * 0.2)
            os.kill(pid, signal.SIGKILL)
        points += [int(line) for line in lines]  # what it still said
        _, status = os.waitpid(pid, 0)
        if number == kills and status != 0:
            sys.exit(f"the last run ended with status {status}")
        shown.append(points)
    print(json.dumps(shown))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
