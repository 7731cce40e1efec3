"""The workers of a decoder service: child processes, one per device, started again when they die or hang."""

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.errors import ModelError

ATTEMPTS = 3
"""Workers in a row that may end while they load a model, and that one picture may bring down."""


@dataclass
class Worker:
    """A worker process and the jobs it has."""

    name: bytes
    process: subprocess.Popen[bytes]
    device: str
    heard: float
    ready: bool = False
    batch: int = 1
    tickets: list[int] = field(default_factory=list)


class Crew:
    """Starts, watches and ends workers.

    Args:
        command: that starts one; its options are appended.
        options: for all of them, by name.
        devices: one worker each.
        patience_s: silence after which one counts as hung.
    """

    def __init__(
        self, command: Sequence[str], options: dict[str, str], devices: Sequence[str], patience_s: float
    ) -> None:
        self.restarts = 0
        self._folder = tempfile.TemporaryDirectory(prefix="lrisc-workers-")  # open to this user alone
        self.address = f"ipc://{self._folder.name}/workers"
        self._command = [*command, "--address", self.address]
        self._command += [text for option in options.items() for text in option]
        self._patience_s, self._environment = patience_s, environment() | _threads(len(devices))
        self._started = self._stillborn = 0
        self._devices = tuple(devices)
        self.workers: dict[bytes, Worker] = {}

    def start(self) -> None:
        """Starts one on every device."""
        for device in self._devices:
            self._start(device)

    def idle(self) -> list[Worker]:
        """Those that have loaded their model and have nothing to do."""
        return [worker for worker in self.workers.values() if worker.ready and not worker.tickets]

    def hear(self, name: bytes) -> Worker | None:
        """The worker of that name, if it still counts as one."""
        worker = self.workers.get(name)
        if worker is not None:
            worker.heard = time.monotonic()
        return worker

    def note_ready(self, worker: Worker, batch: int) -> None:
        """Its model is loaded, and it takes up to `batch` jobs at once."""
        worker.ready, worker.batch, self._stillborn = True, max(1, batch), 0

    def dead(self) -> list[Worker]:
        """Those that have died or hang, which are ended; they stay in `workers` until `replace`."""
        now = time.monotonic()
        dead = [
            worker
            for worker in self.workers.values()
            if worker.process.poll() is not None or now - worker.heard > self._patience_s
        ]
        for worker in dead:
            _kill(worker.process)
        return dead

    def replace(self, worker: Worker) -> None:
        """Starts another in place of a dead one.

        Raises:
            ModelError: `ATTEMPTS` in a row ended while they loaded.
        """
        del self.workers[worker.name]
        self.restarts += 1
        self._stillborn += not worker.ready
        if self._stillborn >= ATTEMPTS:
            code = worker.process.returncode
            raise ModelError(f"the decoder's worker on {worker.device} ends while it loads (exit code {code})")
        self._start(worker.device)

    def close(self) -> None:
        """Ends all, whatever they do."""
        for worker in self.workers.values():
            _kill(worker.process)
        self._folder.cleanup()

    def _start(self, device: str) -> None:
        self._started += 1
        name = f"worker {self._started}"
        process = subprocess.Popen(
            [*self._command, "--name", name, "--device", device],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=self._environment,
            start_new_session=True,  # Ctrl-C is for the service, which ends its workers
        )
        self.workers[name.encode()] = Worker(name.encode(), process, device, time.monotonic())


def environment() -> dict[str, str]:
    """Variables for a process of the service: where this package is found."""
    path = (str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH"))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


def _threads(workers: int) -> dict[str, str]:
    """Shares the cores out, unless someone has already; on its own every worker would take all of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores // workers)))}


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends a process, dead or alive, and lets go of it."""
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
