"""Clipping: the largest value that the receiver's converter gives, and the gain that stays clear of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from calibration.bench import Bench, level_burst
from calibration.steps.step import BLUE, GREY, ORANGE, Each, Outcome, Peer, Step, db, receive_ladder
from sdr.calibrated import Clip
from sdr.errors import SdrError

_PACKETS = 8
_SAFE_SHARE = 1e-4
_PILE_SHARE = 1e-3
"""Of all values in the burst, at the very largest: only a converter that is driven too far does that."""
_NEAR = 0.98
_FINE_DB = 2.0
"""Between the gains tried in the end, where the radio has such steps."""
_DRAWN_AS_NONE = 1e-7


@dataclass(frozen=True)
class _Point:
    gain_db: float
    level_dbfs: float
    """Mean power where the burst is."""
    magnitudes: np.ndarray
    """|I| and |Q| where the burst is."""

    def share(self, full_scale: float) -> float:
        """Of values that clip."""
        return float(np.mean(self.magnitudes >= _NEAR * full_scale))


def _run(bench: Bench, each: Each) -> Outcome:
    ranges, base = bench.receive_ranges(), bench.receive_gains
    points = [_measure(bench, gains) for gains in each(receive_ladder(ranges, base))]
    full_scale = max(float(point.magnitudes.max()) for point in points)
    if max(point.share(full_scale) for point in points) < _PILE_SHARE:
        raise SdrError(
            f"nothing clips, not even with {points[-1].gain_db:g} dB of receiving gain: raise the transmitting gain"
        )
    first = _first_clipped(points, full_scale)
    if first == 0:
        raise SdrError("the receiver clips at its lowest gain: switch off, put 20 dB more of attenuation before it")
    between_db = np.arange(points[first - 1].gain_db + _FINE_DB, points[first].gain_db, _FINE_DB).tolist()
    points += [_measure(bench, gains) for gains in each(receive_ladder(ranges, base, between_db))]
    points.sort(key=lambda point: point.gain_db)
    best = points[_first_clipped(points, full_scale) - 1]
    clip = Clip(full_scale, best.level_dbfs, best.gain_db)
    summary = (
        f"values end at ±{full_scale:.3f}; {best.gain_db:g} dB of receiving gain are safe, where the packets have "
        f"{best.level_dbfs:.1f} dBFS"
    )
    return Outcome({"clip": clip}, summary, lambda figure: _draw(figure, points, clip))


def _measure(bench: Bench, gains: dict[str, float]) -> _Point:
    burst = level_burst(bench.waveform, [0.0], _PACKETS, bench.rng)
    capture = bench.exchange(burst, receive_gains=gains, transmit_gains=bench.transmit_gains)
    loud = _loudest(capture.samples, burst.samples.size)
    return _Point(sum(gains.values()), db(float(np.mean(np.abs(loud) ** 2))), np.abs(loud.view(np.float32)))


def _first_clipped(points: Sequence[_Point], full_scale: float) -> int:
    """Index of the lowest gain that is not safe."""
    return next(index for index, point in enumerate(points) if point.share(full_scale) >= _SAFE_SHARE)


def _loudest(samples: np.ndarray, length: int) -> np.ndarray:
    """That many samples where they have most power: packets that clip are found by no receiver."""
    energy = np.concatenate([[0.0], np.cumsum(np.abs(samples.astype(np.complex128)) ** 2)])
    begin = int(np.argmax(energy[length:] - energy[:-length]))
    return samples[begin : begin + length]


def _draw(figure: Figure, points: Sequence[_Point], clip: Clip) -> None:
    gains_db = [point.gain_db for point in points]
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.plot(gains_db, [point.level_dbfs for point in points], "o-", color=BLUE)
    upper.set(ylabel="mean power (dBFS)", title=f"Packets at each receiving gain; values end at ±{clip.full_scale:.3f}")
    shares = [max(point.share(clip.full_scale), _DRAWN_AS_NONE) for point in points]
    lower.semilogy(gains_db, shares, "o-", color=ORANGE)
    lower.axhline(_SAFE_SHARE, color=GREY, linestyle="--", label=f"safe below; none is drawn at {_DRAWN_AS_NONE:g}")
    lower.set(ylabel="share clipped", xlabel="receiving gain, all elements (dB)", ylim=(_DRAWN_AS_NONE / 2, 2))
    lower.legend(loc="upper left")
    for axes in (upper, lower):
        axes.axvline(clip.safe_gain_db, color=GREY, linewidth=1)


STEP = Step("clip", "packets at each receiving gain, up to the highest; where values pile up", Peer.NEEDED, _run)
