"""OFDM symbols: which carrier holds what, training sequences, and the transforms both ways.

All transforms are unitary, so that a subcarrier symbol of energy Es and sample noise of variance N0 meet at
Es/N0 on the subcarrier.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float64, Int64

from sdr import sequences
from sdr.waveform import Waveform

_CANDIDATES = 256


@dataclass(frozen=True, eq=False)
class Grid:
    """Fixed contents of a waveform's packet. Carriers are sorted -edge…edge without 0; `used` is their count."""

    carriers: Int64[np.ndarray, "used"]
    data: Int64[np.ndarray, "data"]
    """Positions of the data carriers within `carriers`."""
    pilot: Int64[np.ndarray, "pilots"]
    """Positions of the pilot carriers within `carriers`."""
    pilot_values: Complex64[np.ndarray, "symbols pilots"]
    """Pilots of header and payload symbols, for a full packet."""
    header_scramble: Complex64[np.ndarray, "header data"]
    payload_scramble: Complex64[np.ndarray, "payload data"]
    long_values: Complex64[np.ndarray, "used"]
    """Long training symbol on its carriers, unit modulus."""
    long_time: Complex64[np.ndarray, "fft"]
    """Long training symbol without prefix, at transmit amplitude."""
    preamble: Complex64[np.ndarray, "preamble"]
    """Short sequence, double prefix, two long training symbols, at transmit amplitude."""


@lru_cache(maxsize=16)
def grid(waveform: Waveform) -> Grid:
    """Return the carrier layout and the known sequences of a waveform."""
    edge = waveform.edge_carrier
    carriers = np.concatenate([np.arange(-edge, 0), np.arange(1, edge + 1)])
    side = waveform.pilots // 2
    right = 1 + ((np.arange(side) + 0.5) * edge / side).astype(np.int64)
    is_pilot = np.isin(carriers, np.concatenate([-right, right]))

    long_values = _flattest("long", carriers, waveform.fft_size)
    long_time = to_time(long_values[None], carriers, waveform)[0]

    step = waveform.fft_size // waveform.short_period
    lines = carriers[carriers % step == 0]
    short_values = _flattest("short", lines, waveform.fft_size)
    boost = np.float32((len(carriers) / len(lines)) ** 0.5)  # same power on fewer carriers
    period = to_time(boost * short_values[None], lines, waveform)[0, : waveform.short_period]

    prefix = long_time[-2 * waveform.cyclic_prefix :]
    preamble = np.concatenate([np.tile(period, waveform.short_repeats), prefix, long_time, long_time])
    data_count = waveform.data_carriers
    return Grid(
        carriers=carriers,
        data=np.flatnonzero(~is_pilot),
        pilot=np.flatnonzero(is_pilot),
        pilot_values=sequences.bpsk("pilots", waveform.header_symbols + waveform.payload_symbols, waveform.pilots),
        header_scramble=sequences.bpsk("hscrambl", waveform.header_symbols, data_count),
        payload_scramble=sequences.qpsk("pscrambl", waveform.payload_symbols, data_count),
        long_values=long_values,
        long_time=long_time,
        preamble=preamble.astype(np.complex64),
    )


def to_time(
    values: Complex64[np.ndarray, "symbols carriers"], carriers: Int64[np.ndarray, "carriers"], waveform: Waveform
) -> Complex64[np.ndarray, "symbols fft"]:
    """Unit-power subcarrier symbols to time samples at transmit amplitude, without prefix."""
    bins = np.zeros((len(values), waveform.fft_size), np.complex64)
    bins[:, carriers % waveform.fft_size] = np.float32(waveform.amplitude) * values
    return np.asarray(scipy.fft.ifft(bins, axis=1, norm="ortho"), np.complex64)


def to_carriers(
    samples: Complex64[np.ndarray, "*symbols fft"],
    waveform: Waveform,
    turns: Complex64[np.ndarray, "*symbols"] | None = None,
) -> Complex64[np.ndarray, "*symbols used"]:
    """Time samples without prefix to subcarrier symbols, relative to the transmit amplitude, each turned as a whole."""
    bins, edge = scipy.fft.fft(samples, axis=-1, norm="ortho"), waveform.edge_carrier
    scale = np.float32(1 / waveform.amplitude)
    factor = scale if turns is None else scale * turns[..., None]
    values = np.empty((*samples.shape[:-1], waveform.used_subcarriers), np.complex64)
    np.multiply(bins[..., -edge:], factor, out=values[..., :edge])
    np.multiply(bins[..., 1 : edge + 1], factor, out=values[..., edge:])
    return values


def phasors(cfo: Float64[np.ndarray, "packets"], times: Int64[np.ndarray, "n"]) -> Complex64[np.ndarray, "packets n"]:
    """What removes carrier frequency offsets, in cycles per sample, at those times, in samples."""
    return np.asarray(np.exp(-2j * np.pi * cfo[:, None] * times), np.complex64)


def add_prefix(symbols: Complex64[np.ndarray, "symbols fft"], waveform: Waveform) -> Complex64[np.ndarray, "samples"]:
    """Prepend the cyclic prefix to each symbol and string them together."""
    return np.asarray(
        np.concatenate([symbols[:, -waveform.cyclic_prefix :], symbols], axis=1).reshape(-1), np.complex64
    )


def times(waveform: Waveform, symbols: int) -> Float64[np.ndarray, "symbols"]:
    """Samples from the middle of the two long symbols to each symbol: first the long ones, then the others."""
    size = waveform.fft_size
    others = 1.5 * size + waveform.cyclic_prefix + waveform.symbol_samples * np.arange(symbols - 2)
    return np.concatenate([[-0.5 * size, 0.5 * size], others])


def _flattest(label: str, carriers: Int64[np.ndarray, "n"], fft_size: int) -> Complex64[np.ndarray, "n"]:
    """The QPSK sequence of lowest peak power on these carriers among a fixed set of candidates."""
    values = sequences.qpsk(label, _CANDIDATES, len(carriers))
    bins = np.zeros((_CANDIDATES, 4 * fft_size), np.complex64)
    bins[:, carriers % (4 * fft_size)] = values
    peaks = np.abs(scipy.fft.ifft(bins, axis=1)).max(axis=1)
    return np.asarray(values[np.argmin(peaks)], np.complex64)
