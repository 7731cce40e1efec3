"""A command in a process of its own, every line of JSON it prints with the time it came, and the memory it takes."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


class Watched:
    """`lrisc …` in a process of its own, killed at the latest on leaving the context."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self._errors = folder / f"{name}.stderr"
        self._lines: queue.Queue[tuple[float, dict[str, Any]]] = queue.Queue()
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "import lrisc; lrisc.main()", *arguments],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *_: object) -> None:
        if self.running():
            self._process.kill()
        self.wait()

    def running(self) -> bool:
        """It has not ended."""
        return self._process.poll() is None

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        """Its exit code, once everything that it printed is there."""
        code = self._process.wait()
        self._reader.join()
        return code

    def lines(self) -> Iterator[tuple[float, dict[str, Any]]]:
        """What it has printed since the last time, each with its time by time.monotonic."""
        while True:
            try:
                yield self._lines.get_nowait()
            except queue.Empty:
                return

    def last_words(self) -> str:
        """Last line on stderr."""
        return next((line for line in reversed(self._errors.read_text().splitlines()) if line.strip()), "nothing")

    def resident_mib(self) -> dict[str, float]:
        """Memory in RAM of the process and of those that it started, by name; empty when it has ended."""
        found: dict[str, float] = {}
        processes = [self._process.pid]
        for name in (self.name, "decoder service", "decoder's workers"):  # what a receiver starts, and what that does
            sizes = [size for process in processes if (size := _resident_mib(process)) is not None]
            if sizes:
                found[name] = sum(sizes)
            processes = [child for process in processes for child in _children(process)]
        return found

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put((time.monotonic(), json.loads(line)))


def _resident_mib(process: int) -> float | None:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE_MIB or None  # 0: it has ended
    except OSError:
        return None


def _children(process: int) -> list[int]:
    found: list[int] = []
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            found += map(int, file.read_text().split())
        except OSError:
            continue  # that thread has just ended
    return found
