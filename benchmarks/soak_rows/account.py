"""The account of a soak: what was sent, what became of it, and what was asked of memory and drift."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from sdr.header import IMAGE_ID_LIMIT

SETTLED = 0.5
"""Share of the time after which caches are full, so that nothing may grow any more."""
GROWTH_ASKED_MIB = 8.0
SNR_DRIFT_DB, CFO_DRIFT_HZ, LATENCY_DRIFT_S = 0.3, 100.0, 0.5
_CONFIDENCE = 0.95


@dataclass
class Image:
    """One picture from its sending to its end; times in seconds since the start."""

    number: int
    packets: int | None = None
    sent_s: float | None = None
    """When the sender said that its last sample had been sent, padding included."""
    came_s: float | None = None
    """When its picture was in a file, or it was said that there is none."""
    snr_db: float | None = None
    cfo_hz: float | None = None
    psnr_db: float | None = None
    packets_received: int = 0
    lost: str | None = None
    """Why there is no picture."""
    incomplete: str | None = None
    """Why there is a picture with something missing."""

    @property
    def latency_s(self) -> float | None:
        """From its last sample to its picture in a file; the two are told by two processes."""
        return None if self.came_s is None or self.sent_s is None else self.came_s - self.sent_s


@dataclass
class Account:
    """All images by number. Sender and receiver may tell of one in either order."""

    images: dict[int, Image] = field(default_factory=dict)
    duplicates: int = 0
    strangers: int = 0
    """That came and were never sent."""
    _sent: int = 0
    _last: int = 0

    def sent(self, entry: dict[str, Any], at_s: float) -> None:
        """A line of the sender."""
        image = self._image(self._sent)
        image.packets, image.sent_s = entry["packets"], at_s
        self._sent += 1

    def came(self, entry: dict[str, Any], at_s: float) -> Image:
        """A line of the receiver."""
        half = IMAGE_ID_LIMIT // 2  # identities start again from 0, and images come nearly in order
        number = self._last + (entry["image_id"] - self._last + half) % IMAGE_ID_LIMIT - half
        image = self._image(number)
        if image.came_s is not None:
            self.duplicates += 1
            return image
        self._last = number
        image.came_s, image.snr_db, image.cfo_hz = at_s, entry["snr_db_estimated"], entry["cfo_hz_estimated"]
        image.packets_received, image.incomplete = entry["packets_received"], entry.get("incomplete")
        if entry["file"] is None:
            image.lost = entry["reason"]
        return image

    def settled(self) -> bool:
        """Every image that was sent has come."""
        return all(image.came_s is not None for image in self.images.values())

    def _image(self, number: int) -> Image:
        return self.images.setdefault(number, Image(number))

    def close(self) -> None:
        """No more will come."""
        self.strangers = sum(image.sent_s is None for image in self.images.values())
        self.images = {number: image for number, image in self.images.items() if image.sent_s is not None}
        for image in self.images.values():
            if image.came_s is None:
                image.lost = "never heard"

    def summary(self) -> dict[str, Any]:
        """Counts: every image is in exactly one of `whole`, `incomplete` and `lost`."""
        images = list(self.images.values())
        pictures = [image for image in images if image.lost is None]
        return {
            "sent": len(images),
            "received": sum(image.came_s is not None for image in images),
            "decoded": len(pictures),
            "whole": sum(image.packets_received == image.packets for image in pictures),
            "incomplete": sum(image.packets_received != image.packets for image in pictures),
            "incomplete_reasons": dict(Counter(image.incomplete for image in pictures if image.incomplete)),
            "lost": dict(Counter(image.lost for image in images if image.lost is not None)),
            "duplicates": self.duplicates,
            "strangers": self.strangers,
        }

    def rows(self) -> list[dict[str, Any]]:
        """Every image, for JSON."""
        return [
            {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(image).items()}
            for image in self.images.values()
        ]


@dataclass(frozen=True)
class Trend:
    """Rise of the straight line through a trace from its first to its last moment, with 95 % confidence."""

    mean: float
    rise: float
    low: float
    high: float


def trend(times: Sequence[float], values: Sequence[float]) -> Trend | None:
    """Least squares; None of fewer than three. The interval takes the scatter as independent, and is narrower than
    the truth where it is not.
    """
    if len(times) < 3:
        return None
    fit, duration = stats.linregress(times, values), max(times) - min(times)
    half = float(stats.t.ppf(0.5 + _CONFIDENCE / 2, len(times) - 2) * fit.stderr) * duration
    rise = float(fit.slope) * duration
    return Trend(float(np.mean(values)), rise, rise - half, rise + half)


def judge(account: Account, memory: dict[str, list[tuple[float, float]]]) -> list[dict[str, Any]]:
    """What is asked of the soak, beside what was measured; `memory` is (seconds, MiB) by process."""
    counts = account.summary()
    lost = sum(counts["lost"].values())
    said = ", ".join(f"{count} × {reason}" for reason, count in counts["lost"].items()) or "none"
    silent = counts["lost"].get("never heard", 0) + account.duplicates + account.strangers
    measured = f"{counts['sent']} sent = {counts['whole']} whole + {counts['incomplete']} incomplete + {lost} lost"
    rows = [
        _row(
            "every image accounted for",
            "each a picture, or a reason why not; none twice, none from nowhere",
            f"{measured} ({said}); {account.duplicates} twice, {account.strangers} from nowhere",
            counts["sent"] > 0 and silent == 0,
        )
    ]
    end_s = max((image.sent_s for image in account.images.values() if image.sent_s is not None), default=0.0)
    for name, whole in memory.items():
        trace = [(at, value) for at, value in whole if at <= end_s]  # then the sender tidies up
        if not trace:
            continue
        later = [(at, value) for at, value in trace if at >= trace[0][0] + SETTLED * (trace[-1][0] - trace[0][0])]
        rows.append(_drift(f"memory of the {name}, second half", later, GROWTH_ASKED_MIB, "MiB", grows=True))
    images = account.images.values()
    snr = [(image.sent_s, image.snr_db) for image in images if image.sent_s is not None and image.snr_db is not None]
    cfo = [(image.sent_s, image.cfo_hz) for image in images if image.sent_s is not None and image.cfo_hz is not None]
    rows.append(_drift("SNR estimate", snr, SNR_DRIFT_DB, "dB"))
    rows.append(_drift("carrier offset", cfo, CFO_DRIFT_HZ, "Hz"))
    delays = [(image.sent_s, image.latency_s) for image in images if image.sent_s is not None and image.latency_s]
    later = delays[int(SETTLED * len(delays)) :]
    rows.append(_drift("last sample to picture in a file, second half", later, LATENCY_DRIFT_S, "s", grows=True))
    return rows


def _drift(
    title: str, trace: Sequence[tuple[float, float]], most: float, unit: str, *, grows: bool = False
) -> dict[str, Any]:
    found = trend([at for at, _ in trace], [value for _, value in trace])
    asked = f"rises by {most:g} {unit} at most" if grows else f"within ±{most:g} {unit}"
    if found is None:
        return _row(title, asked, f"{len(trace)} values are too few", False)
    measured = f"{found.rise:+.3g} {unit} ({found.low:+.3g}…{found.high:+.3g}) on {found.mean:.5g}"
    return _row(title, asked, measured, found.rise <= most if grows else abs(found.rise) <= most) | asdict(found)


def _row(title: str, asked: str, measured: str, passed: bool) -> dict[str, Any]:
    return {"title": title, "asked": asked, "measured": measured, "passed": bool(passed)}
