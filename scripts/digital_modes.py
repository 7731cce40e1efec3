"""Measures from which SNR on each mode of digital-real can be used: `least_snr_db` in flowgraphs/modes.py.

    python scripts/digital_modes.py

White Gaussian noise of known variance on the symbols. In steps of a quarter dB, the first SNR at which none of 1000
LDPC blocks is wrong (below 0.3 % with 95 % confidence), and half a dB more: a picture has some hundred blocks, of which
none may fail, and the modem's estimates of channel and noise have a price.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script sees its own folder only

import numpy as np

from flowgraphs.modes import MODES, Mode, demodulate, modulate

BLOCKS, PARTS = 1000, 10
STEP_DB, MARGIN_DB = 0.25, 0.5


def wrong_blocks(mode: Mode, snr_db: float, blocks: int, rng: np.random.Generator) -> int:
    """How many of about so many blocks are not received as they were sent at an Es/N0."""
    symbols = int(np.ceil(blocks * mode.code.k / mode.rate / mode.bits))
    data = rng.bytes(mode.data_bytes(symbols))
    variance = 10 ** (-snr_db / 10)
    noise = rng.standard_normal((2, symbols)) * np.sqrt(variance / 2)
    heard = (modulate(data, mode, symbols) + noise[0] + 1j * noise[1]).astype(np.complex64)
    received = demodulate(heard, np.full(symbols, variance, np.float32), mode)[: len(data)]
    differing = np.unpackbits(np.frombuffer(data, np.uint8) ^ np.frombuffer(received, np.uint8))
    return len(np.unique(np.flatnonzero(differing) // mode.code.k))


def least_snr_db(mode: Mode) -> float:
    """The SNR of the table for a mode."""
    rng = np.random.default_rng(0)
    capacity_db = 10 * np.log10(2 ** (mode.bits * mode.rate) - 1)
    snr_db = np.ceil((capacity_db + 1) / STEP_DB) * STEP_DB
    while any(wrong_blocks(mode, snr_db, BLOCKS // PARTS, rng) for _ in range(PARTS)):
        snr_db += STEP_DB
    return float(snr_db + MARGIN_DB)


def main() -> None:
    """Print the table, and each mode's distance from capacity."""
    for mode in MODES:
        measured = least_snr_db(mode)
        bits = mode.bits * mode.rate
        gap_db = measured - 10 * np.log10(2**bits - 1)
        print(
            f"{mode.name:12} {bits:5.2f} bits per symbol, {gap_db:.1f} dB from capacity: from {measured:6.2f} dB on, "
            f"in the table {mode.least_snr_db:6.2f} dB",
            flush=True,
        )


if __name__ == "__main__":
    main()
