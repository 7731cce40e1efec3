"""The receiver as a stream: any chunks, several images, time-outs, and everything that is no packet."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdr import ofdm
from sdr.blocks import BLOCK_SAMPLES
from sdr.candidate import Candidate, Reason
from sdr.errors import SdrError
from sdr.framing import plan_frame
from sdr.receive import ReceivedImage, Receiver
from sdr.transmit import transmit
from sdr.waveform import DEFAULT
from tests.sdr.helpers import gaussian, passage, receive


def assert_same(first: list[ReceivedImage], second: list[ReceivedImage]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for name, value in vars(one).items():
            assert np.array_equal(value, getattr(other, name)), name


def two_images() -> np.ndarray:
    first = passage(0, count=19_000, image_id=1, cfo_hz=30e3)
    second = passage(1, count=19_000, image_id=2, cfo_hz=-12e3, snr_db=6.0)
    # 150,000 samples: packets on both sides of, and across, the edge of an internal block
    return np.concatenate([first.samples, second.samples, first.samples])


STREAM = two_images()
EXPECTED = receive(STREAM)


def test_the_stream_holds_three_images() -> None:
    assert [image.image_id for image in EXPECTED] == [1, 2, 1]
    assert all(image.packets_received == image.packets_expected for image in EXPECTED)


@settings(max_examples=12)
@given(st.lists(st.integers(0, STREAM.size), max_size=12))
def test_chunks_do_not_matter(cuts: list[int]) -> None:
    receiver = Receiver(DEFAULT)
    images = [image for part in np.split(STREAM, sorted(cuts)) for image in receiver.push(part)]
    assert_same(images + receiver.flush(), EXPECTED)


@pytest.mark.parametrize("size", [1, 1009, 131_072])
def test_equal_chunks_do_not_matter(size: int) -> None:
    receiver, images = Receiver(DEFAULT), []
    for start in range(0, STREAM.size, size):
        images += receiver.push(STREAM[start : start + size])
    assert_same(images + receiver.flush(), EXPECTED)


def test_a_receiver_is_as_new_after_flush() -> None:
    receiver = Receiver(DEFAULT)
    for _ in range(2):
        images = receiver.push(STREAM) + receiver.flush()
        assert [image.side for image in images] == [image.side for image in EXPECTED]


@pytest.mark.parametrize("lead", range(BLOCK_SAMPLES - 236, BLOCK_SAMPLES + 64, 37))
def test_no_packet_is_lost_on_the_edge_of_a_block(lead: int) -> None:
    sent = passage(3, count=2500, delay_samples=float(lead))
    (image,) = receive(sent.samples)
    assert image.packets_received == 1 and abs(image.start_sample - lead) <= 3


def test_interleaved_senders_are_kept_apart() -> None:
    rng = np.random.default_rng(4)
    sent, parts = [], []
    for session, image_id in ((5, 1), (5, 2), (6, 1)):
        symbols = gaussian(12_000, rng)
        sent.append((session, image_id, symbols))
        transmission = transmit(
            symbols, bytes([session, image_id]), DEFAULT, session=session, image_id=image_id, repetition=1
        )
        parts.append(transmission.samples.reshape(len(transmission.packets), -1))
    images = receive(np.stack(parts, axis=1).reshape(-1))
    assert len(images) == 3
    for session, image_id, symbols in sent:
        (image,) = [one for one in images if (one.session, one.image_id) == (session, image_id)]
        assert image.side == bytes([session, image_id])
        assert np.abs(image.symbols - symbols).max() < 0.05


def test_time_out_returns_what_has_come() -> None:
    sent = passage(5, count=20_000)
    receiver = Receiver(DEFAULT, timeout_s=0.05)
    silence = np.zeros(400_000, np.complex64)
    cut = np.concatenate([silence[:100], sent.samples[: sent.samples.size // 2], silence])
    (image,) = receiver.push(cut)
    assert 0 < image.packets_received < image.packets_expected
    assert np.isinf(image.noise_var).any() and np.isfinite(image.noise_var).any()
    assert not receiver.flush()


def test_before_the_time_out_nothing_is_returned() -> None:
    sent = passage(5, count=20_000)
    receiver = Receiver(DEFAULT, timeout_s=10.0)
    cut = np.concatenate([sent.samples[: sent.samples.size // 2], np.zeros(400_000, np.complex64)])
    assert not receiver.push(cut)
    assert len(receiver.flush()) == 1


def test_a_repeated_packet_opens_a_new_image() -> None:
    sent = passage(6, count=12_000, name="ideal")
    span = sent.transmission.packets[0]
    twice = np.concatenate([sent.samples[: span.samples], sent.samples])
    images = receive(twice)
    assert [(image.packets_received, image.packets_expected) for image in images] == [(1, 3), (3, 3)]


def test_unfinished_images_do_not_pile_up() -> None:
    rng = np.random.default_rng(7)
    first_packets = []
    for image_id in range(20):
        sent = transmit(gaussian(6000, rng), b"", DEFAULT, session=1, image_id=image_id, repetition=1)
        first_packets.append(sent.samples[: sent.packets[0].samples])
    receiver = Receiver(DEFAULT, timeout_s=100.0)
    early = receiver.push(np.concatenate([*first_packets, np.zeros(2 * BLOCK_SAMPLES, np.complex64)]))
    assert [image.image_id for image in early] == list(range(12))  # the oldest make room
    assert len(receiver.flush()) == 8


def test_a_spoilt_header_is_counted_and_its_packet_erased() -> None:
    sent = passage(8, count=20_000, delay_samples=1000.0, repetition=4)
    start = 1000 + sent.transmission.packets[2].start_sample + DEFAULT.preamble_samples
    samples = sent.samples.copy()
    samples[start : start + 4 * DEFAULT.symbol_samples] = sent.samples[:1152] / 10
    receiver = Receiver(DEFAULT)
    (image,) = receiver.push(samples) + receiver.flush()
    assert receiver.packets_rejected == 1
    assert image.packets_expected - image.packets_received == 1
    assert image.side == sent.side


@pytest.mark.parametrize(("cut", "lost"), [(1, 0), (20, 1), (600, 3), (5000, 18)])
def test_of_a_packet_cut_off_at_the_end_the_whole_symbols_stay(cut: int, lost: int) -> None:
    sent = passage(9, count=2500, name="ideal", delay_samples=500.0)
    plan = plan_frame(DEFAULT, 2500, len(sent.side), 2)
    end = DEFAULT.packet_samples(plan.payload_symbols)
    (image,) = receive(sent.samples[: 500 + end - cut])
    heard = np.isfinite(image.noise_var)
    assert 1 - heard.mean() == pytest.approx(lost / plan.payload_symbols, abs=0.03)
    assert np.abs(image.symbols - sent.symbols)[heard].max() < 0.02 and not image.symbols[~heard].any()


def test_a_packet_cut_off_before_its_payload_is_rejected() -> None:
    sent = passage(9, count=12_000, name="ideal", delay_samples=500.0)
    seen: list[Candidate] = []
    receiver = Receiver(DEFAULT, observer=seen.append)
    end = 500 + sent.transmission.packets[2].start_sample
    (image,) = receiver.push(sent.samples[: end + DEFAULT.packet_samples(0) + 100]) + receiver.flush()
    assert (image.packets_received, image.packets_expected, receiver.packets_rejected) == (2, 3, 1)
    reasons = [candidate.reason for candidate in seen if candidate.reason is not Reason.UNCONFIRMED]
    assert reasons == [None, None, Reason.CUT]


def test_missing_samples_cost_the_symbols_that_they_are_part_of() -> None:
    sent = passage(13, count=12_000, name="ideal", delay_samples=500.0)
    samples = sent.samples.copy()
    start = 500 + sent.transmission.packets[1].start_sample
    samples[start + 5000 : start + 5100] = np.nan
    (image,) = receive(samples)
    heard = np.isfinite(image.noise_var)
    plan = plan_frame(DEFAULT, 12_000, len(sent.side), 4)
    assert (image.packets_received, image.packets_cut, image.packets_expected) == (3, 1, 3)
    assert 1 - heard.mean() == pytest.approx(1 / plan.payload_symbols / 3, abs=0.003)
    assert np.abs(image.symbols - sent.symbols)[heard].max() < 0.02


def test_bad_samples_are_counted_and_survived() -> None:
    sent = passage(10, count=12_000, repetition=4)
    samples = sent.samples.copy()
    samples[9000:9010] = np.nan
    samples[20_000] = complex(np.inf, 1)
    samples[30_000] = 1e30
    receiver = Receiver(DEFAULT)
    (image,) = receiver.push(samples) + receiver.flush()
    assert receiver.bad_samples == 12
    assert image.side == sent.side and np.all(np.isfinite(image.symbols))


def test_an_observer_is_told_of_every_packet_and_changes_nothing() -> None:
    seen: list[Candidate] = []
    receiver = Receiver(DEFAULT, observer=seen.append)
    assert_same(receiver.push(STREAM) + receiver.flush(), EXPECTED)
    packets = [candidate for candidate in seen if candidate.packet is not None]
    assert len(packets) == sum(image.packets_received for image in EXPECTED)
    for candidate in packets:
        assert candidate.packet is not None and candidate.state is not None and candidate.spectrum is not None
        assert candidate.reason is None and candidate.start_sample == candidate.packet.start_sample
        assert len(candidate.spectrum) == len(candidate.state.phase)
    assert [candidate.start_sample for candidate in packets] == sorted({c.start_sample for c in packets})


def test_an_observer_is_told_why_candidates_are_no_packets() -> None:
    sent = passage(8, count=20_000, delay_samples=1000.0, repetition=4, snr_db=20.0)
    first, second, third = (1000 + sent.transmission.packets[index].start_sample for index in (0, 1, 2))
    samples = sent.samples.copy()
    header = slice(third + DEFAULT.preamble_samples, third + DEFAULT.packet_samples(0))
    samples[header] = sent.samples[: header.stop - header.start] / 10
    preamble = ofdm.grid(DEFAULT).preamble
    samples[second + 5000 : second + 5000 + preamble.size] += 2 * preamble  # another sender on the same frequency
    alone = passage(9, count=0, snr_db=20.0).samples[-4000:]
    alone[:320] += preamble[:320]  # a short sequence and nothing after it
    seen: list[Candidate] = []
    receiver = Receiver(DEFAULT, observer=seen.append)
    receiver.push(np.concatenate([samples, alone]).astype(np.complex64))
    receiver.flush()
    told = [(candidate.start_sample, candidate.reason) for candidate in seen]
    for start, reason in (
        (first, None),
        (second, None),
        (second + 5000, Reason.OVERLAP),
        (third, Reason.HEADER),
        (samples.size, Reason.UNCONFIRMED),
    ):
        assert [why for where, why in told if abs(where - start) <= 32] == [reason]
    reasons = [reason for _, reason in told if reason is not Reason.UNCONFIRMED]  # noise, too, fires the detector
    assert len(reasons) == len(sent.transmission.packets) + 1


@pytest.mark.parametrize("offset_db", [5.0, 20.0])
def test_dc_is_blocked(offset_db: float) -> None:
    sent = passage(11, snr_db=10.0, cfo_hz=20e3)
    offset = np.sqrt(sent.channel.noise_variance) * 10 ** (offset_db / 20)
    (image,) = receive((sent.samples + offset).astype(np.complex64))
    assert image.packets_received == image.packets_expected
    assert np.mean(np.abs(image.symbols - sent.symbols) ** 2) < 0.115


def garbage() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(12)
    noise = (rng.standard_normal((200_000, 2)) * 0.1).view(np.complex128)[:, 0]
    tone = np.exp(2j * np.pi * 0.0311 * np.arange(noise.size))
    preamble = ofdm.grid(DEFAULT).preamble
    return {
        "nothing": noise[:0],
        "one sample": noise[:1],
        "noise": noise,
        "noise and DC": noise + 1,
        "noise and tone": noise + 10 * tone,
        "tone": tone,
        "DC": np.ones(100_000),
        "zeros": np.zeros(100_000),
        "NaN": np.full(100_000, np.nan),
        "short sequence": np.tile(preamble[:16], 6000),
        "preambles": np.tile(preamble, 100),
        "clicks": np.where(rng.random(noise.size) < 1e-3, 1e5, 0),
        "random bytes as floats": rng.integers(0, 256, 800_000, np.uint8).view(np.complex64),
    }


@pytest.mark.parametrize("kind", list(garbage()))
def test_garbage_holds_no_image(kind: str) -> None:
    assert receive(garbage()[kind].astype(np.complex64)) == []


def test_time_out_must_be_positive() -> None:
    with pytest.raises(SdrError, match="timeout_s"):
        Receiver(DEFAULT, timeout_s=0.0)
