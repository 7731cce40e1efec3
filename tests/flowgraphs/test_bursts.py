"""Bursts: what is in them, and when they may be sent."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgraphs.bursts import Burst, Bursts, Timing, make_burst
from flowgraphs.errors import LinkError
from sdr.safety import TransmitGuard
from sdr.station import Band, Side, Station
from sdr.transmit import transmit
from sdr.waveform import DEFAULT
from tests.flowgraphs.helpers import FakeEncoder, outgoing


def start(*items: int, **options: object) -> tuple[FakeEncoder, Bursts]:
    error = options.pop("error", None)
    encoder = FakeEncoder(*[outgoing(number, count=600) for number in items], error=error)  # type: ignore[arg-type]
    guard = options.pop("guard", None)
    return encoder, Bursts(encoder, DEFAULT, Timing(**options), guard)  # type: ignore[arg-type]


def drain(bursts: Bursts, limit_s: float = 5.0) -> tuple[list[Burst], list[float]]:
    """All bursts, and when they came."""
    taken, times, end_s = [], [], time.monotonic() + limit_s
    while not bursts.over and time.monotonic() < end_s:
        if (burst := bursts.take(0.02)) is not None:
            taken.append(burst)
            times.append(time.monotonic())
    bursts.close()
    assert bursts.over
    return taken, [*times, time.monotonic()]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(1, 20000))
def test_a_burst_is_the_transmission_between_silences(lead: int, silence: int, multiple: int) -> None:
    item = outgoing(3, count=600)
    burst = make_burst(item, DEFAULT, Timing(lead_samples=lead, silence_samples=silence, multiple=multiple))
    sent = transmit(item.symbols, item.side, DEFAULT, session=7, image_id=3, repetition=1)
    size = sent.samples.size
    assert burst.samples.size % multiple == 0 and 0 <= burst.samples.size - (lead + size + silence) < multiple
    assert np.array_equal(burst.samples[lead : lead + size], sent.samples)
    assert not burst.samples[:lead].any() and not burst.samples[lead + size :].any()
    assert burst.air_s == pytest.approx(size / DEFAULT.sample_rate_hz) and burst.packets == len(sent.packets)


def test_all_are_given_in_order_and_only_the_first_has_a_lead() -> None:
    encoder, bursts = start(1, 2, 3, lead_samples=1000)
    taken, _ = drain(bursts)
    assert [burst.outgoing.image_id for burst in taken] == [1, 2, 3]
    assert [bool(burst.samples[0]) for burst in taken] == [False, True, True]
    assert encoder.closed.is_set() and bursts.problem is None


@pytest.mark.parametrize("size", [1000, 8191, 10**6])
def test_buffers_of_any_size_get_the_samples_of_all_bursts_in_order(size: int) -> None:
    taken, _ = drain(start(1, 2, silence_samples=77)[1])
    _, bursts = start(1, 2, silence_samples=77)
    heard: list[np.ndarray] = []
    begun: list[tuple[int, int]] = []
    while not bursts.over:
        count, burst = bursts.fill(out := np.full(size, np.nan, np.complex64), 0.02)
        if burst is not None:
            begun.append((sum(piece.size for piece in heard), burst.outgoing.image_id))
        heard.append(out[:count])
    bursts.close()
    assert np.array_equal(np.concatenate(heard), np.concatenate([burst.samples for burst in taken]))
    assert begun == [(0, 1), (taken[0].samples.size, 2)]


def test_no_more_is_encoded_than_can_soon_be_sent() -> None:
    encoder, bursts = start(*range(20))
    time.sleep(0.3)
    assert encoder.given <= 3  # one waits, one more is made, and one has been asked for
    bursts.close()


def test_pause_and_drain_are_kept() -> None:
    _, bursts = start(1, 2, pause_s=0.2, drain_s=0.3)
    _, times = drain(bursts)
    assert times[1] - times[0] >= 0.2 and times[2] - times[1] >= 0.3


def test_the_duty_cycle_is_kept_even_after_the_last_burst() -> None:
    band = Band(2.4e9, 2.5e9, max_gain_db=0.0, duty_cycle=0.02)
    station = Station("test", "none", 2.45e9, transmit=Side({}), bands=(band,))
    _, bursts = start(1, 2, guard=TransmitGuard(station, DEFAULT))
    (burst, _), times = drain(bursts)
    assert min(times[1] - times[0], times[2] - times[1]) >= 0.99 * burst.air_s / band.duty_cycle


def test_a_failing_encoder_ends_it_with_the_reason() -> None:
    _, bursts = start(1, error=LinkError("picture 'x' does not exist"))
    taken, _ = drain(bursts)
    assert len(taken) == 1 and bursts.problem == "picture 'x' does not exist"
