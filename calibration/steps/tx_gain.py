"""TX gain and amplitude: received SNR against both, as monotone curves, and where they can be used."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from calibration.bench import Bench, level_burst
from calibration.steps.step import BLUE, GREY, ORANGE, Each, Outcome, Peer, Step, transmit_ladder
from sdr.calibrated import GainCurve
from sdr.errors import SdrError

_PACKETS = 8
_LEVELS_DB = np.arange(-30.0, 6.1, 3.0)
_NEARLY_DB = 0.5
"""Of SNR below the best: more gain than for this gains nothing."""
_LEAST_SD_DB = 0.02
_LOUD_SHARE = 0.9


@dataclass(frozen=True)
class Point:
    """Packets at one setting."""

    gain_db: float
    sent: int
    snr_db: tuple[float, ...]
    """Of each packet that was received."""

    @property
    def heard(self) -> bool:
        """Nearly all of them were."""
        return len(self.snr_db) >= _LOUD_SHARE * self.sent

    @property
    def mean_db(self) -> float:
        """Over packets."""
        return float(np.mean(self.snr_db))

    @property
    def sd_db(self) -> float:
        """Of `mean_db`."""
        return max(float(np.std(self.snr_db, ddof=1) / np.sqrt(len(self.snr_db))), _LEAST_SD_DB)


def fit(points: Sequence[Point], highest: str) -> GainCurve:
    """Received SNR as a curve that never falls, least squares weighted by what each point is worth.

    (Isotonic regression, Barlow et al., Statistical Inference under Order Restrictions, 1972.) It ends at the best SNR:
    what comes after is compression or clipping. `highest` says what ends it if SNR rises to the last point. Raises
    SdrError if fewer than 3 points were heard.
    """
    heard = [point for point in points if point.heard]
    if len(heard) < 3:
        raise SdrError(
            f"packets were received at {len(heard)} of {len(points)} settings, and a curve needs 3: "
            "mind cable, attenuator and receiving gain"
        )
    means = np.array([point.mean_db for point in heard])
    rising = heard[: max(int(np.argmax(means)) + 1, 2)]
    fitted = isotonic_regression(means[: len(rising)], weights=[point.sd_db**-2 for point in rising]).x
    enough = int(np.flatnonzero(fitted >= fitted[-1] - _NEARLY_DB)[0])
    end = max(enough, 1)
    limit = highest
    if len(rising) < len(heard):
        lost_db = means[len(rising) - 1] - means[-1]
        limit = f"above it SNR falls, by {lost_db:.1f} dB: something clips"
    elif heard[-1].gain_db < points[-1].gain_db:
        limit = "above it packets are lost: something clips"
    elif end < len(rising) - 1:
        limit = "above it SNR no longer rises: noise grows with the signal"
    return GainCurve(
        gain_db=tuple(point.gain_db for point in rising),
        snr_db=tuple(fitted.tolist()),
        sd_db=tuple(point.sd_db for point in rising),
        usable_db=(rising[0].gain_db, rising[end].gain_db),
        limit=limit,
    )


def measure_levels(bench: Bench, levels_db: Sequence[float], packets: int) -> list[Point]:
    """Received SNR at amplitudes in dB, all in one burst."""
    burst = level_burst(bench.waveform, levels_db, packets, bench.rng)
    capture = bench.exchange(burst, receive_gains=bench.receive_gains, transmit_gains=bench.transmit_gains)
    return [Point(level, packets, tuple(capture.snr_db(index).tolist())) for index, level in enumerate(levels_db)]


def _run(bench: Bench, each: Each) -> Outcome:
    element, settings = transmit_ladder(bench)
    base = bench.transmit_gains
    levels = [level for level in _LEVELS_DB.tolist() if bench.allowed(base, level)]
    gained: list[Point] = []
    levelled: list[Point] = []
    for setting in each([*settings, None]):  # None: the amplitudes, all at once
        if setting is None:
            levelled = measure_levels(bench, levels, _PACKETS)
            continue
        burst = level_burst(bench.waveform, [0.0], _PACKETS, bench.rng)
        capture = bench.exchange(burst, receive_gains=bench.receive_gains, transmit_gains={**base, element: setting})
        gained.append(Point(setting, _PACKETS, tuple(capture.snr_db(0).tolist())))
    tx_gain = fit(gained, "the highest that radio and station allow")
    amplitude = fit(levelled, "the highest that is tried or that the station allows")
    fields = {"transmit_element": element, "tx_gain": tx_gain, "tx_amplitude": amplitude}
    low, high = tx_gain.usable_db
    summary = (
        f"{element} {low:g}…{high:g} dB gives {tx_gain.snr_at(low):.1f}…{tx_gain.snr_at(high):.1f} dB of SNR; "
        f"{tx_gain.limit}"
    )

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        _draw(left, tx_gain, gained, f"TX gain {element} (dB)")
        _draw(right, amplitude, levelled, "amplitude (dB; 0: as sent)")
        left.set(ylabel="received SNR (dB)", title="Gain")
        right.set(title="Amplitude")
        left.legend(loc="lower right")

    return Outcome(fields, summary, draw)


def _draw(axes: Axes, curve: GainCurve, points: Sequence[Point], label: str) -> None:
    some = [point for point in points if point.snr_db]
    axes.plot([one.gain_db for one in some], [one.mean_db for one in some], "o", color=ORANGE, label="measured")
    fitted, error = np.array(curve.snr_db), 2 * np.array(curve.sd_db)
    axes.plot(curve.gain_db, fitted, color=BLUE, label="monotone fit, ± 2 sd")
    axes.fill_between(curve.gain_db, fitted - error, fitted + error, color=BLUE, alpha=0.3, linewidth=0)
    axes.axvspan(*curve.usable_db, color=GREY, alpha=0.15, linewidth=0, label="usable")
    axes.set(xlabel=label)


STEP = Step(
    "tx-gain",
    "received SNR at each allowed TX gain, and at amplitudes of −30…+6 dB",
    Peer.NEEDED,
    _run,
)
