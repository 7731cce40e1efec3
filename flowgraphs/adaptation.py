"""How a sender follows the reports of its receiver: which SNR to expect, and which rate to spend.

The SNR follows reports down fast and up slowly, to stay on the safe side. One report moves it by a bounded step, so a
wild one does little harm. Without reports, and with reports of pictures sent long ago, it goes back, but never up, to
what the user expects.

The rate is spent where it buys most. The user's CBR at the user's SNR says what a symbol may cost: the LPIPS that the
last symbols of an average picture gain there. Every picture gets symbols as long as they gain that much, at the SNR
that there is and with the information that the picture holds: mostly, a busy one takes more and a plain one less. That
is the least mean LPIPS for the symbols spent altogether (equal slopes, as in Sullivan and Wiegand 1998,
"Rate-distortion optimization for video compression").
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from flowgraphs.feedback import Report, Subscriber
from models.codec import SNR_RANGE_DB, Codec
from models.errors import ModelError
from models.pipeline import JsccCodec
from models.weights import Quality
from sdr.header import IMAGE_ID_LIMIT

DOWN, UP = 0.6, 0.3  # share of the way to a report that the estimate goes
STEP_DB = 6.0  # a report further away counts as one at this distance
FRESH_S = 10.0  # after the last report the estimate holds for so long
FADE_S = 10.0  # and then goes back with this time constant
FRESH_PICTURES, FADE_PICTURES = 3, 3.0  # the same of a report, in pictures sent since the one that it is of
_SMALLER = 4.0  # the smallest rate that is chosen is the smallest measured over this
_BELOW = 2 * math.log(_SMALLER)  # a picture with so many times the information there
_RATES = 129  # that are chosen from


@dataclass(frozen=True)
class Setting:
    """What to encode the next picture with."""

    snr_hint_db: float
    cbr: float


def effective_snr_db(report: Report) -> float:
    """SNR at which white noise alone would leave the same mean error as the reported SNR and losses do together.

    The linear MMSE of a unit-power Gaussian symbol is 1/(1+SNR), and 1 of one that never came.
    """
    came = report.packets_received / report.packets_expected
    error = came / (1 + 10 ** (report.snr_db / 10)) + 1 - came
    return 10 * math.log10(max(1 / error - 1, 1e-4))


def information(codec: Codec, image: UInt8[np.ndarray, "h w 3"]) -> float:
    """Of a picture, as `JsccCodec.information`; other codecs have no prior that would tell: 1."""
    return codec.information(image) if isinstance(codec, JsccCodec) else 1.0


class RateTable:
    """Mean LPIPS over SNR and CBR, between the measured points linear in dB and in log CBR.

    Made to fall with SNR and CBR. Below the smallest measured CBR it goes on as between the two smallest.

    Raises ModelError for entries that are no grid of at least 2×2.
    """

    def __init__(self, entries: Sequence[Quality]) -> None:
        self._snrs_db = np.array(sorted({e.snr_db for e in entries}), float)
        cbrs = sorted({e.cbr for e in entries})
        values = {(e.snr_db, e.cbr): e.lpips for e in entries}
        whole = len(values) == len(entries) == len(self._snrs_db) * len(cbrs)
        if not whole or len(self._snrs_db) < 2 or len(cbrs) < 2:
            raise ModelError("the model's table of quality is no grid of SNR and CBR: run scripts/rate_table.py again")
        measured = np.array([[values[snr, cbr] for cbr in cbrs] for snr in self._snrs_db], float)
        falling = np.minimum.accumulate(np.minimum.accumulate(measured, axis=0), axis=1)
        logs = np.log(cbrs)
        rise = (falling[:, :1] - falling[:, 1:2]) / (logs[1] - logs[0])
        self._log_cbrs = np.append(logs[0] - _BELOW, logs)
        self._lpips = np.hstack((falling[:, :1] + _BELOW * rise, falling))
        self._cbrs = np.geomspace(cbrs[0] / _SMALLER, cbrs[-1], _RATES)

    def price(self, snr_db: float, cbr: float) -> float:
        """LPIPS per CBR for which an average picture takes that CBR there, as nearly as the table allows."""
        lpips = self._at(snr_db, 1.0)
        index = min(max(int(np.abs(self._cbrs - cbr).argmin()), 1), _RATES - 2)
        fewer, more = (
            (lpips[part] - lpips[index]) / (self._cbrs[index] - self._cbrs[part])
            for part in (slice(index), slice(index + 1, None))
        )
        return math.sqrt(fewer.min() * more.max())  # either would just do

    def cbr(self, snr_db: float, information: float, price: float) -> float:
        """At which LPIPS and the price of the symbols together are least; the smaller where two are as good."""
        return float(self._cbrs[int((self._at(snr_db, information) + price * self._cbrs).argmin())])

    def _at(self, snr_db: float, information: float) -> Float64[np.ndarray, "rates"]:
        """At every rate, of a picture that holds so many times the average one's information: as with less rate."""
        place = float(np.interp(snr_db, self._snrs_db, np.arange(len(self._snrs_db))))
        low = min(int(place), len(self._snrs_db) - 2)
        mixed = self._lpips[low] + (place - low) * (self._lpips[low + 1] - self._lpips[low])
        return np.interp(np.log(self._cbrs / information), self._log_cbrs, mixed)


class LinkAdapter:
    """From reports to settings.

    Args:
        session: that reports must be of.
        default: what the user asks for; holds until the first report.
        quality: of the model, see `Card.quality`; empty: the rate stays.
        clock: seconds that only grow.

    Attributes:
        used, ignored: reports that moved the estimate, and that did not: old, repeated, of other sessions or senseless.
    """

    def __init__(
        self,
        session: int,
        default: Setting,
        quality: Sequence[Quality] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session, self._default, self._clock = session, default, clock
        self._table = RateTable(quality) if quality else None
        self._price = self._table.price(default.snr_hint_db, default.cbr) if self._table else 0.0
        self._estimate_db = default.snr_hint_db
        self._last: tuple[int, float] | None = None  # counter and time of the newest report
        self._sending = self._late = 0  # image id of the next picture, pictures by which reports are late
        self.used = self.ignored = 0

    def update(self, report: Report) -> None:
        """Take notice of a report, in whichever order they come."""
        now, fresh = self._clock(), self._age_s() <= FRESH_S
        old = self._last is not None and fresh and report.counter <= self._last[0]  # a new receiver counts anew
        if not report.valid or report.session != self._session or old:
            self.ignored += 1
            return
        before_db = self._aged_db()
        change_db = min(max(effective_snr_db(report) - before_db, -STEP_DB), STEP_DB)
        self._estimate_db = before_db + (DOWN if change_db < 0 else UP) * change_db
        self._last = report.counter, now
        self._late = (self._sending - report.image_id) % IMAGE_ID_LIMIT
        self.used += 1

    def snr_db(self) -> float:
        """Expected at the next picture."""
        aged_db = self._aged_db()
        overdue = max(0, self._late - FRESH_PICTURES) / FADE_PICTURES
        return self._towards_safe_db(aged_db, overdue)

    def setting(self, image_id: int, information: float = 1.0) -> Setting:
        """For the next picture, which gets that number; see the function `information`."""
        self._sending = image_id
        snr_db = self.snr_db()
        low, high = SNR_RANGE_DB
        cbr = self._default.cbr
        if self._table is not None and self._last is not None:
            cbr = self._table.cbr(snr_db, information, self._price)
        return Setting(min(max(snr_db, low), high), cbr)

    def _aged_db(self) -> float:
        return self._towards_safe_db(self._estimate_db, max(0.0, self._age_s() - FRESH_S) / FADE_S)

    def _towards_safe_db(self, snr_db: float, overdue: float) -> float:
        safe_db = min(snr_db, self._default.snr_hint_db)
        return safe_db + math.exp(-overdue) * (snr_db - safe_db)

    def _age_s(self) -> float:
        return self._clock() - self._last[1] if self._last is not None else 0.0


class Follower:
    """A sender's settings, picture by picture. Without a subscriber they stay what the user asked for.

    For one thread at a time; closes its subscriber.
    """

    def __init__(self, adapter: LinkAdapter, subscriber: Subscriber | None) -> None:
        self._adapter, self._subscriber = adapter, subscriber

    def setting(self, image_id: int, codec: Codec, image: UInt8[np.ndarray, "h w 3"]) -> Setting:
        """For the next picture, which gets that number, after what has been reported by now; never waits."""
        if self._subscriber is None:
            return self._adapter.setting(image_id)
        for report in self._subscriber.poll():
            self._adapter.update(report)
        return self._adapter.setting(image_id, information(codec, image))

    def report(self) -> dict[str, Any] | None:
        """What came of the feedback, for JSON; None without a subscriber."""
        if self._subscriber is None:
            return None
        adapter = self._adapter
        return {
            "reports": adapter.used,
            "ignored": adapter.ignored,
            "malformed": self._subscriber.malformed,
            "snr_hint_db": adapter.snr_db(),
        }

    def close(self) -> None:
        """Listen no more."""
        if self._subscriber is not None:
            self._subscriber.close()
