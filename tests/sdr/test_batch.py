"""Taking batches of packets apart and putting them together."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sdr.batch import merge, take


@dataclass(frozen=True, eq=False)
class Inner:
    level: np.ndarray


@dataclass(frozen=True, eq=False)
class Outer:
    values: np.ndarray
    inner: Inner


def batch(packets: int) -> Outer:
    return Outer(np.arange(3 * packets).reshape(packets, 3), Inner(np.arange(packets) / 2))


@given(st.integers(1, 9), st.data())
def test_parts_in_any_order_give_the_whole_back(packets: int, data: st.DataObject) -> None:
    whole = batch(packets)
    places = np.array(data.draw(st.permutations(range(packets))))
    cut = data.draw(st.integers(0, packets))
    again = merge([(part, take(whole, part)) for part in (places[:cut], places[cut:])])
    assert np.array_equal(again.values, whole.values)
    assert np.array_equal(again.inner.level, whole.inner.level)


def test_one_packet_has_no_axis_of_packets() -> None:
    one = take(batch(4), 2)
    assert one.values.tolist() == [6, 7, 8]
    assert one.inner.level.shape == () and one.inner.level == 1.0
    some = take(batch(4), np.array([False, True, False, True]))
    assert some.inner.level.tolist() == [0.5, 1.5]
