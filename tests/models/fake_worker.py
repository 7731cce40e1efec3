"""A worker whose networks are replaced by arithmetic, so that the service is tested without the seconds torch takes.

Symbols say what happens: the real part of the first one is the picture's grey; −1 ends the process as a crash would,
−2 takes longer than any test, −3 answers after 0.3 s, and −4 hangs the whole process.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from models.codec import Encoded
from models.errors import ModelError
from models.worker import work


class GreyCodec:
    name, parameters, digest, device = "grey", 0, "", "cpu"

    def encode(
        self,
        image: np.ndarray,
        *,
        cbr: float,
        snr_hint_db: float,
        mask: np.ndarray | None,
        side_symbols: Callable[[int], int],
    ) -> Encoded:
        raise NotImplementedError

    def decode(
        self,
        symbols: np.ndarray,
        noise_var: np.ndarray,
        snr_db: float,
        side: bytes,
        *,
        steps: int | None = None,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        match symbols[0].real:
            case -1:
                os.kill(os.getpid(), signal.SIGKILL)
            case -2:
                time.sleep(600)
            case -3:
                time.sleep(0.3)
            case -4:
                os.kill(os.getpid(), signal.SIGSTOP)
        if not side:
            raise ModelError("side information of 0 bytes is cut short")
        if (log := os.environ.get("FAKE_WORKER_LOG")) is not None:
            with Path(log).open("a") as file:
                file.write(f"{os.getpid()} {symbols[0].real:g}\n")
        return np.full((side[0], side[1], 3), max(0, symbols[0].real), np.uint8)


def load(model: str, device: str, runtime: str) -> GreyCodec:
    if device == "broken":
        raise ModelError("the device 'broken' cannot be had")
    if device == "crash":
        os._exit(7)
    return GreyCodec()


if __name__ == "__main__":
    work(sys.argv[1:], load)
