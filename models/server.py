"""The decoder service: takes jobs from clients, gives them to workers, and loses none when a worker dies.

Two ROUTER sockets: clients in front, workers behind. Workers are child processes, each with its own model on its own
device, restarted when they die or fall silent; what they had is decoded again by another. The process itself runs no
network, so a picture that brings a worker down does not bring the service down.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import zmq

from models.errors import ModelError
from models.protocol import (
    MAX_FRAME_BYTES,
    MAX_FRAMES,
    Batch,
    Bye,
    Failure,
    Full,
    Job,
    Message,
    Picture,
    Ping,
    Pong,
    ProtocolError,
    Ready,
    Refusal,
    VersionError,
    decode,
    encode,
)
from models.weights import verify

CAPACITY = 64
BATCH = 8
ATTEMPTS = 3
"""Workers that one picture may bring down before it is given up."""

_QUEUE_BYTES = 1 << 30
_TICK_MS = 100
_SILENCE_S = 60.0  # of a worker (loading a model may hold up its heartbeat) or a client


@dataclass
class _Task:
    client: bytes
    job: Job
    attempts: int = 0


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    device: str
    heard: float
    ready: bool = False
    tickets: list[int] = field(default_factory=list)


class Server:
    """A running service; `run` serves until `stop` says so, `close` ends the workers.

    Args:
        address: of the front, like tcp://127.0.0.1:5755 or ipc:///folder/name.
        model: name, folder or hub id.
        devices: one worker each: cpu, cuda, cuda:1 or auto.
        runtime: see `models.runtime`.
        capacity: jobs that may wait or be in work; more are refused until there is place.
        batch: most pictures that a worker is given at once.
        command: that starts a worker, to which its options are appended.
        patience_s: silence after which a worker counts as hung, and a client as gone.

    Raises:
        ModelError: no such model, or an address that cannot be bound.
    """

    def __init__(
        self,
        address: str,
        model: str,
        devices: Sequence[str] = ("auto",),
        *,
        runtime: str = "auto",
        capacity: int = CAPACITY,
        batch: int = BATCH,
        command: Sequence[str] = (sys.executable, "-P", "-m", "models.worker"),
        patience_s: float = _SILENCE_S,
    ) -> None:
        self.card = verify(model)
        self.address, self.capacity, self.patience_s = address, capacity, patience_s
        self.refused: Counter[str] = Counter()
        self.done = self.failed = self.restarts = 0
        self._model, self._runtime, self._batch, self._command = model, runtime, batch, tuple(command)
        self._tasks: dict[int, _Task] = {}
        self._queue: deque[int] = deque()
        self._clients: dict[bytes, float] = {}
        self._workers: dict[bytes, _Worker] = {}
        self._started = self._stillborn = self._ticket = 0
        self._folder = tempfile.TemporaryDirectory(prefix="lrisc-workers-")
        self._context = zmq.Context()
        self._back = self._router(f"ipc://{self._folder.name}/workers")
        self._front = self._router(address)
        self._poller = zmq.Poller()
        for socket in (self._front, self._back):
            self._poller.register(socket, zmq.POLLIN)
        for device in devices:
            self._start(device, len(devices))

    def run(self, stop: Callable[[], bool]) -> None:
        """Serves until `stop` returns true; it is asked about every 0.1 s.

        Raises:
            ModelError: no worker can load the model.
        """
        try:
            while not stop():
                ready = dict(self._poller.poll(_TICK_MS))
                if self._back in ready:
                    self._listen(self._back, self._from_worker)
                if self._front in ready:
                    self._listen(self._front, self._from_client)
                self._watch()
                self._dispatch()
        except ModelError as error:
            for client in self._clients:
                self._answer(client, Refusal(str(error)))
            raise

    def stats(self) -> dict[str, Any]:
        """Counters, for people and JSON."""
        return {
            "model": self.card.name,
            "address": self.address,
            "workers": [worker.device for worker in self._workers.values() if worker.ready],
            "queued": len(self._tasks),
            "done": self.done,
            "failed": self.failed,
            "restarts": self.restarts,
            "refused": dict(self.refused),
        }

    def close(self) -> None:
        """Ends the workers, whatever they do; clients notice the silence."""
        for worker in self._workers.values():
            _kill(worker.process)
        self._context.destroy(linger=200)
        self._folder.cleanup()

    # ---------------------------------------------------------------- messages

    def _router(self, address: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)  # a client that comes back replaces its half-dead connection
        socket.setsockopt(zmq.MAXMSGSIZE, 2 * MAX_FRAME_BYTES)  # beyond, ZeroMQ itself hangs up
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise ModelError(f"cannot serve at {address}: {error.strerror}; choose another address") from error
        return socket

    def _listen(self, socket: zmq.Socket[bytes], take: Callable[[bytes, Message], None]) -> None:
        for _ in range(self.capacity):  # then the other socket has its turn
            try:
                sender, frames = _receive(socket)
            except zmq.Again:
                return
            try:
                take(sender, decode(frames))
            except VersionError as error:
                self._refuse(sender, "other version", f"the client {error}; install the same lrisc on both ends")
            except ProtocolError as error:
                self._refuse(sender, "malformed", f"the decoder service does not understand: {error}")

    def _refuse(self, client: bytes, why: str, reason: str) -> None:
        self.refused[why] += 1
        self._answer(client, Refusal(reason))

    def _answer(self, client: bytes, message: Message) -> None:
        """Never blocks: what a client does not take in time is dropped, and it asks for it again."""
        try:
            self._front.send_multipart([client, *encode(message)], zmq.NOBLOCK)
        except zmq.Again:
            self.refused["slow client"] += 1

    def _from_client(self, client: bytes, message: Message) -> None:
        self._clients[client] = time.monotonic()
        match message:
            case Ping(model, digest, pending):
                if (digest and digest != bytes.fromhex(self.card.digest)) or (
                    not digest and model not in (self._model, self.card.name)
                ):
                    other = "other weights of that name" if model == self.card.name else f"not {model!r}"
                    self._refuse(client, "other model", f"the decoder service has {self.card.name!r}, {other}")
                    return
                held = {task.job.number for task in self._tasks.values() if task.client == client}
                unknown = tuple(number for number in pending if number not in held)
                workers = sum(worker.ready for worker in self._workers.values())
                counts = (self.capacity, workers, len(self._tasks), self.done, self.refused.total())
                self._answer(client, Pong(self.card.name, *counts, unknown))
            case Job(number):
                if any(task.client == client and task.job.number == number for task in self._tasks.values()):
                    return  # sent twice
                waiting = sum(task.job.size for task in self._tasks.values())
                if len(self._tasks) >= self.capacity or waiting + message.size > _QUEUE_BYTES:
                    self.refused["full"] += 1
                    self._answer(client, Full(number))
                    return
                self._ticket += 1
                self._tasks[self._ticket] = _Task(client, message)
                self._queue.append(self._ticket)
            case Bye():
                self._forget(client)
            case _:
                self._refuse(client, "malformed", "the decoder service answers clients, it does not take answers")

    def _from_worker(self, name: bytes, message: Message) -> None:
        worker = self._workers.get(name.removesuffix(b" beat"))
        if worker is not None:
            worker.heard = time.monotonic()
        match message:
            case Ready() if worker is not None:
                worker.ready = True
                self._stillborn = 0
            case Failure(0, reason):
                raise ModelError(reason)
            case Picture(ticket) | Failure(ticket):
                task = self._tasks.pop(ticket, None)  # absent: its worker counted as dead, and another was faster
                if worker is not None and ticket in worker.tickets:
                    worker.tickets.remove(ticket)
                if task is not None:
                    self._finish(task, message)

    def _finish(self, task: _Task, answer: Picture | Failure) -> None:
        self.done += isinstance(answer, Picture)
        self.failed += isinstance(answer, Failure)
        self._answer(task.client, replace(answer, number=task.job.number))

    def _forget(self, client: bytes) -> None:
        self._clients.pop(client, None)
        for ticket in [ticket for ticket, task in self._tasks.items() if task.client == client]:
            del self._tasks[ticket]

    # ---------------------------------------------------------------- workers

    def _start(self, device: str, count: int) -> None:
        self._started += 1
        name = f"worker {self._started}"
        options = {"--address": f"ipc://{self._folder.name}/workers", "--name": name, "--model": self._model}
        options |= {"--device": device, "--runtime": self._runtime}
        process = subprocess.Popen(
            [*self._command, *(text for pair in options.items() for text in pair)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environment() | _threads(count),
            start_new_session=True,  # Ctrl-C is for the service, which ends its workers
        )
        self._workers[name.encode()] = _Worker(process, device, time.monotonic())

    def _watch(self) -> None:
        """Replaces workers that died or hang; forgets clients that are silent."""
        now = time.monotonic()
        for name, worker in list(self._workers.items()):
            if worker.process.poll() is None and now - worker.heard < self.patience_s:
                continue
            _kill(worker.process)
            self._listen(self._back, self._from_worker)  # what it still had said
            del self._workers[name]
            self.restarts += 1
            self._stillborn += not worker.ready
            if self._stillborn >= ATTEMPTS:
                code = worker.process.returncode
                raise ModelError(f"the decoder's worker on {worker.device} ends while it loads (exit code {code})")
            for ticket in reversed(worker.tickets):
                self._retry(ticket)
            self._start(worker.device, len(self._workers) + 1)
        for client in [client for client, heard in self._clients.items() if now - heard > self.patience_s]:
            self._forget(client)

    def _retry(self, ticket: int) -> None:
        task = self._tasks.get(ticket)
        if task is None:
            return
        task.attempts += 1
        if task.attempts < ATTEMPTS:
            self._queue.appendleft(ticket)
            return
        del self._tasks[ticket]
        self._finish(task, Failure(0, f"decoding it ended {ATTEMPTS} workers, so it was given up"))

    def _dispatch(self) -> None:
        """Shares the queue out among idle workers; what already ended a worker goes alone, so as to blame no other."""
        idle = [(name, worker) for name, worker in self._workers.items() if worker.ready and not worker.tickets]
        while idle:
            name, worker = idle.pop()
            self._queue = deque(ticket for ticket in self._queue if ticket in self._tasks)
            share = min(self._batch, -(-len(self._queue) // (len(idle) + 1)))
            while self._queue and len(worker.tickets) < share:
                suspect = self._tasks[self._queue[0]].attempts > 0
                if suspect and worker.tickets:
                    break
                worker.tickets.append(self._queue.popleft())
                if suspect:
                    break
            if not worker.tickets:
                return
            jobs = [replace(self._tasks[ticket].job, number=ticket) for ticket in worker.tickets]
            self._back.send_multipart([name, *encode(Batch(len(jobs)))])
            for job in jobs:
                self._back.send_multipart([name, *encode(job)])


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends a process, dead or alive, and lets go of it."""
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def environment() -> dict[str, str]:
    """Variables for a process of the service: where this package is found."""
    path = (str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH"))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


def _threads(workers: int) -> dict[str, str]:
    """Shares the cores out, unless someone has already; on one's own every worker would take all of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores // workers)))}


def _receive(socket: zmq.Socket[bytes]) -> tuple[bytes, list[bytes]]:
    """Sender and frames of the next message, of which a foreign one may have any number; raises zmq.Again."""
    sender = socket.recv(zmq.NOBLOCK)
    frames: list[bytes] = []
    while socket.rcvmore:
        frame = socket.recv(zmq.NOBLOCK)
        if len(frames) <= MAX_FRAMES:
            frames.append(frame)
    return sender, frames


def serve_child(arguments: Sequence[str]) -> None:
    """The service of one client, as its child process: ends when the pipe on standard input is closed."""
    parser = argparse.ArgumentParser(description="The decoder service as a child process; see `lrisc serve`.")
    parser.add_argument("--address", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--capacity", type=int, default=CAPACITY)
    options = parser.parse_args(arguments)
    try:
        server = Server(options.address, options.model, capacity=options.capacity)
    except ModelError as error:
        sys.exit(str(error))
    poller = zmq.Poller()
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    try:
        server.run(lambda: bool(poller.poll(0)))
    except ModelError as error:
        print(error, file=sys.stderr)
    finally:
        server.close()


if __name__ == "__main__":
    serve_child(sys.argv[1:])
