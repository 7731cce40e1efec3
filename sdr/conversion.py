"""Conversion of a stream to the waveform's sample rate by a rational factor, in bounded memory.

Filtering, interpolation and decimation are one multiplication and one truncation between two Fourier transforms of
overlapping blocks (Borgerding, IEEE Signal Process. Mag. 23, 2006). The filter passes the occupied band and half of the
room beside it, where a carrier frequency offset may put the signal.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import scipy.fft
import scipy.signal
from jaxtyping import Bool, Complex64, Float32

from sdr.errors import SdrError
from sdr.waveform import Waveform

_TOLERANCE = 1e-6
"""Largest relative error of the rational factor: 1 ppm of clock offset, which the receiver follows."""
_LEAST_ROOM = 1.05
"""Lowest sample rate in units of the occupied bandwidth: what the filter needs for its flanks."""
_LARGEST_FACTOR = 64
"""Highest sample rate in units of the waveform's."""
_STOPBAND_DB = 80.0
_BLOCK_SAMPLES = 1 << 17


@dataclass(frozen=True, eq=False)
class Conversion:
    """`down` samples become `up`."""

    up: int
    down: int
    taps: Float32[np.ndarray, "taps"]
    """Low-pass filter at the old rate: odd in number, symmetric."""


def plan_conversion(rate_hz: float, waveform: Waveform) -> Conversion:
    """Choose a factor from `rate_hz` to the waveform's rate that is right within 1 ppm, and its filter.

    Raises SdrError for a rate below 1.05 × the width of the waveform's band, or above 64 × its rate.
    """
    target_hz = waveform.sample_rate_hz
    occupied_hz = (2 * waveform.edge_carrier + 1) * target_hz / waveform.fft_size
    lowest_hz, highest_hz = _LEAST_ROOM * occupied_hz, _LARGEST_FACTOR * target_hz
    if not lowest_hz <= rate_hz <= highest_hz:
        raise SdrError(
            f"a sample rate of {rate_hz:g} Hz does not fit waveform '{waveform.name}', which needs "
            f"{lowest_hz / 1e6:.3g}…{highest_hz / 1e6:.3g} Msps: record again, or choose another waveform"
        )
    ratio, largest = target_hz / rate_hz, 1
    while abs((factor := Fraction(ratio).limit_denominator(largest)) / ratio - 1) > _TOLERANCE:
        largest *= 2
    slower_hz = min(rate_hz, target_hz)
    flank_hz = (slower_hz - occupied_hz) / 4  # from the middle of the room to the new band's edge
    taps, beta = scipy.signal.kaiserord(_STOPBAND_DB, 2 * flank_hz / rate_hz)
    filtered = scipy.signal.firwin(taps | 1, slower_hz / 2 - flank_hz / 2, window=("kaiser", beta), fs=rate_hz)
    return Conversion(factor.numerator, factor.denominator, np.asarray(filtered, np.float32))


def convert(
    chunks: Iterable[Complex64[np.ndarray, "_"]], conversion: Conversion
) -> Iterator[Complex64[np.ndarray, "_"]]:
    """Yield the stream at the new rate; its first sample stays the first.

    A sample that is missing, NaN, is so for all that the filter would have mixed it into.
    """
    up, down = conversion.up, conversion.down
    if up == down:
        yield from chunks
        return
    margin = math.ceil(conversion.taps.size / 2 / down)  # all lengths in units of `down` old samples, `up` new ones
    block = max(_BLOCK_SAMPLES // down, 4 * margin) + 1
    size = block + 2 * margin
    response = _zero_phase(conversion, size * down)
    buffer = np.zeros(margin * down, np.complex64)
    taken = given = 0
    for chunk in chunks:
        taken += chunk.size
        buffer = np.concatenate([buffer, chunk])
        while buffer.size >= size * down:
            yield _block(buffer[: size * down], conversion, response)[margin * up : (margin + block) * up]
            given += block * up
            buffer = buffer[block * down :]
    total = -(-taken * up // down)
    while given < total:
        padded = np.concatenate([buffer, np.zeros(size * down, np.complex64)])
        last = _block(padded[: size * down], conversion, response)[margin * up : (margin + block) * up]
        yield last[: total - given]
        given += block * up
        buffer = padded[block * down :]


def _zero_phase(conversion: Conversion, size: int) -> Float32[np.ndarray, "size"]:
    """Frequency response of the filter, its delay taken out."""
    taps = np.zeros(size)
    half = conversion.taps.size // 2
    taps[: half + 1], taps[size - half :] = conversion.taps[half:], conversion.taps[:half]
    return np.asarray(scipy.fft.fft(taps).real, np.float32)


def _block(
    samples: Complex64[np.ndarray, "old"], conversion: Conversion, response: Float32[np.ndarray, "old"]
) -> Complex64[np.ndarray, "new"]:
    """One block as if it were periodic."""
    missing = np.isnan(samples)
    any_missing = bool(missing.any())
    if any_missing:
        samples = np.where(missing, np.complex64(0), samples)
    bins = scipy.fft.fft(samples) * response
    new = np.zeros(samples.size // conversion.down * conversion.up, np.complex64)
    half = (min(new.size, bins.size) - 1) // 2
    new[: half + 1], new[new.size - half :] = bins[: half + 1], bins[bins.size - half :]
    result = scipy.fft.ifft(new, overwrite_x=True) * np.float32(conversion.up / conversion.down)
    if any_missing:
        result[_spread(missing, conversion, result.size)] = np.nan
    return np.asarray(result, np.complex64)


def _spread(missing: Bool[np.ndarray, "old"], conversion: Conversion, count: int) -> Bool[np.ndarray, "new"]:
    """Which new samples lie within the filter's reach of a missing old one."""
    reach = conversion.taps.size // 2 + 1
    before = np.concatenate([[0], np.cumsum(missing)])
    centre = np.arange(count) * conversion.down // conversion.up
    last, first = np.minimum(centre + reach + 1, missing.size), np.maximum(centre - reach, 0)
    return np.asarray(before[last] > before[first])
