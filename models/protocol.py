"""What the decoder service, its workers and its clients say to each other, as frames of a ZeroMQ message.

The first frame holds the magic number, the protocol's version, the message's kind and its numbers, little-endian; the
others are raw buffers: symbols complex64, noise variances float32, pixels uint8, text UTF-8. Nothing that arrives is
executed or unpickled, and no size is believed before it has been compared with the frames that came.

A client asks with `Ping`, which also says for which model it has work and which images it waits for; `Pong` names those
of them that the service does not hold, because it was restarted, was full or the message was lost, and the client sends
them again. A `Job` is answered by one of `Picture`, `Failure` or `Full`. `Batch`, `Ready` and `Beat` pass only between
the service and its own workers.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex64, Float32, UInt8

from models.errors import ModelError
from models.image import MAX_PIXELS

VERSION = 1
MAX_FRAMES = 4
MAX_SYMBOLS = 3 * MAX_PIXELS // 5  # of the largest picture at the largest CBR
MAX_FRAME_BYTES = 8 * MAX_SYMBOLS
MAX_SIDE_BYTES = 1 << 20
MAX_TEXT_BYTES = 2000
MAX_PENDING = 4096

_MAGIC = b"LRSC"
_HEAD = struct.Struct("<4sBB")
_LARGEST = (1 << 64) - 1


class ProtocolError(ModelError):
    """A message that is malformed, too large or not of this protocol."""


class VersionError(ProtocolError):
    """A message of another version of this protocol."""


@dataclass(frozen=True)
class Ping:
    """A client is there and waits for the jobs `pending`; `digest` is the SHA-256 of the weights it knows, or empty."""

    model: str
    digest: bytes
    pending: tuple[int, ...]


@dataclass(frozen=True)
class Pong:
    """The service is there; of the client's pending jobs it does not hold `unknown`."""

    model: str
    capacity: int
    workers: int
    queued: int
    done: int
    refused: int
    unknown: tuple[int, ...]


@dataclass(frozen=True)
class Refusal:
    """The service does nothing for this client, for a reason that the client's user reads."""

    reason: str


@dataclass(frozen=True, eq=False)
class Job:
    """One image to decode; see `Codec.decode`. `number` is the client's; `steps` None is the model's default."""

    number: int
    steps: int | None
    seed: int
    snr_db: float
    symbols: Complex64[np.ndarray, "n"]
    noise_var: Float32[np.ndarray, "m"]
    side: bytes

    @property
    def size(self) -> int:
        """Bytes that it takes in a queue."""
        return 12 * len(self.symbols) + len(self.side)


@dataclass(frozen=True, eq=False)
class Picture:
    """The decoded image of a job."""

    number: int
    image: UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Failure:
    """A job that cannot be decoded, and why; from a worker with number 0: it cannot load its model."""

    number: int
    reason: str


@dataclass(frozen=True)
class Full:
    """The service's queue has no place for this job now."""

    number: int


@dataclass(frozen=True)
class Bye:
    """The client goes; its jobs need not be decoded."""


@dataclass(frozen=True)
class Batch:
    """To a worker: decode the next `count` jobs together."""

    count: int


@dataclass(frozen=True)
class Ready:
    """From a worker: its model is loaded, and it decodes up to `batch` images at once."""

    batch: int


@dataclass(frozen=True)
class Beat:
    """From a worker: it is alive."""


Message = Ping | Pong | Refusal | Job | Picture | Failure | Full | Bye | Batch | Ready | Beat
_KINDS: tuple[type, ...] = (Ping, Pong, Refusal, Job, Picture, Failure, Full, Bye, Batch, Ready, Beat)
_NUMBERS = {
    Ping: struct.Struct("<"),
    Pong: struct.Struct("<IIIQQ"),
    Refusal: struct.Struct("<"),
    Job: struct.Struct("<QiQd"),
    Picture: struct.Struct("<QII"),
    Failure: struct.Struct("<Q"),
    Full: struct.Struct("<Q"),
    Bye: struct.Struct("<"),
    Batch: struct.Struct("<I"),
    Ready: struct.Struct("<I"),
    Beat: struct.Struct("<"),
}


def encode(message: Message) -> list[bytes]:
    """Frames of a message.

    Raises:
        ProtocolError: a job that no service would take: arrays of unequal length, or too large.
    """
    numbers: tuple[int | float, ...] = ()
    frames: list[bytes] = []
    match message:
        case Ping(model, digest, pending):
            frames = [_text(model), digest, _ids(pending)]
        case Pong(model, capacity, workers, queued, done, refused, unknown):
            numbers = (capacity, workers, queued, done, refused)
            frames = [_text(model), _ids(unknown)]
        case Refusal(reason):
            frames = [_text(reason)]
        case Job(number, steps, seed, snr_db, symbols, noise_var, side):
            if symbols.shape != noise_var.shape:
                raise ProtocolError(f"{len(symbols)} symbols came with {len(noise_var)} noise variances")
            if len(symbols) > MAX_SYMBOLS or len(side) > MAX_SIDE_BYTES:
                raise ProtocolError(f"{len(symbols)} symbols and {len(side)} bytes of side information are too many")
            if not (0 <= number <= _LARGEST and 0 <= seed <= _LARGEST and (steps is None or 0 <= steps < 1 << 31)):
                raise ProtocolError(f"seed {seed} or {steps} steps are out of range")
            numbers = (number, -1 if steps is None else steps, seed, snr_db)
            frames = [symbols.astype("<c8", copy=False).tobytes(), noise_var.astype("<f4", copy=False).tobytes(), side]
        case Picture(number, image):
            numbers, frames = (number, image.shape[0], image.shape[1]), [image.tobytes()]
        case Failure(number, reason):
            numbers, frames = (number,), [_text(reason)]
        case Full(number):
            numbers = (number,)
        case Batch(count) | Ready(count):
            numbers = (count,)
    kind = type(message)
    return [_HEAD.pack(_MAGIC, VERSION, _KINDS.index(kind)) + _NUMBERS[kind].pack(*numbers), *frames]


def decode(frames: Sequence[bytes]) -> Message:
    """Inverse of `encode`, for whatever came.

    Raises:
        VersionError: of another version.
        ProtocolError: anything else that `encode` does not write.
    """
    if not frames or len(frames[0]) < _HEAD.size or not frames[0].startswith(_MAGIC):
        raise ProtocolError("not a message of a decoder service")
    _, version, code = _HEAD.unpack_from(frames[0])
    if version != VERSION:
        raise VersionError(f"speaks version {version} of the protocol, this one version {VERSION}")
    if code >= len(_KINDS):
        raise ProtocolError(f"there is no message of kind {code}")
    kind = _KINDS[code]
    try:
        return _build(kind, _NUMBERS[kind].unpack(frames[0][_HEAD.size :]), frames[1:])
    except (struct.error, ValueError) as error:
        raise ProtocolError(f"a malformed {kind.__name__}: {error}") from error


def _build(kind: type, numbers: tuple[int | float, ...], frames: Sequence[bytes]) -> Message:
    """Raises ValueError where frames and numbers do not agree."""
    if kind is Ping:
        model, digest, pending = frames
        if len(digest) not in (0, 32):
            raise ValueError(f"a digest of {len(digest)} bytes")
        return Ping(_read_text(model), digest, _read_ids(pending))
    if kind is Pong:
        model, unknown = frames
        capacity, workers, queued, done, refused = (int(n) for n in numbers)
        return Pong(_read_text(model), capacity, workers, queued, done, refused, _read_ids(unknown))
    if kind is Job:
        symbols, noise_var, side = frames
        if len(symbols) != 2 * len(noise_var) or len(symbols) > 8 * MAX_SYMBOLS or len(side) > MAX_SIDE_BYTES:
            raise ValueError(f"frames of {len(symbols)}, {len(noise_var)} and {len(side)} bytes")
        if numbers[1] < -1:
            raise ValueError(f"{numbers[1]} steps")
        return Job(
            int(numbers[0]),
            None if numbers[1] < 0 else int(numbers[1]),
            int(numbers[2]),
            float(numbers[3]),
            np.frombuffer(symbols, "<c8").astype(np.complex64),
            np.frombuffer(noise_var, "<f4").astype(np.float32),
            bytes(side),
        )
    if kind is Picture:
        number, height, width = (int(n) for n in numbers)
        (pixels,) = frames
        if height * width > MAX_PIXELS:
            raise ValueError(f"a picture of {width}×{height}")
        return Picture(number, np.frombuffer(pixels, np.uint8).reshape(height, width, 3).copy())
    if kind in (Refusal, Failure):
        (reason,) = frames
        return Refusal(_read_text(reason)) if kind is Refusal else Failure(int(numbers[0]), _read_text(reason))
    if frames:
        raise ValueError(f"{len(frames)} frames too many")
    message: Message = kind(*(int(n) for n in numbers))
    return message


def _text(text: str) -> bytes:
    return " ".join(text.split()).encode()[:MAX_TEXT_BYTES]


def _read_text(data: bytes) -> str:
    if len(data) > MAX_TEXT_BYTES:
        raise ValueError(f"a text of {len(data)} bytes")
    text = bytes(data).decode(errors="replace")  # a long one may have been cut within a letter
    return "".join(letter for letter in text if letter.isprintable())  # it is shown on a terminal


def _ids(values: Sequence[int]) -> bytes:
    return np.array(values[:MAX_PENDING], "<u8").tobytes()


def _read_ids(data: bytes) -> tuple[int, ...]:
    if len(data) > 8 * MAX_PENDING:
        raise ValueError(f"a list of {len(data)} bytes")
    return tuple(np.frombuffer(data, "<u8").tolist())
