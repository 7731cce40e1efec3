"""Passages on a Dask cluster that is there already. Its scheduler is trusted: what reaches it can run code on it.

The workers need this package, and the plan's pictures, masks and weights under the same paths.
"""

import itertools
import logging
import queue
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from calibration.errors import CampaignError
from calibration.measure import Outcome, failed, measure
from calibration.points import Passage

_CONNECT_S = 10.0
_POLL_S = 0.5
_AHEAD = 3  # passages that the scheduler knows of for each thread of its workers


def on_cluster(passages: Iterable[Passage], address: str, patience_s: float = 60.0) -> Iterator[Outcome]:
    """Outcomes of all passages, in the order in which they are done.

    A worker that dies costs nothing but time: the scheduler gives its passages to another one. A passage that takes
    several workers with it becomes failed rows.

    Args:
        patience_s: how long the scheduler, or all of its workers, may be gone.

    Raises:
        CampaignError: no such cluster, it is gone for longer, or its workers lack what the plan needs.
    """
    try:
        from distributed import Client
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        raise CampaignError("a cluster needs Dask, which is not installed: pip install 'lrisc[cluster]'") from error
    for name in ("distributed", "distributed.client"):  # what matters is said in one line, below
        logging.getLogger(name).setLevel(logging.CRITICAL)
    todo = iter(passages)
    first = next(todo, None)
    if first is None:
        return
    try:
        client: Any = Client(address, timeout=min(_CONNECT_S, patience_s), set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise CampaignError(f"no Dask scheduler answers at {address}: start it, or leave out --cluster") from error
    waiting: dict[Any, Passage] = {}
    future: Any
    try:
        pulse = _Pulse(client, address, patience_s)
        _require_fit(client, first)
        todo = itertools.chain([first], todo)
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        again: list[Passage] = []
        while True:
            while len(waiting) < pulse.window and (passage := again.pop() if again else next(todo, None)) is not None:
                future = client.submit(measure, passage, pure=False)
                waiting[future] = passage
                future.add_done_callback(ended.put)
            if not waiting and not again:
                return
            try:
                future = ended.get(timeout=_POLL_S)
            except queue.Empty:
                pulse.feel()
                continue
            passage = waiting.pop(future)
            try:
                outcome = future.result(timeout=patience_s)
            except KilledWorker:
                outcome = failed(passage, "its worker died, and so did those that tried again: killed, out of memory")
            except CampaignError:
                raise
            except (CancelledError, OSError, TimeoutError):  # a scheduler that is gone, or was started again
                again.append(passage)
                pulse.feel()
                continue
            except Exception as error:
                raise CampaignError(f"a worker of {address}: {type(error).__name__}: {error}") from error
            pulse.alive()
            yield outcome
    finally:
        client.close(timeout=2)


class _Pulse:
    """Whether the cluster lives, and how much it can take at a time."""

    def __init__(self, client: Any, address: str, patience_s: float) -> None:
        self._client, self._address, self._patience_s = client, address, patience_s
        self.window = 1
        self.alive()
        self.feel()

    def alive(self) -> None:
        self._seen = time.monotonic()

    def feel(self) -> None:
        """Raises CampaignError once scheduler or workers have been gone for too long."""
        gone = "its scheduler"
        if self._client.status == "running":
            gone = "all of its workers"
            try:
                if threads := sum(self._client.ncores().values()):
                    self.window = _AHEAD * threads
                    self.alive()
                    return
            except Exception:  # of many kinds while the connection breaks; the next look will tell
                gone = "its scheduler"
        if self._client.status == "closed" or time.monotonic() - self._seen > self._patience_s:
            raise CampaignError(
                f"the cluster at {self._address} is gone ({gone}); what was printed is safe, "
                "the same command goes on when it is back, with or without --cluster"
            )


def _require_fit(client: Any, passage: Passage) -> None:
    try:
        answers = client.run(_sees, passage.picture.path)
    except Exception as error:  # whatever a foreign process cannot import
        raise CampaignError(f"the cluster's workers cannot run lrisc of this version: {error}") from error
    if blind := [worker for worker, sees in answers.items() if not sees]:
        raise CampaignError(
            f"the worker {blind[0]} cannot read {passage.picture.path}: workers need the pictures under the same path"
        )


def _sees(path: str) -> bool:
    return Path(path).is_file()
