"""The decoder as those see it who receive: images go in, pictures come out, and nothing blocks.

Behind it is the service of `models.server`, in a child process of one's own or anywhere else. Everything that was
submitted is kept until its picture has come, and sent again to a service that was restarted or lost it.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zmq
from jaxtyping import Complex64, Float32, UInt8

from models.crew import environment
from models.errors import ModelError
from models.front import FAILED_HANDSHAKES
from models.keys import Keys, check_address, client_keys
from models.protocol import (
    Bye,
    Failure,
    Full,
    Job,
    Message,
    Picture,
    Ping,
    Pong,
    ProtocolError,
    Refusal,
    VersionError,
    decode,
    encode,
)
from models.server import CAPACITY
from models.weights import SHIPPED, verify

PREFIX = "zmq:"
PATIENCE_S = 30.0
_GREETING_S = 5.0
_PING_S = 1.0
_PING_AGAIN_S = 3.0  # where the last one was not answered, for it may be lost
_RESTARTS = 3  # of one's own child, without a picture in between


class DecoderFull(ModelError):
    """As many images are waiting as the service takes; submit again when one has come."""


class DecoderGone(ModelError):
    """The service does not answer, or refuses this client."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture, or in one line why there is none, for what was submitted as `key`."""

    key: str
    image: UInt8[np.ndarray, "h w 3"] | None
    error: str | None


class Decoder:
    """A client of a decoder service, for one thread; see `open_decoder`.

    Args:
        address: that ZeroMQ connects to.
        name: of the service in messages.
        model: name of the model that is wanted.
        digest: SHA-256 of its weights, or empty where they are not known here.
        child: the service, if it is one's own; it is started again when it dies, and ends with the decoder.
        keys: for a service that asks for them.
        patience_s: silence after which the service counts as gone.
    """

    def __init__(
        self,
        address: str,
        name: str,
        model: str,
        digest: str,
        child: "_Child | None" = None,
        keys: Keys | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.name, self.model, self.patience_s, self.capacity = name, model, patience_s, CAPACITY
        self._digest, self._child = bytes.fromhex(digest), child
        self._jobs: dict[int, tuple[str, Job]] = {}
        self._sent: dict[int, float] = {}
        self._count = self._restarts = 0
        self._asked: float | None = None  # since when no answer has come
        self._pinged = -float("inf")
        self._gone: str | None = None
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.identity = b"client " + uuid.uuid4().bytes
        if keys is not None:
            self._socket.curve_publickey, self._socket.curve_secretkey = keys.public, keys.secret
            self._socket.curve_serverkey = keys.other
        self._monitor = self._socket.get_monitor_socket(FAILED_HANDSHAKES)
        self._socket.connect(address)

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pending(self) -> int:
        """Images that were submitted and have not come."""
        return len(self._jobs)

    def submit(
        self,
        key: str,
        symbols: Complex64[np.ndarray, "n"],
        noise_var: Float32[np.ndarray, "n"],
        snr_db: float,
        side: bytes,
        *,
        steps: int | None = None,
        seed: int = 0,
    ) -> None:
        """Hands over an image, see `Codec.decode`; its picture comes from `poll`. Never blocks.

        Raises:
            DecoderFull: `capacity` images are waiting.
            DecoderGone: the service had not answered in time and still does not, or refused.
            ProtocolError: an image that no service would take.
        """
        if self._gone is not None:
            raise DecoderGone(self._gone)
        if len(self._jobs) >= self.capacity:
            raise DecoderFull(f"{len(self._jobs)} images are waiting for {self.name}; it takes no more for now")
        self._count += 1
        job = Job(self._count, steps, seed, snr_db, symbols, noise_var, side)
        frames = encode(job)
        self._jobs[job.number] = (key, job)
        self._hand_over(job.number, frames)

    def poll(self, timeout_s: float = 0.0) -> list[Decoded]:
        """What has been decoded meanwhile, in any order; waits `timeout_s` at most for the first."""
        until = time.monotonic() + timeout_s
        while True:
            results = self._listen() + self._keep_up()
            left = until - time.monotonic()
            if results or left <= 0:
                return results
            self._socket.poll(round(1000 * min(left, _PING_S)))

    def greet(self) -> None:
        """Waits until the service answers that it has the model.

        Raises:
            DecoderGone: it refuses, is of another version, or does not answer within 5 s.
        """
        until = time.monotonic() + _GREETING_S
        while self._gone is None:
            if self._asked is None:
                self._ping()
            if self._socket.poll(200):
                self._listen()
                if self._gone is None and self._asked is None:
                    return
            if time.monotonic() > until:
                self._gone = f"{self.name} does not answer within {_GREETING_S:g} s: start one with `lrisc serve`"
                if self._monitor.poll(0):
                    self._gone = (
                        f"{self.name} does not accept this client: give the --keys that fit, or none if it has none"
                    )
        raise DecoderGone(self._gone)

    def close(self) -> None:
        """Lets go of the service; one's own ends."""
        if self._child is None:
            self._send(encode(Bye()))
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._context.destroy(linger=200)
        if self._child is not None:
            self._child.close()

    def _hand_over(self, number: int, frames: list[bytes] | None = None) -> None:
        """Sends a job, unless that was only just done; several answers in a row may have missed it."""
        now = time.monotonic()
        if now - self._sent.get(number, -_PING_S) >= _PING_S:
            self._sent[number] = now
            self._send(frames or encode(self._jobs[number][1]))

    def _drop(self, number: int) -> str:
        """Forgets a job and returns its key."""
        self._sent.pop(number, None)
        return self._jobs.pop(number)[0]

    def _send(self, frames: list[bytes]) -> None:
        with contextlib.suppress(zmq.Again):  # too much waits; what it did not get, it will say in answer to a ping
            self._socket.send_multipart(frames, zmq.NOBLOCK)

    def _ping(self) -> None:
        self._pinged = time.monotonic()
        self._asked = self._asked or self._pinged
        self._send(encode(Ping(self.model, self._digest, tuple(self._jobs))))

    def _listen(self) -> list[Decoded]:
        results: list[Decoded] = []
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return results
            try:
                results += self._take(decode(frames))
            except VersionError as error:
                self._gone = f"{self.name} {error}; install the same lrisc on both ends"
            except ProtocolError as error:
                self._gone = f"{self.name} is no decoder service: {error}"

    def _take(self, message: Message) -> list[Decoded]:
        self._asked = None
        match message:
            case Pong(capacity=capacity, unknown=unknown):
                self._gone, self.capacity = None, capacity
                for number in unknown:
                    if number in self._jobs:
                        self._hand_over(number)
            case Picture(number, image) if number in self._jobs:
                self._restarts = 0
                return [Decoded(self._drop(number), image, None)]
            case Failure(number, reason) if number in self._jobs:
                return [Decoded(self._drop(number), None, reason)]
            case Refusal(reason):
                self._gone = reason
            case Full():
                pass  # it will be among the unknown ones of the next pong
        return []

    def _keep_up(self) -> list[Decoded]:
        """Asks after what is pending, and gives it up when nobody answers."""
        now = time.monotonic()
        if self._child is not None and self._child.process.poll() is not None and self._gone is None:
            self._restart(self._child)
        if self._asked is not None and now - self._asked > self.patience_s:
            self._gone = f"{self.name} has not answered for {self.patience_s:g} s"
        pause = _PING_S if self._asked is None else _PING_AGAIN_S
        if (self._jobs or self._gone) and now - self._pinged > pause:
            self._ping()
        if self._gone is None:
            return []
        return [Decoded(self._drop(number), None, self._gone) for number in list(self._jobs)]

    def _restart(self, child: "_Child") -> None:
        self._restarts += 1
        if self._restarts > _RESTARTS:
            self._gone = f"{self.name} ended {self._restarts} times (exit code {child.process.returncode})"
            return
        child.restart()
        self._asked = None


def open_decoder(address: str | None, model: str = "lrisc", keys: Path | None = None) -> Decoder:
    """A decoder for `model`: the service at `address`, like zmq:tcp://127.0.0.1:5755, or None for a child process.

    The child loads its model while the caller goes on; a service elsewhere is asked at once whether it has the model.
    `keys` is a folder with CURVE keys, see `models.keys`; an address outside this machine takes it.

    Raises:
        DecoderGone: nobody answers at `address` within 5 s, or a service without the model or of another version does.
        ModelError: no such model, an address of another kind, or keys that are missing or cannot be used.
    """
    if address is None:
        digest = verify(model).digest
        child = _Child(model)
        return Decoder(child.address, "the decoder process", model, digest, child)
    if not address.startswith((f"{PREFIX}tcp://", f"{PREFIX}ipc://")):
        raise ModelError(f"decoder {address!r} is no address: write {PREFIX}tcp://HOST:PORT, as `lrisc serve` says")
    endpoint = address.removeprefix(PREFIX)
    check_address(endpoint, keys)
    pair = client_keys(keys) if keys is not None else None
    digest = verify(model).digest if (SHIPPED / model).is_dir() or Path(model).is_dir() else ""
    decoder = Decoder(endpoint, f"the decoder service at {endpoint}", model, digest, keys=pair)
    try:
        decoder.greet()
    except ModelError:
        decoder.close()
        raise
    return decoder


class _Child:
    """The service as one's own child process."""

    def __init__(self, model: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lrisc-decoder-")  # open to this user alone
        self._model, self.address = model, f"ipc://{self._folder.name}/service"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "models.server", "--address", self.address, "--model", self._model],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environment(),
            start_new_session=True,  # Ctrl-C is for the caller, who may want what is in work
        )

    def restart(self) -> None:
        self._end()
        self.process = self._start()

    def close(self) -> None:
        self._end()
        self._folder.cleanup()

    def _end(self) -> None:
        """Closes the pipe, upon which the service ends its workers and itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
