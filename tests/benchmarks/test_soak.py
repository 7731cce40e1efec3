"""The soak's account: every image in one place only, identities that start again, and findings that can fail."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.soak_rows.account import GROWTH_ASKED_MIB, Account, judge, trend
from benchmarks.soak_rows.processes import Watched
from sdr.header import IMAGE_ID_LIMIT


def line(number: int, **changes: Any) -> dict[str, Any]:
    """What the receiver says of image `number`."""
    entry = {"image_id": number % IMAGE_ID_LIMIT, "snr_db_estimated": 20.0, "cfo_hz_estimated": 1e4, "file": "a.png"}
    return {**entry, "packets_received": 4, **changes}


def filled(count: int = 61) -> Account:
    account = Account()
    for number in range(count):
        account.came(line(number), number + 0.3)  # the receiver may be the first to tell
        account.sent({"packets": 4}, number)
    return account


def memory(rise_mib: float) -> dict[str, list[tuple[float, float]]]:
    """A process that grows by that over the second half, with a start and an end that do not count."""
    trace = [(float(at), 100 + 500 * (at < 20) + rise_mib * max(0, at - 30) / 30) for at in range(61)]
    return {"receiver": [*trace, (61.0, 600.0)]}


def passed(findings: list[dict[str, Any]]) -> list[bool]:
    return [finding["passed"] for finding in findings]


def test_a_good_soak_passes() -> None:
    account = filled()
    account.close()
    assert account.settled() and passed(judge(account, memory(0.0))) == [True] * 5
    counts = account.summary()
    assert counts["sent"] == counts["received"] == counts["whole"] == 61 and counts["lost"] == {}


def test_every_image_is_in_one_place_only() -> None:
    account = filled(1)
    for number in range(1, 5):
        account.sent({"packets": 4}, number)
    account.came(line(1, packets_received=3, incomplete="1 packet lost"), 1.5)
    account.came(line(3, file=None, reason="the decoder is full"), 3.5)
    account.came(line(4), 4.5)
    assert not account.settled()
    account.close()
    counts = account.summary()
    assert (counts["whole"], counts["incomplete"], counts["decoded"]) == (2, 1, 3)
    assert counts["lost"] == {"never heard": 1, "the decoder is full": 1}
    assert counts["sent"] == counts["whole"] + counts["incomplete"] + sum(counts["lost"].values())
    assert not judge(account, {})[0]["passed"]  # nobody knows why image 2 was never heard


@pytest.mark.parametrize("number", [3, 100])
def test_what_comes_twice_or_was_never_sent_is_no_good_account(number: int) -> None:
    account = filled()
    account.came(line(number), 50.0)
    account.close()
    assert (account.duplicates, account.strangers) == ((1, 0) if number == 3 else (0, 1))
    assert not judge(account, memory(0.0))[0]["passed"]


def test_identities_start_again() -> None:
    account = Account(_last=IMAGE_ID_LIMIT - 2)
    numbers = [account.came(line(number), 0.0).number for number in range(IMAGE_ID_LIMIT - 1, IMAGE_ID_LIMIT + 3)]
    assert numbers == list(range(IMAGE_ID_LIMIT - 1, IMAGE_ID_LIMIT + 3))


def test_leaks_and_drifts_are_seen() -> None:
    good = filled()
    assert passed(judge(good, memory(GROWTH_ASKED_MIB * 1.1)))[1] is False
    for number, image in good.images.items():
        image.snr_db, image.cfo_hz = 20 - 0.02 * number, 1e4 + 5 * number
        image.came_s = number + 0.3 + 0.1 * max(0, number - 30)
    assert passed(judge(good, memory(0.0))) == [True, True, False, False, False]
    assert passed(judge(Account(), memory(0.0)))[0] is False


def test_the_interval_covers_the_rise_as_often_as_it_says() -> None:
    rng, times = np.random.default_rng(0), np.linspace(0, 10, 20)
    covered = 0
    for _ in range(400):
        found = trend(list(times), list(0.3 * times + rng.normal(size=20)))
        assert found is not None
        covered += found.low <= 3.0 <= found.high
    assert 0.92 <= covered / 400 <= 0.98
    assert trend([0.0, 1.0], [0.0, 1.0]) is None


def test_a_watched_command_is_heard_measured_and_ended(tmp_path: Path) -> None:
    with Watched("loopback", ["radios", "--json"], os.environ, tmp_path) as watched:
        deadline = time.monotonic() + 60
        while watched.resident_mib().get("loopback", 0.0) < 1:  # for a moment it has hardly begun
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert watched.wait() == 0
        ((at, report),) = watched.lines()
        assert at <= time.monotonic() and "radios" in report and watched.resident_mib() == {}
    with Watched("sender", ["send", "none.png", "--to", str(tmp_path / "a.txt")], os.environ, tmp_path) as failing:
        assert failing.wait() == 2 and failing.last_words().startswith("lrisc: ")
