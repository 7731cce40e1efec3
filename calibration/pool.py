"""Passages on this machine's cores, one process each."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import Connection

from calibration.measure import Outcome, failed, measure
from calibration.points import Passage

_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
"""In every worker: sums depend on how many threads share them, and the cores are taken by the other workers."""


def in_pool(passages: Iterable[Passage], workers: int) -> Iterator[Outcome]:
    """Outcomes of all passages, in the order in which they are done.

    A worker that dies (killed, out of memory) costs nothing but time: what was being worked at is done again, one at a
    time; a passage that takes its worker with it even then is given up and becomes failed rows.
    """
    todo = iter(passages)
    while True:
        waiting: dict[Future[Outcome], Passage] = {}
        try:
            with _workers(workers) as pool:
                for passage in islice(todo, 2 * workers):
                    waiting[pool.submit(measure, passage)] = passage
                while waiting:
                    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        outcome = future.result()
                        del waiting[future]
                        for passage in islice(todo, 1):
                            waiting[pool.submit(measure, passage)] = passage
                        yield outcome
                return
        except BrokenProcessPool:
            suspects = list(waiting.values())
        yield from _one_by_one(suspects)


def _one_by_one(suspects: list[Passage]) -> Iterator[Outcome]:
    while suspects:
        with contextlib.suppress(BrokenProcessPool), _workers(1) as pool:
            while suspects:
                outcome = pool.submit(measure, suspects[0]).result()
                del suspects[0]
                yield outcome
            return
        yield failed(suspects.pop(0), "its process died: killed, or out of memory")


@contextlib.contextmanager
def _workers(number: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that live no longer than this one, however it ends, and no longer than the block."""
    context = multiprocessing.get_context("spawn")  # torch and its threads don't survive a fork
    theirs, ours = context.Pipe(duplex=False)
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    pool = ProcessPoolExecutor(number, mp_context=context, initializer=_prepare, initargs=(theirs,))
    try:
        yield pool
    finally:
        ours.close()
        theirs.close()
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _prepare(pipe: Connection) -> None:
    """Of a worker: leaves Ctrl-C to the parent, and ends when the other end of the pipe does, parent killed or not."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def leave() -> None:
        with contextlib.suppress(EOFError, OSError):
            pipe.recv_bytes()
        os._exit(0)

    threading.Thread(target=leave, daemon=True).start()
