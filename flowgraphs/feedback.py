"""What a receiver tells its sender of the link: one small message for each received image, over ZeroMQ.

The receiver publishes, the sender subscribes; neither ever waits for the other, and a report that does not come is
missed by nobody. A message is 32 bytes, little-endian: the magic number, the version, the session, the number of the
image, SNR in dB as float32, packets received and expected, and a counter that the receiver raises with each report.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.auth.thread import ThreadAuthenticator

from models.errors import ModelError
from models.keys import check_address, client_keys, create_keys, server_keys
from sdr.header import IMAGE_ID_LIMIT, SESSION_LIMIT
from sdr.receive import ReceivedImage

PREFIX = "zmq:"
VERSION = 1
SNR_LIMIT_DB = 100.0  # beyond ±this no report means what it says

_MAGIC = b"LRFB"
_MESSAGE = struct.Struct("<4sB3xIIfIII")
_COUNTER_LIMIT = 1 << 32
_LARGEST_BYTES = 256  # ZeroMQ refuses larger messages before they take memory
_QUEUE = 256


@dataclass(frozen=True)
class Report:
    """How an image was received. `snr_db` is Es/N0 per data subcarrier of the packets that came."""

    session: int
    image_id: int
    snr_db: float
    packets_received: int
    packets_expected: int
    counter: int

    @property
    def valid(self) -> bool:
        """Whether a receiver can have measured it."""
        return (
            math.isfinite(self.snr_db)
            and abs(self.snr_db) <= SNR_LIMIT_DB
            and 0 < self.packets_received <= self.packets_expected
            and 0 <= self.session < SESSION_LIMIT
            and 0 <= self.image_id < IMAGE_ID_LIMIT
        )


def pack(report: Report) -> bytes:
    """The message of a report."""
    received, expected = report.packets_received, report.packets_expected
    numbers = report.session, report.image_id, report.snr_db, received, expected, report.counter
    return _MESSAGE.pack(_MAGIC, VERSION, *numbers)


def unpack(message: bytes) -> Report | None:
    """The report of a message, None of anything that `pack` does not write of a valid one."""
    if len(message) != _MESSAGE.size:
        return None
    magic, version, *numbers = _MESSAGE.unpack(message)
    report = Report(*numbers)
    return report if (magic, version) == (_MAGIC, VERSION) and report.valid else None


class Publisher:
    """The receiver's end. Anything that is not loopback takes `keys`, a folder which is filled if it has none.

    Raises:
        ModelError: an address that is not zmq:tcp://HOST:PORT or cannot be had, no keys where they are needed.
    """

    def __init__(self, address: str, keys: Path | None = None) -> None:
        endpoint = _endpoint(address, keys, "--feedback-keys")
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._gate: ThreadAuthenticator | None = None
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, _QUEUE)
        self._counter = 0
        try:
            if keys is not None:
                create_keys(keys)
                own = server_keys(keys)
                self._gate = ThreadAuthenticator(self._context)
                self._gate.start()
                self._gate.configure_curve(domain="*", location=str(keys))
                self._socket.curve_server = True
                self._socket.curve_publickey, self._socket.curve_secretkey = own.public, own.secret
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise ModelError(f"feedback cannot be published at {address}: {error.strerror}") from error
        except ModelError:
            self.close()
            raise

    def publish(self, image: ReceivedImage) -> None:
        """Tell of an image; never waits, whether anybody listens or not."""
        self._counter = (self._counter + 1) % _COUNTER_LIMIT
        report = Report(
            image.session,
            image.image_id,
            image.snr_db,
            image.packets_received,
            image.packets_expected,
            self._counter,
        )
        self._socket.send(pack(report), zmq.NOBLOCK)

    def close(self) -> None:
        """Let go of the address."""
        if self._gate is not None:
            self._gate.stop()
        self._context.destroy(linger=0)


class Subscriber:
    """The sender's end; the receiver may come and go. For one thread at a time.

    `malformed` counts messages that were no report. Raises ModelError, as `Publisher` does.
    """

    def __init__(self, address: str, keys: Path | None = None) -> None:
        endpoint = _endpoint(address, keys, "--feedback-keys")
        own = client_keys(keys) if keys is not None else None
        self.malformed = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, _QUEUE)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _LARGEST_BYTES)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        if own is not None:
            self._socket.curve_publickey, self._socket.curve_secretkey = own.public, own.secret
            self._socket.curve_serverkey = own.other
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise ModelError(f"feedback cannot be had from {address}: {error.strerror}") from error

    def poll(self) -> list[Report]:
        """What came since the last time, in that order; never waits."""
        reports: list[Report] = []
        for _ in range(_QUEUE):  # a flood must not hold up what is sent
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            report = unpack(frames[0]) if len(frames) == 1 else None
            if report is None:
                self.malformed += 1
            else:
                reports.append(report)
        return reports

    def close(self) -> None:
        """Listen no more."""
        self._context.destroy(linger=0)


def _endpoint(address: str, keys: Path | None, option: str) -> str:
    endpoint = address.removeprefix(PREFIX)
    if not address.startswith(PREFIX) or not endpoint.startswith(("tcp://", "ipc://")):
        raise ModelError(f"{address!r} is no address for feedback: write zmq:tcp://HOST:PORT")
    try:
        check_address(endpoint, keys)
    except ModelError as error:
        raise ModelError(str(error).replace("--keys", option)) from error
    return endpoint
