"""Frequency: the sender's carrier against the receiver's."""

import numpy as np
from matplotlib.figure import Figure

from calibration.bench import Bench, level_burst
from calibration.steps.step import BLUE, GREY, Each, Outcome, Peer, Step
from sdr.calibrated import FrequencyOffset
from sdr.errors import SdrError

_BURSTS, _PACKETS = 4, 16
_NEEDED = 8


def _run(bench: Bench, each: Each) -> Outcome:
    found: list[list[float]] = []
    for _ in each(range(_BURSTS)):
        burst = level_burst(bench.waveform, [0.0], _PACKETS, bench.rng)
        capture = bench.exchange(burst, receive_gains=bench.receive_gains, transmit_gains=bench.transmit_gains)
        found.append([packet.cfo_hz / bench.station.frequency_hz * 1e6 for packet in capture.packets])
    offsets = np.array([ppm for one in found for ppm in one])
    if offsets.size < _NEEDED:
        half_hz = bench.waveform.sample_rate_hz / (2 * bench.waveform.short_period)
        raise SdrError(
            f"{offsets.size} of {_BURSTS * _PACKETS} packets were received: raise the gains; or the carriers are more "
            f"than {half_hz / 1e3:g} kHz apart, then calibrate at a lower frequency_hz first"
        )
    # Packets of one burst share what drifts between bursts: the larger of both scatters counts.
    means = [float(np.mean(one)) for one in found if one]
    within = float(np.std(offsets, ddof=1) / np.sqrt(offsets.size))
    between = float(np.std(means, ddof=1) / np.sqrt(len(means))) if len(means) > 1 else 0.0
    offset = FrequencyOffset(float(np.mean(offsets)), max(within, between))
    apart_hz = offset.ppm * 1e-6 * bench.station.frequency_hz
    summary = f"the sender is {offset.ppm:+.4f} ± {offset.sd_ppm:.4f} ppm off, {apart_hz:+.0f} Hz"
    return Outcome({"frequency": offset}, summary, lambda figure: _draw(figure, offsets, offset))


def _draw(figure: Figure, offsets: np.ndarray, offset: FrequencyOffset) -> None:
    axes = figure.add_subplot()
    axes.plot(1e3 * (offsets - offset.ppm), "o", color=BLUE, label="packets")
    axes.axhspan(-1e3 * offset.sd_ppm, 1e3 * offset.sd_ppm, color=GREY, alpha=0.3, linewidth=0, label="± 1 sd of mean")
    axes.set(xlabel="packet", ylabel="offset − mean (10⁻³ ppm)", title=f"Carrier offset, mean {offset.ppm:+.4f} ppm")
    axes.legend(loc="upper right")


STEP = Step("frequency", f"{_BURSTS} bursts of {_PACKETS} packets, whose carrier offset is averaged", Peer.NEEDED, _run)
