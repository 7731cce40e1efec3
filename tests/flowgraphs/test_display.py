"""What displays are given: points where they belong, curves of the channel that there was."""

import numpy as np
import pytest

from flowgraphs import display
from flowgraphs.display import History, packet_numbers, response_db, thinned
from sdr.candidate import Candidate
from sdr.header import modulate
from sdr.ofdm import grid
from sdr.receive import Receiver
from sdr.waveform import DEFAULT
from tests.sdr.helpers import passage


def packets(**conditions: object) -> list[Candidate]:
    seen: list[Candidate] = []
    receiver = Receiver(DEFAULT, observer=seen.append)
    receiver.push(passage(3, count=4000, **conditions).samples)  # type: ignore[arg-type]
    receiver.flush()
    return [one for one in seen if one.packet is not None]


def test_header_symbols_lie_around_plus_and_minus_one_as_far_as_the_noise_says() -> None:
    candidate, _ = packets(snr_db=20.0, cfo_hz=30e3, sfo_ppm=20.0)
    numbers = packet_numbers(candidate, DEFAULT)
    header = numbers["header"]
    assert candidate.packet is not None
    points = modulate([candidate.packet.header], DEFAULT).reshape(-1)
    assert header.shape == (display.header_points(DEFAULT),) and header.dtype == np.complex64
    error = np.mean(np.abs(header - points) ** 2)
    assert 10 * np.log10(error) == pytest.approx(-20, abs=1)
    assert numbers["snr_db"] == pytest.approx(20, abs=0.7) and numbers["cfo_hz"] == pytest.approx(30e3, abs=100)


def test_the_response_is_that_of_the_channel_with_its_unused_middle_filled_in() -> None:
    rng = np.random.default_rng(1)
    response = (rng.standard_normal(176) + 1j * rng.standard_normal(176)).astype(np.complex64)
    curve = response_db(response)
    assert curve.shape == (display.band_points(DEFAULT),) == (2 * grid(DEFAULT).carriers.max() + 1,)
    assert np.allclose(np.delete(curve, 88), 20 * np.log10(np.abs(response)), atol=1e-4)
    assert curve[88] == pytest.approx((curve[87] + curve[89]) / 2, abs=1e-4)
    assert np.isfinite(response_db(np.zeros(176, np.complex64))).all()


def test_the_history_holds_the_last_known_value_and_forgets_what_is_too_old() -> None:
    history = History()
    assert (history.curve(0.0) == display._FLOOR_DB).all()
    for second in range(100):
        history.add(float(second), float(second))
    curve = history.curve(99.05)
    assert curve.shape == (200,) and curve[-1] == 99 and curve[0] == 79
    assert (np.diff(curve) >= 0).all() and set(np.diff(curve)) == {0, 1}
    assert len(history._values) <= display.HISTORY_S + 2
    assert (history.curve(1000.0) == 99).all()


def test_any_number_of_symbols_is_thinned_to_what_is_shown() -> None:
    symbols = np.arange(10, dtype=np.complex64)
    assert thinned(symbols, 5).tolist() == [0, 2, 4, 6, 8]
    assert thinned(symbols[:2], 5).tolist() == [0, 0, 0, 1, 1]


def test_the_line_below_a_picture_says_what_is_known() -> None:
    assert display.describe({"name": "a.png", "packets": 3, "air_s": 0.0076}) == "a.png · 3 packets, 7.6 ms on the air"
    received = {"name": "b.png", "snr_db": 9.96, "packets_received": 3, "packets_expected": 4, "seconds": 0.26}
    assert display.describe(received) == "b.png · SNR 10.0 dB · 3 of 4 packets · 0.3 s to decode"
