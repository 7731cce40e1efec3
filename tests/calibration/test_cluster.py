"""Campaigns on a Dask cluster: a real scheduler and two workers on this machine, and what happens when they die."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client

from calibration.cluster import on_cluster
from calibration.errors import CampaignError
from calibration.ledger import Records
from calibration.measure import Outcome
from calibration.points import Passage
from tests.calibration.tiny import run, tiny_design

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """A scheduler and workers, each a process on the loopback interface."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.address = f"tcp://127.0.0.1:{free_port()}"
        port = self.address.rpartition(":")[2]
        self._folder = folder
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")
        options = (self.address, "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard", "--no-nanny")
        self.workers = [self._start("worker", *options, "--name", str(number)) for number in range(workers)]
        # On a busy machine a worker is longer on its way than the tests' patience with one that is gone.
        with Client(self.address, timeout=60, set_as_default=False) as client:  # type: ignore[no-untyped-call]
            client.wait_for_workers(workers, timeout=60)

    def _start(self, kind: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "distributed.cli.dask_" + kind, *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, cwd=self._folder, env=environment, stdout=quiet, stderr=quiet)

    def close(self) -> None:
        for process in [self.scheduler, *self.workers]:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, 2)
    yield made
    made.close()


def test_dead_workers_change_no_row_and_a_vanished_cluster_is_resumed_without(
    cluster: Cluster, tiny_folder: Path, tmp_path: Path
) -> None:
    design = tiny_design(tiny_folder, models=(str(tiny_folder / "tiny"),), repeats=2)

    def dying(work: Iterator[Passage]) -> Iterator[Outcome]:
        """The cluster, of which one worker is killed, and later all that is left."""
        for number, outcome in enumerate(on_cluster(work, cluster.address, patience_s=5.0)):
            yield outcome
            if number == 1:
                cluster.workers[0].send_signal(signal.SIGKILL)
            if number == 5:
                cluster.scheduler.send_signal(signal.SIGKILL)

    begun = time.monotonic()
    with pytest.raises(CampaignError, match=r"cluster at tcp://127\.0\.0\.1:\d+ is gone .* what was printed is safe"):
        run(design, tmp_path / "run", source=dying)
    assert time.monotonic() - begun < 120, "it is not waited for for ever"
    with Records(tmp_path / "run") as records:
        assert 6 <= len(list(records.rows())) / 2 < 12  # two numbers of steps each
    assert run(design, tmp_path / "run").done_before >= 12
    run(design, tmp_path / "here")
    assert (tmp_path / "run/results.csv").read_bytes() == (tmp_path / "here/results.csv").read_bytes()


def test_a_cluster_that_is_not_there_is_one_line(tiny_folder: Path, tmp_path: Path) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(CampaignError, match=f"no Dask scheduler answers at {address}"):
        run(tiny_design(tiny_folder), tmp_path, source=lambda work: on_cluster(work, address, patience_s=1.0))
    assert (tmp_path / "results.csv").read_text().count("\n") == 1
