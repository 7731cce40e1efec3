"""Several senders on one frequency: packets that take turns, are lost, or lie on top of one another."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdr.channel import Channel
from sdr.framing import plan_frame
from sdr.impairments import apply_channel, draw_channel
from sdr.receive import ReceivedImage, Receiver
from sdr.transmit import PacketSpan, transmit
from sdr.waveform import DEFAULT
from tests.sdr.helpers import gaussian, receive

SHORT = dataclasses.replace(DEFAULT, name="short", payload_symbols=6)
NOISE_DB = -30.0
"""Of a strong sender's signal."""


def heard(samples: np.ndarray, channel: Channel, rng: np.random.Generator) -> np.ndarray:
    """A packet as it arrives, without noise, at a fraction of a sample."""
    drawn = draw_channel(channel, DEFAULT, 1, rng, delay_samples=float(rng.uniform(20, 21)))
    drawn = dataclasses.replace(drawn, noise_variance=0.0, phase_rad=float(rng.uniform(-np.pi, np.pi)))
    return apply_channel(samples, [PacketSpan(0, samples.size)], drawn)


def noise(size: int, rng: np.random.Generator) -> np.ndarray:
    scale = DEFAULT.amplitude * 10 ** (NOISE_DB / 20) * 0.5**0.5
    return np.asarray((scale * rng.standard_normal((size, 2))).astype(np.float32).view(np.complex64)[:, 0])


@dataclasses.dataclass
class Sender:
    session: int
    image_id: int
    symbols: np.ndarray
    lost: np.ndarray
    level: float
    """Amplitude."""


def on_air(seed: int, losses: list[float]) -> tuple[list[Sender], np.ndarray]:
    """Senders whose packets take turns at random, each through a channel of its own that is drawn for every packet."""
    rng = np.random.default_rng(seed)
    senders, parts = [], []
    for number, loss in enumerate(losses):
        symbols = gaussian(int(rng.integers(2000, 5000)), rng)
        session, image_id = 100 + number // 2, number % 2
        sent = transmit(symbols, bytes([number]), SHORT, session=session, image_id=image_id, repetition=4)
        packets = sent.samples.reshape(len(sent.packets), -1)
        lost = rng.permutation(len(packets)) < round(loss * len(packets))
        sender = Sender(session, image_id, symbols, lost, float(10 ** rng.uniform(-0.5, 0)))
        fading = ["awgn", "multipath", "four-tap"][rng.integers(3)]
        channel = Channel(fading, cfo_hz=rng.uniform(-9e4, 9e4), sfo_ppm=rng.uniform(-20, 20), phase_noise_hz=10.0)
        parts += [
            (number, index, sender.level * heard(packet, channel, rng))
            for index, packet in enumerate(packets)
            if not lost[index]
        ]
        senders.append(sender)
    order = sorted(range(len(parts)), key=lambda place: (parts[place][1] + rng.uniform(0, 3), rng.random()))
    pieces: list[np.ndarray] = [np.zeros(int(rng.integers(3000)), np.complex64)]
    for place in order:
        pieces += [parts[place][2], np.zeros(int(rng.integers(400)), np.complex64)]
    samples = np.concatenate(pieces)
    return senders, samples + noise(samples.size, rng)


def assert_is(image: ReceivedImage, sender: Sender, number: int) -> None:
    """Everything that came is the sender's own, in its place, and what did not is erased."""
    plan = plan_frame(SHORT, sender.symbols.size, 1, 4)
    stream = np.zeros(plan.packets * plan.slots, np.bool_)
    stream[plan.stream_index()[sender.lost]] = True
    lost = stream[plan.side_symbols : plan.side_symbols + plan.jscc_symbols]
    assert image.side == bytes([number])
    assert image.packets_received == np.count_nonzero(~sender.lost) and image.packets_expected == plan.packets
    assert np.all(np.isinf(image.noise_var[lost])) and not image.symbols[lost].any()
    came = np.isfinite(image.noise_var)
    assert np.mean(came[~lost]) > 0.9  # but for carriers in deep fades
    weight = 1 / (1 + image.noise_var[came])
    misplaced = np.sum(weight * np.abs(image.symbols - sender.symbols)[came] ** 2 / (1 + image.noise_var[came]))
    assert misplaced < 0.25 * np.sum(weight)  # it would be 2


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.lists(st.floats(0, 0.6), min_size=1, max_size=4), st.data())
def test_images_are_kept_apart_whatever_is_lost_and_however_the_stream_is_cut(
    seed: int, losses: list[float], data: st.DataObject
) -> None:
    senders, samples = on_air(seed, losses)
    images = receive(samples, SHORT)
    assert len(images) == len(senders)
    for number, sender in enumerate(senders):
        (image,) = [one for one in images if (one.session, one.image_id) == (sender.session, sender.image_id)]
        assert_is(image, sender, number)
    cuts = data.draw(st.lists(st.integers(0, samples.size), max_size=8))
    receiver = Receiver(SHORT)
    again = [image for part in np.split(samples, sorted(cuts)) for image in receiver.push(part)] + receiver.flush()
    for one, other in zip(images, again, strict=True):
        for name, value in vars(one).items():
            assert np.array_equal(value, getattr(other, name)), name


def collision(offset: int, weaker_db: float, seed: int) -> tuple[list[np.ndarray], list[ReceivedImage]]:
    """Symbols of a strong sender (session 1) and a weaker one, and what is received of both."""
    rng = np.random.default_rng(seed)
    symbols = [gaussian(4500, rng) for _ in range(2)]
    length = DEFAULT.packet_samples(DEFAULT.payload_symbols)
    samples = noise(3 * length + 4000, rng)
    for number, (start, level_db) in enumerate(((length + 1000, 0.0), (length + 1000 + offset, -weaker_db))):
        sent = transmit(symbols[number], b"side", DEFAULT, session=number + 1, image_id=1, repetition=2)
        part = 10 ** (level_db / 20) * heard(sent.samples, Channel(cfo_hz=rng.uniform(-2e4, 2e4)), rng)
        samples[start : start + part.size] += part
    return symbols, receive(samples)


@settings(max_examples=15)
@given(st.integers(40, 10_000), st.booleans(), st.integers(0, 2**32))
def test_of_two_colliding_packets_the_stronger_is_received(offset: int, weaker_first: bool, seed: int) -> None:
    symbols, images = collision(-offset if weaker_first else offset, 10.0, seed)
    assert 1 in [image.session for image in images]
    assert len(images) == len({image.session for image in images}) <= 2
    for image in images:
        assert_honest(image, symbols[image.session - 1])


def assert_honest(image: ReceivedImage, sent: np.ndarray) -> None:
    """Within 3 dB: another short sequence, on every 16th carrier, can hide from the pilots or pass for a jammer."""
    came = np.isfinite(image.noise_var)
    error, told = np.abs(image.symbols - sent)[came] ** 2, image.noise_var[came]
    assert abs(10 * np.log10(np.mean(error / (1 + told)) / np.mean(told / (1 + told)))) < 3


@pytest.mark.parametrize("offset", [-8000, -5000, 5000, 8000])
def test_both_of_two_equal_packets_are_received_and_the_part_that_collides_is_told(offset: int) -> None:
    symbols, images = collision(offset, 0.0, 1)
    assert sorted(image.session for image in images) == [1, 2]
    for image in images:
        assert image.side == b"side"
        assert_honest(image, symbols[image.session - 1])
        if (image.session == 1) == (offset > 0):  # it began first: its end is spoilt
            assert np.quantile(image.noise_var, 0.1) < 0.01 and np.quantile(image.noise_var, 0.9) > 0.3
        else:  # training and header, too, lie beneath the other: the channel is known the worse
            assert np.quantile(image.noise_var, 0.1) < 0.1


@pytest.mark.parametrize("offset", [0, 5, 40, 100, 400, 900, 1500])
@pytest.mark.parametrize("weaker_db", [0.0, 3.0, 10.0])
def test_packets_that_begin_together_mix_nothing(offset: int, weaker_db: float) -> None:
    """Within the cyclic prefix the other one's preamble and pilots look like another path: then nothing tells of it."""
    symbols, images = collision(offset, weaker_db, 2)
    for image in images:
        own, other = (
            np.abs(np.vdot(sent, image.symbols)) for sent in (symbols[image.session - 1], symbols[2 - image.session])
        )
        assert own > 2 * other
        if offset > DEFAULT.cyclic_prefix:
            assert_honest(image, symbols[image.session - 1])
