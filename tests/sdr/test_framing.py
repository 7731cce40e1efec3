"""Side information and interleaver: exact costs, round trips, stable sequences."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdr import accumulate, framing, header, sequences
from sdr.errors import SdrError
from sdr.waveform import DEFAULT


def test_splitmix64_known_answer() -> None:
    # First outputs for seed 0, as in the reference implementation.
    assert [hex(word) for word in sequences.words("", 3)] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


def test_crc_known_answer() -> None:
    assert zlib.crc32(b"123456789") == 0xCBF43926
    framed = np.packbits(accumulate.decode(_llr(framing.encode_side(b"123456789")))).tobytes()
    assert framed == b"123456789" + bytes.fromhex("CBF43926")


def _llr(symbols: np.ndarray) -> np.ndarray:
    return np.asarray(np.stack([symbols.real, symbols.imag], axis=1).reshape(-1))


def test_repetition_grows_as_snr_falls() -> None:
    snrs_db = (20.0, 6.0, 0.0, -0.1, -3.0, -3.1, -9.0)
    assert [framing.side_repetition(snr, 100) for snr in snrs_db] == [1, 1, 1, 2, 2, 4, 4]
    assert framing.side_repetition(5.0, 19) == 2 and framing.side_repetition(5.0, 20) == 1


@pytest.mark.parametrize("side_bytes", [9, 60, 700])
@pytest.mark.parametrize(("snr_db", "loss"), [(0.0, 0.0), (-3.0, 0.0), (-6.0, 0.0), (10.0, 0.6)])
def test_side_information_survives_noise_and_loss(snr_db: float, loss: float, side_bytes: int) -> None:
    """Half a decibel more noise than the SNR says stands for what estimates cost."""
    rng = np.random.default_rng(2)
    copies = framing.side_repetition(snr_db, side_bytes)
    plan = framing.plan_frame(DEFAULT, 30_000, side_bytes, copies)
    noise = 10 ** (-(snr_db - 0.5) / 10)
    for _ in range(50):
        side = rng.bytes(side_bytes)
        sent = np.repeat(framing.encode_side(side), copies)
        noise_var = np.full(plan.packets * plan.slots, noise, np.float32)
        noise_var[plan.stream_index()[rng.permutation(plan.packets)[: round(loss * plan.packets)]]] = np.inf
        noise_var = noise_var[: sent.size]
        received = sent + (rng.standard_normal((sent.size, 2)) @ [1, 1j]) * (noise / 2) ** 0.5
        received[np.isinf(noise_var)] = 0
        assert framing.decode_side(received.astype(np.complex64), noise_var, copies) == side


@given(st.binary(max_size=700), st.sampled_from(header.REPETITIONS), st.data())
def test_side_costs_what_is_said_and_survives_loss_of_copies(side: bytes, repetition: int, data: st.DataObject) -> None:
    once = framing.encode_side(side)
    assert framing.side_symbols(len(side), repetition) == repetition * once.size
    assert np.mean(np.abs(once) ** 2) == pytest.approx(1, abs=1e-5)
    copies = np.repeat(once, repetition)
    noise_var = np.full(copies.size, 0.1, np.float32)
    kept = data.draw(st.integers(0, repetition - 1))  # one copy of each is enough without noise
    erased = np.arange(copies.size) % repetition != kept
    copies, noise_var = np.where(erased, 0, copies).astype(np.complex64), np.where(erased, np.inf, noise_var)
    assert framing.decode_side(copies, noise_var.astype(np.float32), repetition) == side


def test_unreliable_copies_do_not_outvote_a_good_one() -> None:
    side = b"rate map"
    copies = np.repeat(framing.encode_side(side), 2)
    copies[0::2] = 3 * framing.encode_side(b"rate mop")  # wrong and loud, but known to be poor
    noise_var = np.tile(np.array([100.0, 0.1], np.float32), copies.size // 2)
    assert framing.decode_side(copies, noise_var, 2) == side
    assert framing.decode_side(copies, np.ones_like(noise_var), 2) == b"rate mop"


def test_side_that_never_came_is_none() -> None:
    size = framing.side_symbols(20, 2)
    assert framing.decode_side(np.zeros(size, np.complex64), np.full(size, np.inf, np.float32), 2) is None


@pytest.mark.parametrize(
    ("side_bytes", "repetition", "word"), [(65536, 2, "65535"), (-1, 2, "65535"), (5, 3, "repetition")]
)
def test_side_out_of_range(side_bytes: int, repetition: int, word: str) -> None:
    with pytest.raises(SdrError, match=word):
        framing.side_symbols(side_bytes, repetition)


@given(st.integers(0, 60_000), st.integers(0, 900), st.sampled_from(header.REPETITIONS))
def test_plan_is_the_shortest_of_equal_packets(jscc_symbols: int, side_bytes: int, repetition: int) -> None:
    plan = framing.plan_frame(DEFAULT, jscc_symbols, side_bytes, repetition)
    total = jscc_symbols + plan.side_symbols
    assert plan.packets == -(-total // 4800)
    assert total <= plan.packets * plan.slots < total + plan.packets * DEFAULT.data_carriers
    assert plan.payload_symbols <= DEFAULT.payload_symbols


def test_too_many_packets_are_refused() -> None:
    with pytest.raises(SdrError, match="4095"):
        framing.plan_frame(DEFAULT, 4095 * 4800, 10, 2)


@pytest.mark.parametrize(("packets", "slots"), [(1, 160), (7, 480), (13, 320)])
def test_interleaver_spreads_neighbours_over_packets(packets: int, slots: int) -> None:
    plan = framing.FramePlan(0, 0, 1, packets, slots // 160, slots)
    index = plan.stream_index()
    assert np.array_equal(np.sort(index.ravel()), np.arange(packets * slots))
    packet_of = np.empty(packets * slots, int)
    packet_of[index] = np.arange(packets)[:, None]
    for group in packet_of.reshape(-1, packets):
        assert sorted(group) == list(range(packets))
    if packets > 1:  # no packet owns a fixed phase of the stream
        assert len({tuple(group) for group in packet_of.reshape(-1, packets)}) > slots // 4


def test_interleaver_is_part_of_the_air_interface() -> None:
    index = framing.plan_frame(DEFAULT, 32768, 100, 1).stream_index()
    assert zlib.crc32(np.ascontiguousarray(index, "<i8").tobytes()) == 1293720874
