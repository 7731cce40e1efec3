"""The packet header: round trips, versions, and a flood of headers that are none."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdr import header
from sdr.candidate import Candidate, Reason
from sdr.framing import plan_frame
from sdr.receive import Receiver, plan_of
from sdr.waveform import DEFAULT
from tests.sdr.helpers import passage

headers = st.builds(
    header.Header,
    session=st.integers(0, header.SESSION_LIMIT - 1),
    image_id=st.integers(0, header.IMAGE_ID_LIMIT - 1),
    packet_index=st.integers(0, header.PACKET_LIMIT - 1),
    packet_count=st.integers(1, header.PACKET_LIMIT),
    jscc_symbols=st.integers(0, (1 << 25) - 1),
    side_bytes=st.integers(0, header.SIDE_LIMIT),
    repetition=st.sampled_from(header.REPETITIONS),
)


@given(headers)
def test_round_trip(contents: header.Header) -> None:
    bits = header.pack(contents)
    assert bits.size == header.INFO_BITS
    assert header.unpack(bits[None]) == [contents]


def test_layout_on_the_air_is_fixed() -> None:
    """Known bits: what goes on the air must not change under one version number."""
    bits = header.pack(header.Header(0xABCDEF, 0x1234, 5, 7, 32768, 60, 4))
    fields = "00000011" + f"{0xABCDEF:024b}{0x1234:016b}{5:012b}{7:012b}{32768:025b}{60:016b}{2:03b}" + "0" * 6
    crc = zlib.crc32(int(fields, 2).to_bytes(16, "big"))
    assert "".join(map(str, bits)) == fields + f"{crc:032b}"


@given(headers, st.sets(st.integers(0, header.INFO_BITS - 1), min_size=1, max_size=3))
def test_wrong_bits_spoil_a_header(contents: header.Header, places: set[int]) -> None:
    bits = header.pack(contents)
    bits[list(places)] ^= 1
    assert header.unpack(bits[None]) == [None]


def valid_crc(fields: np.ndarray) -> np.ndarray:
    """Append the right CRC to rows of field bits."""
    rows = np.packbits(np.pad(fields, ((0, 0), (128 - fields.shape[1], 0))), axis=1)
    crcs = np.array([zlib.crc32(row.tobytes()) for row in rows], ">u4")
    return np.concatenate([fields, np.unpackbits(crcs.view(np.uint8)).reshape(-1, 32)], axis=1)


def test_a_million_random_headers_are_none() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        bits = np.unpackbits(np.frombuffer(rng.bytes(100_000 * 20), np.uint8)).reshape(-1, 160)
        assert not any(header.unpack(bits[:, : header.INFO_BITS]))


def test_random_fields_under_a_right_crc_never_crash_and_hardly_ever_fit() -> None:
    """What contradicts itself is no packet; what fits is a header that somebody could have sent."""
    rng = np.random.default_rng(1)
    width, versions, fitting = header.INFO_BITS - 32, set(), 0
    fields = np.unpackbits(np.frombuffer(rng.bytes(40_000 * 16), np.uint8)).reshape(-1, 128)[:, :width]
    fields[::2, :8] = np.unpackbits(np.array([header.VERSION], np.uint8))
    fields[::2, -6:] = 0
    for contents in header.unpack(valid_crc(fields)):
        assert contents is not None
        if isinstance(contents, header.ForeignHeader):
            versions.add(contents.version)
            continue
        plan = plan_of(contents, DEFAULT)
        if plan is not None:
            fitting += 1
            assert contents.packet_index < contents.packet_count == plan.packets
            assert plan == plan_frame(DEFAULT, contents.jscc_symbols, contents.side_bytes, contents.repetition)
    assert len(versions) == 256  # our own among them: with reserved bits set it is a later one's
    assert fitting < 40


def test_packets_of_another_version_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "VERSION", header.VERSION + 1)
    sent = passage(1, count=20_000, cfo_hz=11e3)
    monkeypatch.undo()
    told: list[Candidate] = []
    receiver = Receiver(DEFAULT, observer=told.append)
    assert receiver.push(sent.samples) + receiver.flush() == []
    packets = len(sent.transmission.packets)
    assert (receiver.packets_foreign, receiver.packets_rejected) == (packets, 0)
    assert sum(candidate.reason is Reason.FOREIGN for candidate in told) == packets


def test_headers_survive_0_db() -> None:
    """Known channel: the code and its copies alone. Union bound at 6.2 dB Eb/N0: under 1e-5 per header."""
    rng = np.random.default_rng(1)
    sent = [header.Header(9, index % 50, index % 7, 7, 30000, 100, 4) for index in range(1000)]
    points = header.modulate(sent, DEFAULT)
    noise = (rng.standard_normal(points.shape) + 1j * rng.standard_normal(points.shape)) / np.sqrt(2)
    decoded = header.demodulate(4 * (points + noise).real, DEFAULT)
    assert decoded == sent
