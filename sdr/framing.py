"""From symbols and side information to packets of equal size, and back.

One stream holds the repeated side symbols first and the JSCC symbols after them. Every `packets` consecutive stream
symbols go to different packets, in an order that changes from group to group, and lie at pseudo-random places within
them: a lost packet or a notched carrier thins the whole image evenly, and the copies of a side symbol fail apart.
"""

import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Complex64, Float32, Int64

from sdr import accumulate, sequences
from sdr.errors import SdrError
from sdr.header import PACKET_LIMIT, REPETITIONS, SIDE_LIMIT
from sdr.waveform import Waveform

_CRC_BYTES = 4
_SHORT_BYTES = 20


def side_repetition(snr_hint_db: float, side_bytes: int) -> int:
    """Copies of the side information for an expected SNR in dB.

    60 bytes fail once in 1000 at an Eb/N0 of 1.5 dB (measured); QPSK at rate 1/4 has Eb = 2 copies · Es. One copy at
    0 dB leaves 1.5 dB for estimation errors and fading, as do twice as many at each 3 dB less, and from 10 dB on it
    survives the loss of 60 % of the packets. Short codes are weaker: of 20 bytes that loss
    takes one in 150, of 9 it would take one in 15.
    """
    copies = 1 if snr_hint_db >= 0 else 2 if snr_hint_db >= -3 else 4
    return copies if side_bytes >= _SHORT_BYTES else 2 * copies


def side_symbols(side_bytes: int, repetition: int) -> int:
    """Complex channel symbols that `side_bytes` of side information occupy, with CRC-32, code and copies.

    Raises SdrError for a size or a repetition that the header cannot express.
    """
    if not 0 <= side_bytes <= SIDE_LIMIT:
        raise SdrError(f"side information has {side_bytes} bytes; the header allows at most {SIDE_LIMIT}")
    if repetition not in REPETITIONS:
        raise SdrError(f"repetition must be one of {', '.join(map(str, REPETITIONS))}, got {repetition}")
    return repetition * accumulate.REPEATS * 8 * (side_bytes + _CRC_BYTES) // 2  # two bits per symbol


def encode_side(side: bytes) -> Complex64[np.ndarray, "n"]:
    """Protect side information: CRC-32, repeat–accumulate code, QPSK of unit power; one copy."""
    framed = side + zlib.crc32(side).to_bytes(_CRC_BYTES, "big")
    coded = 1 - 2 * accumulate.encode(np.unpackbits(np.frombuffer(framed, np.uint8))).astype(np.float32)
    return np.asarray((coded[0::2] + 1j * coded[1::2]) / np.sqrt(2), np.complex64)


def decode_side(
    symbols: Complex64[np.ndarray, "copies"], noise_var: Float32[np.ndarray, "copies"], repetition: int
) -> bytes | None:
    """Combine all copies by their reliability, decode, and return the side information, or None if its CRC is wrong.

    `symbols` and `noise_var` hold the copies of each symbol side by side; erased ones have infinite `noise_var`.
    """
    weighted = (symbols / noise_var).reshape(-1, repetition).sum(axis=1)
    llr = np.sqrt(8) * np.stack([weighted.real, weighted.imag], axis=1).reshape(-1)
    framed = np.packbits(accumulate.decode(llr)).tobytes()
    side, crc = framed[:-_CRC_BYTES], framed[-_CRC_BYTES:]
    return side if zlib.crc32(side).to_bytes(_CRC_BYTES, "big") == crc else None


@dataclass(frozen=True)
class FramePlan:
    """How the symbols of one image are laid out; sender and receiver derive it from the same three numbers."""

    jscc_symbols: int
    side_bytes: int
    repetition: int
    packets: int
    payload_symbols: int
    """OFDM payload symbols in each packet."""
    slots: int
    """Complex payload symbols in each packet."""

    @property
    def side_symbols(self) -> int:
        """Complex symbols of side information with all copies; they come first in the stream."""
        return side_symbols(self.side_bytes, self.repetition)

    def stream_index(self) -> Int64[np.ndarray, "packets slots"]:
        """Stream position in each slot of each packet; positions past the stream are padding."""
        return _stream_index(self.packets, self.slots)


def plan_frame(waveform: Waveform, jscc_symbols: int, side_bytes: int, repetition: int) -> FramePlan:
    """Lay out an image in the fewest packets, all equally long and no longer than needed.

    Raises SdrError if the image needs more packets than the header can count.
    """
    total = jscc_symbols + side_symbols(side_bytes, repetition)
    packets = -(-total // waveform.packet_capacity)
    if packets > PACKET_LIMIT:
        raise SdrError(f"{total} symbols need {packets} packets; at most {PACKET_LIMIT} can be sent per image")
    payload_symbols = -(-total // (packets * waveform.data_carriers))
    return FramePlan(
        jscc_symbols=jscc_symbols,
        side_bytes=side_bytes,
        repetition=repetition,
        packets=packets,
        payload_symbols=payload_symbols,
        slots=payload_symbols * waveform.data_carriers,
    )


@lru_cache(maxsize=4)
def _stream_index(packets: int, slots: int) -> Int64[np.ndarray, "packets slots"]:
    groups = np.arange(slots)[:, None] * packets + sequences.permutations("packets", slots, packets)
    places = sequences.permutations("carriers", packets, slots)
    index = np.take_along_axis(groups.T, places, axis=1)
    index.setflags(write=False)
    return index
