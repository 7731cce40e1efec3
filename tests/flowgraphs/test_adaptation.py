"""What a sender makes of reports: it stays calm, and on the safe side."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgraphs.adaptation import (
    DOWN,
    FADE_S,
    FRESH_S,
    STEP_DB,
    LinkAdapter,
    RateTable,
    Setting,
    effective_snr_db,
    information,
)
from flowgraphs.feedback import Report
from models.errors import ModelError
from models.weights import Quality
from tests.models.small import picture, small_codec

DEFAULT = Setting(10.0, 1 / 8)
SNRS, CBRS = (0.0, 10.0, 20.0), (1 / 48, 1 / 24, 1 / 12, 1 / 6)
SLOPES = dict(zip(SNRS, (0.04, 0.06, 0.09), strict=True))  # LPIPS per e-fold of the rate: more where it is good
TABLE = tuple(Quality(s, c, 0.5 - s / 100 - SLOPES[s] * math.log(48 * c)) for s in SNRS for c in CBRS)
any_snr = st.floats(allow_nan=True, allow_infinity=True)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def report(counter: int, snr_db: float, session: int = 7, **other: int) -> Report:
    return replace(Report(session, 0, snr_db, 10, 10, counter), **other)


def adapter(clock: Clock | None = None, table: tuple[Quality, ...] = TABLE) -> LinkAdapter:
    return LinkAdapter(7, DEFAULT, table, clock or Clock())


def test_what_the_user_asked_for_holds_until_the_first_report() -> None:
    assert adapter().setting(0) == DEFAULT


@pytest.mark.parametrize("snr_db", [-3.0, 4.0, 10.0, 17.0])
def test_a_constant_link_is_found(snr_db: float) -> None:
    link = adapter()
    for counter in range(1, 21):
        link.update(report(counter, snr_db))
    assert link.setting(0).snr_hint_db == pytest.approx(snr_db, abs=0.1)


@given(wild=any_snr, before=st.floats(0, 20))
def test_one_wild_report_moves_it_by_a_bounded_step(wild: float, before: float) -> None:
    link = adapter()
    for counter in range(1, 30):
        link.update(report(counter, before))
    held = link.snr_db()
    link.update(report(30, wild))
    assert -STEP_DB * DOWN - 1e-9 <= link.snr_db() - held <= STEP_DB * 0.5


@given(snrs=st.lists(any_snr, max_size=40), held=st.floats(0.25, 4))
def test_settings_can_always_be_encoded(snrs: list[float], held: float) -> None:
    link = adapter()
    for counter, snr_db in enumerate(snrs, 1):
        link.update(report(counter, snr_db))
        setting = link.setting(0, held)
        assert -10 <= setting.snr_hint_db <= 40 and CBRS[0] / 4 * 0.999 <= setting.cbr <= CBRS[-1] * 1.001


def test_down_fast_and_up_slowly() -> None:
    worse, better = adapter(), adapter()
    worse.update(report(1, 6.0))
    better.update(report(1, 14.0))
    assert 10 - worse.snr_db() > 1.5 * (better.snr_db() - 10) > 0


def test_noisy_reports_average_out_below_the_truth_and_vary_less_than_they_do() -> None:
    link, rng, estimates = adapter(), np.random.default_rng(0), []
    for counter in range(1, 400):
        link.update(report(counter, 12.0 + 3.0 * rng.standard_normal()))
        estimates.append(link.snr_db())
    assert 9.5 < np.mean(estimates[20:]) < 12.0 and np.std(estimates[20:]) < 2.0


@pytest.mark.parametrize(("snr_db", "finally_db"), [(20.0, 10.0), (0.0, 0.0)])
def test_old_news_are_forgotten_towards_the_safe_side(snr_db: float, finally_db: float) -> None:
    clock = Clock()
    link = adapter(clock)
    for counter in range(1, 40):
        link.update(report(counter, snr_db))
    clock.now = FRESH_S
    assert link.snr_db() == pytest.approx(snr_db, abs=0.1)
    expected = []
    for step in range(20):
        clock.now = FRESH_S + step * FADE_S
        expected.append((link.snr_db(), link.setting(0).cbr))
    assert (np.diff(expected, axis=0) <= 1e-9).all()  # this table's rate falls with the SNR
    assert expected[-1][0] == pytest.approx(finally_db, abs=0.1)
    assert expected[-1][1] == pytest.approx(DEFAULT.cbr * SLOPES[finally_db] / SLOPES[10.0], rel=0.06)


def test_reports_of_pictures_sent_long_ago_change_nothing() -> None:
    link = adapter()
    hints = []
    for late in (1, 3, 6, 10, 30):
        for counter in range(1, 40):
            link.setting(100)
            link.update(report(1000 * late + counter, 20.0, image_id=100 - late))
        hints.append(link.setting(100).snr_hint_db)
    assert hints[:2] == pytest.approx([20.0, 20.0], abs=0.1) and hints[-1] == pytest.approx(10.0, abs=0.1)
    assert (np.diff(hints[1:]) < 0).all() and link.setting(100).cbr == pytest.approx(DEFAULT.cbr, rel=0.04)


def test_foreign_repeated_and_late_reports_change_nothing() -> None:
    clock = Clock()
    link = adapter(clock)
    link.update(report(5, 12.0))
    held = link.snr_db()
    for other in (report(6, 0.0, session=8), report(5, 0.0), report(4, 0.0), report(6, float("nan"))):
        link.update(other)
    link.update(report(6, 0.0, packets_received=0))
    assert link.snr_db() == held and (link.used, link.ignored) == (1, 5)
    clock.now = 2 * FRESH_S
    link.update(report(1, 0.0))  # of a receiver that was started again
    assert link.used == 2


def test_without_a_table_the_rate_stays() -> None:
    link = adapter(table=())
    for counter in range(1, 20):
        link.update(report(counter, 20.0))
    assert link.setting(0).cbr == DEFAULT.cbr and link.setting(0).snr_hint_db == pytest.approx(20.0, abs=0.1)


def test_losses_count_as_noise() -> None:
    assert effective_snr_db(report(1, 10.0)) == pytest.approx(10.0)
    half = report(1, 40.0, packets_received=5)
    assert effective_snr_db(half) == pytest.approx(0.0, abs=0.01)  # half the power is error, however good the rest is


def test_the_price_is_what_the_last_symbols_gain() -> None:
    """Of a + b·ln(c) the derivative is b/c, and its integral is least where b/c is the price."""
    table = RateTable(TABLE)
    assert table.price(10.0, 1 / 12) == pytest.approx(12 * SLOPES[10.0], rel=0.03)
    for snr_db, slope in SLOPES.items():
        assert table.cbr(snr_db, 1.0, 1.0) == pytest.approx(slope, rel=0.03)


@given(cbr=st.floats(1 / 192, 1 / 6), snr_db=st.floats(-10, 30))
def test_at_its_own_operating_point_an_average_picture_gets_what_was_asked_for(cbr: float, snr_db: float) -> None:
    table = RateTable(TABLE)
    assert table.cbr(snr_db, 1.0, table.price(snr_db, cbr)) == pytest.approx(cbr, rel=0.06)


@given(held=st.lists(st.floats(0.5, 2), min_size=2, max_size=6), price=st.floats(0.1, 10))
def test_no_other_way_to_spend_the_same_symbols_is_better(held: list[float], price: float) -> None:
    """Pictures and SNRs with the rates chosen for a price, against taking from one what another gets."""
    curved = [Quality(s, c, 0.6 * math.exp(-20 * c) - s / 100) for s in SNRS for c in CBRS]
    table, snrs = RateTable(curved), np.linspace(0, 20, len(held))

    def lpips(snr_db: float, share: float, cbr: float) -> float:
        return float(np.interp(cbr, table._cbrs, table._at(snr_db, share)))

    chosen = [table.cbr(snr, share, price) for snr, share in zip(snrs, held, strict=True)]
    total = sum(lpips(*way) for way in zip(snrs, held, chosen, strict=True))
    for giver in range(len(held)):
        for taker in range(len(held)):
            other = list(chosen)
            change = min(0.2 * other[giver], CBRS[-1] - other[taker])
            other[giver] -= change
            other[taker] += change
            assert sum(lpips(*way) for way in zip(snrs, held, other, strict=True)) >= total - 1e-9


@given(values=st.lists(st.floats(0, 1), min_size=12, max_size=12), held=st.floats(0.25, 4), price=st.floats(0, 100))
def test_whatever_was_measured_gives_a_rate(values: list[float], held: float, price: float) -> None:
    cells = [(s, c) for s in SNRS for c in CBRS]
    table = RateTable([Quality(s, c, v) for (s, c), v in zip(cells, values, strict=True)])
    assert 0 <= table.price(10.0, 1 / 12) < math.inf
    assert CBRS[0] / 4 * 0.999 <= table.cbr(7.0, held, price) <= CBRS[-1] * 1.001


def test_a_busy_picture_gets_more_than_a_plain_one() -> None:
    curved = (Quality(s, c, 0.6 * math.exp(-20 * c)) for s in SNRS for c in np.geomspace(CBRS[0], CBRS[-1], 20))
    link = adapter(table=tuple(curved))
    link.update(report(1, 10.0))
    plain, average, busy = (link.setting(0, held).cbr for held in (0.7, 1.0, 1.4))
    assert plain < average < busy and average == pytest.approx(DEFAULT.cbr, rel=0.04)


def test_a_codec_with_a_prior_tells_how_much_a_picture_holds() -> None:
    codec, grey = small_codec(), np.full((64, 64, 3), 128, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert information(codec, noise) == 1.0  # of a card that does not know the average
    codec.card = replace(codec.card, bits=codec.bits(picture(64, 64)))
    assert information(codec, picture(64, 64)) == pytest.approx(1.0)
    assert 0.25 <= information(codec, grey) < 1.0 < information(codec, noise) <= 4.0
    assert information(small_codec(adaptive=False), noise) == 1.0  # it has no prior


@pytest.mark.parametrize("entries", [TABLE[:-1], TABLE[:4], (*TABLE, TABLE[0])])
def test_a_table_with_holes_is_refused(entries: tuple[Quality, ...]) -> None:
    with pytest.raises(ModelError, match="rate_table"):
        RateTable(entries)
