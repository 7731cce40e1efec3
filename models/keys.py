"""CURVE keys (CurveZMQ, rfc.zeromq.org/spec/26) of a decoder service that others than this machine may reach.

A folder holds two pairs: `server.key` and `client.key` are public, the two `*.key_secret` are not. A machine that
decodes elsewhere needs a copy of `server.key`, `client.key` and `client.key_secret`; `server.key_secret` stays.
"""

import ipaddress
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.auth import create_certificates, load_certificate

from models.errors import ModelError

_ZAP_ADDRESS = "inproc://zeromq.zap.01"  # where libzmq looks for it, rfc.zeromq.org/spec/27


@dataclass(frozen=True)
class Keys:
    """One's own pair and the public key of the other end, Z85-encoded."""

    public: bytes
    secret: bytes
    other: bytes


def is_loopback(address: str) -> bool:
    """True for a ZeroMQ address that nobody outside this machine reaches; an unresolved name is not."""
    if address.startswith("ipc://"):
        return True
    host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_address(address: str, keys: Path | None) -> None:
    """Refuses to speak in clear with other machines.

    Raises:
        ModelError: neither loopback nor keys.
    """
    if keys is None and not is_loopback(address):
        raise ModelError(f"{address} is reached over a network: give --keys FOLDER, or use tcp://127.0.0.1:PORT")


def create_keys(folder: Path) -> None:
    """Both pairs, unless the folder holds keys already; readable for this user alone.

    Raises:
        ModelError: the folder cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.glob("*.key*")):
            return
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            for name in ("client", "server"):
                create_certificates(unfinished, name)
            for path in sorted(Path(unfinished).iterdir(), reverse=True):  # the server's secret, without which none of
                path.chmod(0o600)  # them is of use, first and alone would be seen as damage by `load`
                path.replace(folder / path.name)
    except OSError as error:
        raise ModelError(f"keys cannot be written to {folder}: {error.strerror}") from error


def server_keys(folder: Path) -> Keys:
    """The service's pair and the one client key that it accepts. Raises ModelError, as `client_keys` does."""
    return _load(folder, "server", "client")


def client_keys(folder: Path) -> Keys:
    """The client's pair and its service's public key.

    Raises:
        ModelError: a file is missing, is no key, or a secret that others can read.
    """
    return _load(folder, "client", "server")


def _load(folder: Path, own: str, other: str) -> Keys:
    secret_path = folder / f"{own}.key_secret"
    for path in (secret_path, folder / f"{other}.key"):
        if not path.is_file():
            raise ModelError(f"key {path} is missing; `lrisc serve --keys FOLDER` makes keys, copy what this end needs")
    if os.name == "posix" and stat.S_IMODE(secret_path.stat().st_mode) & 0o077:
        raise ModelError(f"others can read the secret key {secret_path}: chmod 600 it, or make new keys")
    try:
        public, secret = load_certificate(secret_path)
        trusted, _ = load_certificate(folder / f"{other}.key")
    except (OSError, ValueError) as error:
        raise ModelError(f"a key in {folder} cannot be read: {error}") from error
    if secret is None or len(secret) != 40 or len(public) != 40 or len(trusted) != 40:
        raise ModelError(f"a key in {folder} is damaged: it is not 40 letters long")
    return Keys(public, secret, trusted)


class Gate:
    """Lets only the client that `keys` names through to sockets of `context` (ZAP, rfc.zeromq.org/spec/27)."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: Keys) -> None:
        self._allowed = zmq.utils.z85.decode(keys.other)
        self.socket = context.socket(zmq.REP)
        self.socket.bind(_ZAP_ADDRESS)

    def answer(self) -> bool:
        """Answers one request that `socket` holds; returns whether the client may pass."""
        version, request, _, _, _, mechanism, *credentials = self.socket.recv_multipart()
        passes = mechanism == b"CURVE" and credentials == [self._allowed]
        status = (b"200", b"OK") if passes else (b"400", b"unknown key")
        self.socket.send_multipart([version, request, *status, b"", b""])
        return passes
