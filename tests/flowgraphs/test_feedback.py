"""Reports from receiver to sender: what comes through, and that nothing else does any harm."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from flowgraphs.adaptation import Follower, LinkAdapter, Setting
from flowgraphs.feedback import Publisher, Report, Subscriber, pack, unpack
from flowgraphs.link import loopback
from models.errors import ModelError
from models.keys import create_keys
from models.weights import Quality
from sdr.channel import Channel
from sdr.receive import ReceivedImage
from sdr.waveform import DEFAULT
from tests.flowgraphs.test_link import IMAGE, Echo

REPORT = Report(40000, 12, 7.5, 9, 10, 3)
LIMIT_S = 20.0


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with zmq.Context() as context, context.socket(zmq.REP) as probe:
        port = probe.bind_to_random_port("tcp://127.0.0.1")
    yield f"zmq:tcp://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def image() -> ReceivedImage:
    """Received through the software channel at 6 dB."""
    return loopback(Echo(), IMAGE, DEFAULT, Channel("awgn", 6.0), cbr=1 / 24).received


def reported(publisher: Publisher, subscriber: Subscriber, image: ReceivedImage) -> list[Report]:
    """Publishes until something arrives: a subscriber misses what was said before it was connected."""
    until = time.monotonic() + LIMIT_S
    while not (reports := subscriber.poll()):
        assert time.monotonic() < until
        publisher.publish(image)
        time.sleep(0.02)
    return reports


def test_what_is_packed_is_unpacked() -> None:
    assert unpack(pack(REPORT)) == REPORT


@given(garbage=st.binary(max_size=64))
def test_garbage_is_no_report(garbage: bytes) -> None:
    assert unpack(garbage) is None


@given(place=st.integers(0, 31), value=st.integers(0, 255))
def test_a_changed_byte_gives_a_report_that_is_possible_or_none(place: int, value: int) -> None:
    message = bytearray(pack(REPORT))
    message[place] = value
    found = unpack(bytes(message))
    assert found is None or found.valid
    if place < 5:
        assert (found == REPORT) == (message == pack(REPORT))


@pytest.mark.parametrize("snr_db", [float("nan"), float("inf"), 1e9])
def test_a_senseless_snr_is_no_report(snr_db: float) -> None:
    assert unpack(pack(Report(1, 1, snr_db, 1, 1, 1))) is None


def test_the_snr_of_the_receiver_reaches_the_sender(address: str, image: ReceivedImage) -> None:
    publisher, subscriber = Publisher(address), Subscriber(address)
    try:
        first = reported(publisher, subscriber, image)[0]
        assert first.snr_db == pytest.approx(6.0, abs=1.0)
        assert (first.session, first.packets_received) == (image.session, image.packets_expected)
        second = reported(publisher, subscriber, image)[-1]
        assert second.counter > first.counter
    finally:
        publisher.close()
        subscriber.close()


def test_strangers_are_counted_and_a_receiver_may_come_back(address: str, image: ReceivedImage) -> None:
    subscriber = Subscriber(address)
    try:
        with zmq.Context() as context, context.socket(zmq.PUB) as stranger:
            stranger.bind(address.removeprefix("zmq:"))
            until = time.monotonic() + LIMIT_S
            while subscriber.malformed < 10:
                for message in ([b""], [bytes(200)], [pack(REPORT), b"more"], [b"LRFB" + bytes(28)]):
                    stranger.send_multipart(message)
                assert subscriber.poll() == []
                assert time.monotonic() < until
                time.sleep(0.02)
        assert subscriber.poll() == []  # nobody is there, and nothing waits
        publisher = Publisher(address)
        try:
            assert reported(publisher, subscriber, image)[0].session == image.session
        finally:
            publisher.close()
    finally:
        subscriber.close()


def test_over_a_good_link_the_rate_falls_and_over_a_bad_one_it_rises(address: str) -> None:
    """Sender, software channel, receiver and sockets, as `lrisc send` and `lrisc receive` put them together."""
    table = tuple(Quality(s, c, 0.5 / ((1 + s) * c)) for s in (0.0, 10.0, 20.0) for c in (1 / 48, 1 / 24, 1 / 6))
    publisher, subscriber, codec, used = Publisher(address), Subscriber(address), Echo(), []
    session = int(np.random.default_rng(0).integers(1 << 16))  # of every `loopback` with seed 0
    adapter = LinkAdapter(session, Setting(10.0, 1 / 12), table)
    follower = Follower(adapter, subscriber)
    try:
        for snr_db in [20.0] * 10 + [3.0] * 6:
            used.append(use := follower.setting(0, codec, IMAGE))
            channel = Channel("awgn", snr_db)
            passage = loopback(codec, IMAGE, DEFAULT, channel, cbr=use.cbr, snr_hint_db=use.snr_hint_db)
            for report in reported(publisher, subscriber, passage.received)[:1]:
                adapter.update(report)
    finally:
        publisher.close()
        follower.close()
    assert used[0] == Setting(10.0, 1 / 12)
    assert used[10].snr_hint_db == pytest.approx(20.0, abs=1.5) and used[10].cbr < 0.7 / 12
    assert used[-1].snr_hint_db == pytest.approx(3.0, abs=1.5) and used[-1].cbr > 1.2 / 12
    facts = follower.report()
    assert facts is not None and facts["reports"] >= 16 and facts["malformed"] == 0


def test_a_receiver_publishes_to_nobody_without_waiting(address: str, image: ReceivedImage) -> None:
    publisher = Publisher(address)
    for _ in range(2000):
        publisher.publish(image)
    with pytest.raises(ModelError, match="cannot be published"):
        Publisher(address)
    publisher.close()


def test_keys_open_and_strangers_hear_nothing(address: str, image: ReceivedImage, tmp_path: Path) -> None:
    publisher = Publisher(address, tmp_path / "keys")
    create_keys(tmp_path / "others")
    (tmp_path / "others" / "server.key").write_bytes((tmp_path / "keys" / "server.key").read_bytes())
    friend = Subscriber(address, tmp_path / "keys")
    strangers = [Subscriber(address), Subscriber(address, tmp_path / "others")]
    try:
        assert reported(publisher, friend, image)
        for _ in range(10):
            reported(publisher, friend, image)
        assert all(stranger.poll() == [] for stranger in strangers)
    finally:
        publisher.close()
        for end in (friend, *strangers):
            end.close()


@pytest.mark.parametrize(
    ("address", "reason"),
    [("tcp://127.0.0.1:1", "zmq:tcp"), ("zmq:file", "zmq:tcp"), ("zmq:tcp://192.0.2.1:5", "--feedback-keys")],
)
def test_addresses_that_are_refused(address: str, reason: str) -> None:
    for end in (Publisher, Subscriber):
        with pytest.raises(ModelError, match=reason):
            end(address)
