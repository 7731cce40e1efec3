"""The side of the decoder service that the world sees: one socket, that refuses and counts what is not for it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import zmq
from zmq.utils.monitor import recv_monitor_message

from models.errors import ModelError
from models.keys import Gate, check_address, server_keys
from models.protocol import (
    MAX_FRAME_BYTES,
    MAX_FRAMES,
    Message,
    ProtocolError,
    Refusal,
    VersionError,
    decode,
    encode,
)

Socket = zmq.Socket[bytes]

FAILED_HANDSHAKES = (
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL | zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.HANDSHAKE_FAILED_AUTH
)


class Front:
    """Receives from clients and answers them.

    Args:
        context: of its sockets.
        address: to bind.
        keys: folder with CURVE keys, which anything but loopback takes.

    Raises:
        ModelError: an address that cannot be bound, or not without keys; keys that cannot be used.
    """

    def __init__(self, context: zmq.Context[Socket], address: str, keys: Path | None) -> None:
        check_address(address, keys)
        self.refused: Counter[str] = Counter()
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)  # who comes back replaces its half-dead connection
        self.socket.setsockopt(zmq.MAXMSGSIZE, 2 * MAX_FRAME_BYTES)  # beyond, ZeroMQ itself hangs up
        self.socket.setsockopt(zmq.HANDSHAKE_IVL, 5000)
        self._gate: Gate | None = None
        if keys is not None:
            pair = server_keys(keys)
            self._gate = Gate(context, pair)
            self.socket.curve_server = True
            self.socket.curve_publickey, self.socket.curve_secretkey = pair.public, pair.secret
        self._monitor = self.socket.get_monitor_socket(FAILED_HANDSHAKES)
        try:
            self.socket.bind(address)
        except zmq.ZMQError as error:
            raise ModelError(f"cannot serve at {address}: {error.strerror}; choose another address") from error
        self.address = self.socket.get_string(zmq.LAST_ENDPOINT)

    @property
    def sockets(self) -> list[Socket]:
        """What to wait for before `messages`."""
        return [self.socket, self._monitor, *([self._gate.socket] if self._gate is not None else [])]

    def messages(self, most: int) -> Iterator[tuple[bytes, Message]]:
        """Clients and what they say, at most so many messages; whatever else has come is refused and counted."""
        while self._gate is not None and self._gate.socket.poll(0):
            self.refused["unknown key"] += not self._gate.answer()
        while self._monitor.poll(0):
            recv_monitor_message(self._monitor)
            self.refused["failed handshake"] += 1
        for _ in range(most):
            try:
                client, frames = receive(self.socket)
            except zmq.Again:
                return
            try:
                message = decode(frames)
            except VersionError as error:
                self.refuse(client, "other version", f"the client {error}; install the same lrisc on both ends")
            except ProtocolError as error:
                self.refuse(client, "malformed", f"the decoder service does not understand: {error}")
            else:
                yield client, message

    def refuse(self, client: bytes, why: str, reason: str) -> None:
        """Counts a refusal under `why`, and tells the client the reason."""
        self.refused[why] += 1
        self.answer(client, Refusal(reason))

    def answer(self, client: bytes, message: Message) -> None:
        """Never blocks: what a client does not take in time is dropped, and it asks for it again."""
        try:
            self.socket.send_multipart([client, *encode(message)], zmq.NOBLOCK)
        except zmq.Again:
            self.refused["slow client"] += 1

    def close(self) -> None:
        """Ends the monitor, which must not outlive the socket."""
        self.socket.disable_monitor()
        self._monitor.close(0)


def receive(socket: Socket) -> tuple[bytes, list[bytes]]:
    """Sender and frames of a message that waits at a ROUTER; a foreign one may have any number of frames.

    Raises:
        zmq.Again: none waits.
    """
    sender = socket.recv(zmq.NOBLOCK)
    frames: list[bytes] = []
    while socket.rcvmore:
        frame = socket.recv(zmq.NOBLOCK)
        if len(frames) <= MAX_FRAMES:
            frames.append(frame)
    return sender, frames
