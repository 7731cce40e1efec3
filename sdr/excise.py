"""Cutting steady narrow-band interference out of the received samples.

A strong tone is as periodic as the short sequence and hides packets from the detector; it also leaks through the
rectangular window of the OFDM transform into every carrier. Cut out under a smooth window it costs only the carriers
next to it.
"""

import numpy as np
import scipy.fft
import scipy.signal
from jaxtyping import Complex64

_SEGMENT = 4096
"""1 kHz resolution at 4 Msps: a pure tone costs one carrier."""
_BANDS = 8
_LINE_RATIO = 10.0
"""Level of a line above the median level of the bins around it."""
_STEADY_SHARE = 0.1
"""Least median of a line's level over time, as a share of its mean: of noise it is 0.69, of a tone 1."""
_LEAST_SEGMENTS = 6
MARGIN_SAMPLES = _SEGMENT // 2
"""Samples that come back spoilt at either end of a multiple of them, because only one of two windows lies there."""


def excise_lines(samples: Complex64[np.ndarray, "n"]) -> Complex64[np.ndarray, "n"]:
    """Return samples without their steady narrow-band lines, or as they are if they have none.

    A line is a bin whose median level over time is 10 dB above the median of its neighbourhood: packets and other
    bursts come and go, and interference wider than 6 % of the sample rate fills its neighbourhood; both stay.
    Analysis under a Hann window that overlaps by half, so that the shifted windows add up to 1 (Harris, Proc. IEEE 66,
    1978); the lines' share of it is transformed back and subtracted.
    """
    hop = _SEGMENT // 2
    halves = np.pad(samples, (0, -samples.size % hop)).reshape(-1, hop)
    if len(halves) <= _LEAST_SEGMENTS:
        return samples
    window = scipy.signal.get_window("hann", _SEGMENT).astype(np.float32)
    spectrum = scipy.fft.fft(np.concatenate([halves[:-1], halves[1:]], axis=1) * window, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    level = np.sort(power, axis=0)[len(spectrum) // 2]  # half the time of np.median
    floor = np.median(level.reshape(_BANDS, -1), axis=1)
    # The highest of three: next to the edge of a signal's band its own level counts, not the noise outside.
    floor = np.maximum(floor, np.maximum(np.roll(floor, 1), np.roll(floor, -1)))
    steady = level > _STEADY_SHARE * power.mean(axis=0)  # else any trace in otherwise empty samples were a line
    lines = np.flatnonzero(steady & (level > _LINE_RATIO * np.repeat(floor, _SEGMENT // _BANDS)))
    if not lines.size:
        return samples
    kept = np.zeros_like(spectrum)
    kept[:, lines] = spectrum[:, lines]
    parts = scipy.fft.ifft(kept, axis=1, overwrite_x=True)
    cut = np.zeros_like(halves)
    cut[:-1] = parts[:, :hop]
    cut[1:] += parts[:, hop:]
    return np.asarray(samples - cut.reshape(-1)[: samples.size], np.complex64)
