"""Noise floor: power that the receiver sees when nobody sends, against its gain."""

import numpy as np
from matplotlib.figure import Figure

from calibration.bench import Bench
from calibration.steps.step import BLUE, GREY, Each, Outcome, Peer, Step, db, receive_ladder
from sdr.calibrated import NoiseFloor
from sdr.errors import SdrError

_SECONDS = 0.05
_PARTS = 10
_SLOPE = (0.8, 1.2)
"""dB of noise per dB of gain, within which it is the receiver's own noise that is seen."""
_FULL_DBFS = -10.0
"""Noise this strong clips now and then."""


def _run(bench: Bench, each: Each) -> Outcome:
    gains, powers, errors = [], [], []
    for setting in each(receive_ladder(bench.receive_ranges(), bench.receive_gains)):
        samples = bench.listen(_SECONDS, setting)
        power = float(np.var(samples))
        if power == 0:
            continue  # one and the same value all the time: the noise does not reach the converter's first step
        parts = [db(float(np.var(part))) for part in np.array_split(samples, _PARTS)]
        gains.append(setting)
        powers.append(db(power))
        errors.append(float(np.std(parts, ddof=1) / np.sqrt(_PARTS)))
    totals = [sum(setting.values()) for setting in gains]
    if len(totals) < 2:
        raise SdrError("the receiver gives one and the same value at nearly all gains: is it listening at all?")
    usable = _usable(totals, powers)
    floor = NoiseFloor(tuple(totals), tuple(gains), tuple(powers), tuple(errors), usable)
    found = f"rises with gain from {usable[0]:g} to {usable[1]:g} dB" if usable else "never rises with gain alone"
    summary = f"{powers[0]:.1f} dBFS at {totals[0]:g} dB of gain, {powers[-1]:.1f} at {totals[-1]:g}; {found}"
    return Outcome({"noise_floor": floor}, summary, lambda figure: _draw(figure, floor))


def _usable(totals: list[float], powers: list[float]) -> tuple[float, ...]:
    """The longest stretch of gains in which noise rises by as many dB."""
    slopes = np.diff(powers) / np.diff(totals)
    good = (slopes > _SLOPE[0]) & (slopes < _SLOPE[1]) & (np.array(powers[1:]) < _FULL_DBFS)
    best: tuple[float, ...] = ()
    begin = 0
    for end in range(len(good) + 1):
        if end == len(good) or not good[end]:
            if end > begin and (not best or totals[end] - totals[begin] > best[1] - best[0]):
                best = (totals[begin], totals[end])
            begin = end + 1
    return best


def _draw(figure: Figure, floor: NoiseFloor) -> None:
    axes = figure.add_subplot()
    axes.errorbar(floor.gain_db, floor.power_dbfs, yerr=floor.sd_db, color=BLUE, marker="o", label="measured")
    if floor.usable_db:
        axes.axvspan(*floor.usable_db, color=GREY, alpha=0.15, linewidth=0, label="the receiver's own noise")
    axes.set(xlabel="receiving gain, all elements (dB)", ylabel="noise (dBFS)", title="Noise floor")
    axes.legend(loc="upper left")


STEP = Step("noise-floor", "power at each receiving gain while nobody sends", Peer.NONE, _run)
