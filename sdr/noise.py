"""What adds to the signal at the receiver's antenna: thermal noise, a narrow-band jammer, bursts of interference."""

import numpy as np
import scipy.fft
from jaxtyping import Bool, Complex64


def complex_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Complex64[np.ndarray, "..."]:
    """Circular complex Gaussian values of unit variance."""
    parts = rng.standard_normal((*shape, 2), dtype=np.float32) * np.float32(0.5**0.5)
    return parts.view(np.complex64)[..., 0]


def jammer(
    count: int, power: float, centre: float, bandwidth: float, rng: np.random.Generator
) -> Complex64[np.ndarray, "count"]:
    """A stationary interferer around one frequency, of mean power `power`.

    `centre` and `bandwidth` are in cycles per sample. Bandwidth 0, or less than the record resolves, is a tone of
    random phase; otherwise Gaussian noise of a rectangular spectrum, made in the frequency domain.
    """
    lines = round(bandwidth * count)
    if lines < 2:
        turns = centre * np.arange(count) + rng.uniform()
        return np.asarray(np.sqrt(power) * np.exp(2j * np.pi * (turns % 1.0)), np.complex64)
    spectrum = np.zeros(count, np.complex64)
    bins = (round(centre * count) + np.arange(lines) - lines // 2) % count
    spectrum[bins] = complex_normal(rng, (lines,)) * np.float32((power * count / lines) ** 0.5)
    return np.asarray(scipy.fft.ifft(spectrum, norm="ortho", overwrite_x=True), np.complex64)


def burst_times(count: int, duty: float, length: float, rng: np.random.Generator) -> Bool[np.ndarray, "count"]:
    """When another transmitter is on: bursts of `length` samples, a share `duty` of the time.

    The gaps are exponential (a Poisson sender that never collides with itself) and the process is stationary: the
    record may begin within a burst.
    """
    if duty in (0.0, 1.0):
        return np.full(count, duty == 1.0, np.bool_)
    mean_gap = length * (1 - duty) / duty
    # A gap has no memory, so a record that begins in one is as if the gap had just begun.
    first = -length * rng.uniform() if rng.uniform() < duty else rng.exponential(mean_gap)
    enough = int(2 * count / (length + mean_gap)) + 20  # a Poisson count never comes near to this
    starts = first + np.concatenate([[0.0], np.cumsum(length + rng.exponential(mean_gap, enough))])
    edges = np.zeros(count + 1, np.int32)
    np.add.at(edges, np.clip(np.ceil(starts), 0, count).astype(np.int64), 1)
    np.add.at(edges, np.clip(np.ceil(starts + length), 0, count).astype(np.int64), -1)
    return np.asarray(np.cumsum(edges[:count]) > 0)


def bursts(
    count: int, power: float, duty: float, length: float, rng: np.random.Generator
) -> Complex64[np.ndarray, "count"]:
    """White interference of that power while it is on, zero between the bursts; see `burst_times`."""
    on = burst_times(count, duty, length, rng)
    result = np.zeros(count, np.complex64)
    result[on] = complex_normal(rng, (int(on.sum()),)) * np.float32(power**0.5)
    return result
