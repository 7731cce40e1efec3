"""The packet header: everything a receiver must know, repeated in every packet.

122 bits of fields and reserve, CRC-32 (IEEE 802.3), K=7 rate-1/2 code: 320 coded bits, repeated over the header
symbols in BPSK and permuted. One correct header suffices to lay out the whole image.

The first 8 bits are the version. Every later version keeps them there, and the length and the CRC, so that receivers
of all versions can tell a packet that is not for them from a damaged one.
"""

import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Complex64, Float, Int64, UInt8

from sdr import fec, sequences
from sdr.waveform import Waveform

VERSION = 3
"""1 had no repetitions above 8, and up to 2 side information had the header's code."""
REPETITIONS = (1, 2, 4, 8, 16, 32, 64, 128)
_WIDTHS = {
    "version": 8,
    "session": 24,
    "image_id": 16,
    "packet_index": 12,
    "packet_count": 12,
    "jscc_symbols": 25,
    "side_bytes": 16,
    "repetition_log2": 3,
    "reserved": 6,
}
_FIELD_BITS = sum(_WIDTHS.values())
_FIELD_BYTES = -(-_FIELD_BITS // 8)
INFO_BITS = _FIELD_BITS + 32
CODED_BITS = 2 * (INFO_BITS + fec.TAIL_BITS)

SESSION_LIMIT = 1 << _WIDTHS["session"]
IMAGE_ID_LIMIT = 1 << _WIDTHS["image_id"]
PACKET_LIMIT = (1 << _WIDTHS["packet_count"]) - 1
SIDE_LIMIT = (1 << _WIDTHS["side_bytes"]) - 1


@dataclass(frozen=True)
class Header:
    """Contents of a packet header."""

    session: int
    image_id: int
    packet_index: int
    packet_count: int
    jscc_symbols: int
    side_bytes: int
    repetition: int


@dataclass(frozen=True)
class ForeignHeader:
    """A header that arrived intact but follows rules that this version doesn't know."""

    version: int


def pack(header: Header) -> UInt8[np.ndarray, "info"]:
    """Return the `INFO_BITS` bits of a header with its CRC."""
    values = {
        "version": VERSION,
        "session": header.session,
        "image_id": header.image_id,
        "packet_index": header.packet_index,
        "packet_count": header.packet_count,
        "jscc_symbols": header.jscc_symbols,
        "side_bytes": header.side_bytes,
        "repetition_log2": REPETITIONS.index(header.repetition),
        "reserved": 0,
    }
    word = 0
    for name, width in _WIDTHS.items():
        word = word << width | values[name]
    fields = word.to_bytes(_FIELD_BYTES, "big")
    framed = np.frombuffer(fields + zlib.crc32(fields).to_bytes(4, "big"), np.uint8)
    return np.unpackbits(framed)[-INFO_BITS:]


def unpack(bits: UInt8[np.ndarray, "blocks info"]) -> list[Header | ForeignHeader | None]:
    """Return the header in each block of bits; None where the CRC is wrong."""
    padding = 8 * (_FIELD_BYTES + 4) - INFO_BITS
    framed = np.packbits(np.pad(bits, ((0, 0), (padding, 0))), axis=1)
    return [
        _parse(row[:-4]) if zlib.crc32(row[:-4]) == int.from_bytes(row[-4:], "big") else None
        for row in map(bytes, framed)
    ]


def _parse(fields: bytes) -> Header | ForeignHeader:
    word, values = int.from_bytes(fields, "big"), {}
    for name, width in reversed(_WIDTHS.items()):
        values[name] = word & ((1 << width) - 1)
        word >>= width
    version = values.pop("version")
    if version != VERSION or values.pop("reserved") != 0:
        return ForeignHeader(version)
    return Header(repetition=REPETITIONS[values.pop("repetition_log2")], **values)


def modulate(headers: list[Header], waveform: Waveform) -> Complex64[np.ndarray, "packets symbols carriers"]:
    """Return the BPSK points of headers on the data carriers of their OFDM symbols."""
    coded = fec.encode(np.stack([pack(header) for header in headers]))
    points = (1 - 2 * coded.astype(np.float32)).take(_positions(waveform), axis=1)
    return points.reshape(-1, waveform.header_symbols, waveform.data_carriers).astype(np.complex64)


def demodulate(
    llr: Float[np.ndarray, "packets symbols carriers"], waveform: Waveform
) -> list[Header | ForeignHeader | None]:
    """Decode the headers of many packets from the LLRs of their BPSK points (positive: 0 bit); see `unpack`."""
    if not len(llr):
        return []
    flat = llr.reshape(len(llr), -1)
    combined = np.stack([np.bincount(_positions(waveform), weights=row, minlength=CODED_BITS) for row in flat])
    return unpack(fec.decode_blocks(combined))


@lru_cache(maxsize=16)
def _positions(waveform: Waveform) -> Int64[np.ndarray, "slots"]:
    """Coded bit in each header slot: whole copies one after the other, each permuted differently."""
    slots = waveform.header_symbols * waveform.data_carriers
    copies = -(-slots // CODED_BITS)
    return sequences.permutations("header", copies, CODED_BITS).reshape(-1)[:slots]
