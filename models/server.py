"""The decoder service: takes jobs from clients, gives them to workers, and loses none when a worker dies.

Clients are in front, workers behind, each at a ROUTER socket. What a dead worker had is decoded again by another. The
process itself runs no network, so a picture that brings a worker down does not bring the service down.
"""

import argparse
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import zmq

from models.crew import ATTEMPTS, Crew
from models.errors import ModelError
from models.front import Front, receive
from models.protocol import (
    MAX_FRAME_BYTES,
    Batch,
    Bye,
    Failure,
    Full,
    Job,
    Message,
    Picture,
    Ping,
    Pong,
    Ready,
    Refusal,
    decode,
    encode,
)
from models.weights import verify

CAPACITY = 64
WORKER = (sys.executable, "-P", "-m", "models.worker")

_QUEUE_BYTES = 1 << 30
_TICK_MS = 100
_SILENCE_S = 60.0  # loading a model may hold up a worker's heartbeat


@dataclass
class _Task:
    client: bytes
    job: Job
    attempts: int = 0


class Server:
    """A running service; `run` serves until `stop` says so, `close` ends the workers.

    Args:
        address: for clients, like tcp://127.0.0.1:5755 or ipc:///folder/name.
        model: name, folder or hub id.
        devices: one worker each: cpu, cuda, cuda:1 or auto.
        keys: folder with CURVE keys; needed for an address that is not loopback.
        runtime: see `models.runtime`.
        capacity: jobs that may wait or be in work; more are refused until there is place.
        batch: most pictures that a worker is given at once, 0 for what suits its device.
        worker: command that starts one.
        patience_s: silence after which a worker counts as hung, and a client as gone.

    Raises:
        ModelError: no such model, keys that cannot be used, or an address that cannot be bound.
    """

    def __init__(
        self,
        address: str,
        model: str,
        devices: Sequence[str] = ("auto",),
        *,
        keys: Path | None = None,
        runtime: str = "auto",
        capacity: int = CAPACITY,
        batch: int = 0,
        worker: Sequence[str] = WORKER,
        patience_s: float = _SILENCE_S,
    ) -> None:
        self.card = verify(model)
        self.done = self.failed = 0
        self._model, self._capacity, self._patience_s = model, capacity, patience_s
        self._tasks: dict[int, _Task] = {}
        self._queue: deque[int] = deque()
        self._clients: dict[bytes, float] = {}
        self._ticket = 0
        self._context = zmq.Context()
        try:
            self._front = Front(self._context, address, keys)
        except ModelError:
            self._context.destroy(linger=0)
            raise
        options = {"--model": model, "--runtime": runtime, "--batch": str(batch)}
        self._crew = Crew(worker, options, devices, patience_s)
        self._back = self._context.socket(zmq.ROUTER)
        self._back.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        self._back.bind(self._crew.address)
        self._poller = zmq.Poller()
        for socket in (*self._front.sockets, self._back):
            self._poller.register(socket, zmq.POLLIN)
        self._crew.start()

    @property
    def address(self) -> str:
        """Where it is bound; of a wildcard port, the one that was had."""
        return self._front.address

    def run(self, stop: Callable[[], bool]) -> None:
        """Serves until `stop` returns true; it is asked about every 0.1 s.

        Raises:
            ModelError: no worker can load the model.
        """
        try:
            while not stop():
                self._poller.poll(_TICK_MS)
                self._hear_workers()
                for client, message in self._front.messages(self._capacity):
                    self._from_client(client, message)
                self._watch()
                self._dispatch()
        except ModelError as error:
            for client in self._clients:
                self._front.answer(client, Refusal(str(error)))
            raise

    def stats(self) -> dict[str, Any]:
        """Counters, for people and JSON."""
        return {
            "model": self.card.name,
            "address": self.address,
            "workers": [worker.device for worker in self._crew.workers.values() if worker.ready],
            "queued": len(self._tasks),
            "done": self.done,
            "failed": self.failed,
            "restarts": self._crew.restarts,
            "refused": dict(self._front.refused),
        }

    def close(self) -> None:
        """Ends the workers, whatever they do; clients notice the silence."""
        self._crew.close()
        self._front.close()
        self._context.destroy(linger=200)

    def _from_client(self, client: bytes, message: Message) -> None:
        self._clients[client] = time.monotonic()
        match message:
            case Ping(model, digest, pending):
                self._ping(client, model, digest, pending)
            case Job(number):
                if any(task.client == client and task.job.number == number for task in self._tasks.values()):
                    return  # sent twice
                held = sum(task.job.size for task in self._tasks.values())
                if len(self._tasks) >= self._capacity or held + message.size > _QUEUE_BYTES:
                    self._front.refused["full"] += 1
                    self._front.answer(client, Full(number))
                    return
                self._ticket += 1
                self._tasks[self._ticket] = _Task(client, message)
                self._queue.append(self._ticket)
            case Bye():
                self._forget(client)
            case _:
                self._front.refuse(client, "malformed", "the decoder service takes jobs, and no answers")

    def _ping(self, client: bytes, model: str, digest: bytes, pending: tuple[int, ...]) -> None:
        names = (self._model, self.card.name)
        if digest.hex() != self.card.digest if digest else model not in names:
            which = "with other weights than the client's" if model in names else f"not {model!r}"
            self._front.refuse(client, "other model", f"the decoder service has the model {self.card.name!r}, {which}")
            return
        held = {task.job.number for task in self._tasks.values() if task.client == client}
        unknown = tuple(number for number in pending if number not in held)
        workers = sum(worker.ready for worker in self._crew.workers.values())
        counts = (self._capacity, workers, len(self._tasks), self.done, self._front.refused.total())
        self._front.answer(client, Pong(self.card.name, *counts, unknown))

    def _hear_workers(self) -> None:
        while True:
            try:
                name, frames = receive(self._back)
            except zmq.Again:
                return
            self._from_worker(name, decode(frames))

    def _from_worker(self, name: bytes, message: Message) -> None:
        worker = self._crew.hear(name.removesuffix(b" beat"))
        match message:
            case Ready(batch) if worker is not None:
                self._crew.note_ready(worker, batch)
            case Failure(0, reason):
                raise ModelError(reason)
            case Picture(ticket) | Failure(ticket):
                if worker is not None and ticket in worker.tickets:
                    worker.tickets.remove(ticket)
                if ticket in self._tasks:  # otherwise its worker counted as dead, and another was faster
                    self._finish(ticket, message)

    def _finish(self, ticket: int, answer: Picture | Failure) -> None:
        task = self._tasks.pop(ticket)
        self.done += isinstance(answer, Picture)
        self.failed += isinstance(answer, Failure)
        self._front.answer(task.client, replace(answer, number=task.job.number))

    def _forget(self, client: bytes) -> None:
        self._clients.pop(client, None)
        for ticket in [ticket for ticket, task in self._tasks.items() if task.client == client]:
            del self._tasks[ticket]

    def _watch(self) -> None:
        """Replaces workers that died or hang; forgets clients that are silent."""
        for worker in self._crew.dead():
            self._hear_workers()  # what it still had said
            self._crew.replace(worker)
            for ticket in reversed(worker.tickets):
                self._retry(ticket)
        latest = time.monotonic() - self._patience_s
        for client in [client for client, heard in self._clients.items() if heard < latest]:
            self._forget(client)

    def _retry(self, ticket: int) -> None:
        if ticket not in self._tasks:
            return
        self._tasks[ticket].attempts += 1
        if self._tasks[ticket].attempts < ATTEMPTS:
            self._queue.appendleft(ticket)
        else:
            self._finish(ticket, Failure(0, f"decoding it ended {ATTEMPTS} workers, so it was given up"))

    def _dispatch(self) -> None:
        """Shares the queue out among idle workers."""
        self._queue = deque(ticket for ticket in self._queue if ticket in self._tasks)
        for worker in self._crew.idle():
            if not self._queue:
                return
            # Of a short queue no more than a share: another worker may be done at any moment.
            worker.tickets = self._next(min(worker.batch, -(-len(self._queue) // len(self._crew.workers))))
            self._back.send_multipart([worker.name, *encode(Batch(len(worker.tickets)))])
            for ticket in worker.tickets:
                self._back.send_multipart([worker.name, *encode(replace(self._tasks[ticket].job, number=ticket))])

    def _next(self, most: int) -> list[int]:
        """From the queue's head; what already ended a worker goes alone, so that no other is blamed for it."""
        tickets = [self._queue.popleft()]
        if not self._tasks[tickets[0]].attempts:
            while self._queue and len(tickets) < most and not self._tasks[self._queue[0]].attempts:
                tickets.append(self._queue.popleft())
        return tickets


def serve_child(arguments: Sequence[str]) -> None:
    """The service of one client, as its child process: ends when the pipe on standard input is closed."""
    parser = argparse.ArgumentParser(description="The decoder service as a child process; see `lrisc serve`.")
    parser.add_argument("--address", required=True)
    parser.add_argument("--model", required=True)
    options = parser.parse_args(arguments)
    poller = zmq.Poller()
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    server = Server(options.address, options.model)
    try:
        server.run(lambda: bool(poller.poll(0)))
    except ModelError as error:
        sys.exit(str(error))
    finally:
        server.close()


if __name__ == "__main__":
    serve_child(sys.argv[1:])
