"""From the samples of packets to their payload symbols, many packets at once."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Complex64, Float32, Float64, Int64
from numpy.lib.stride_tricks import sliding_window_view

from sdr import ofdm, oscillator, training
from sdr.batch import merge, take
from sdr.equalize import equalize
from sdr.estimate import Estimate, estimate
from sdr.sync import Found
from sdr.waveform import Waveform

_WANDERING = 0.05
"""Phase noise from one symbol to the next, relative to the noise, below which that within symbols costs under 0.05 dB:
a fifth of it turns into interference between carriers."""


@dataclass(frozen=True, eq=False)
class Heard:
    """Confirmed preambles with the subcarriers of their long and header symbols."""

    found: Found
    """With the timing that the channel asks for."""
    spectrum: Complex64[np.ndarray, "packets rows used"]
    training: training.Training


@dataclass(frozen=True, eq=False)
class Demodulated:
    """Payload of packets of equal length and all that was found out about them."""

    symbols: Complex64[np.ndarray, "packets slots"]
    noise_var: Float32[np.ndarray, "packets slots"]
    """Relative to unit symbol power; infinite where a symbol is missing or its carrier hopeless."""
    state: Estimate
    spectrum: Complex64[np.ndarray, "packets rows used"]
    """Subcarriers of the long, header and payload symbols, without the CFO, as far as it was known before `state`."""
    cfo: Float64[np.ndarray, "packets"]
    """In cycles per sample."""
    missing_symbols: Int64[np.ndarray, "packets"]
    """Payload symbols that were left out."""


def windows(waveform: Waveform, rows: int) -> Int64[np.ndarray, "rows"]:
    """Where the FFT windows of a packet begin, after the first one: long symbols, then header and payload."""
    size = waveform.fft_size
    later = 2 * size + waveform.cyclic_prefix + waveform.symbol_samples * np.arange(rows - 2)
    return np.concatenate([[0, size], later])


def spectrum(
    samples: Complex64[np.ndarray, "n"], found: Found, rows: int, waveform: Waveform
) -> Complex64[np.ndarray, "packets rows used"]:
    """Subcarriers of the long symbols and the rows - 2 symbols after them, CFO removed."""
    blocks, turns = _steered(samples, found, rows, 0, waveform)
    return ofdm.to_carriers(blocks, waveform, turns)


def listen(samples: Complex64[np.ndarray, "n"], found: Found, waveform: Waveform) -> Heard:
    """What is needed to decode the headers; their symbols lie within `samples`."""
    rows = 2 + waveform.header_symbols
    received = spectrum(samples, found, rows, waveform)
    start = training.train(received, waveform)
    late = training.late(received, start, waveform)
    if late.any():
        found = replace(found, long_start=found.long_start - late)
        received = spectrum(samples, found, rows, waveform)
        start = training.train(received, waveform)
    return Heard(found, received, start)


def demodulate(
    samples: Complex64[np.ndarray, "n"],
    heard: Heard,
    header_points: Complex64[np.ndarray, "packets header data"],
    missing: Bool[np.ndarray, "packets rows"],
    waveform: Waveform,
) -> Demodulated:
    """Demodulate packets of equal length whose headers are known; `missing` tells which symbols to leave out.

    All windows lie within `samples`.
    """
    found, rows = heard.found, missing.shape[1]
    received = spectrum(samples, found, rows, waveform)
    state = estimate(received, header_points, heard.training, missing, waveform)
    wandering = np.flatnonzero((state.track.step_var > 0) & (state.track.step_var * state.snr > _WANDERING))
    if wandering.size:
        found.cfo[wandering] += state.cfo[wandering]  # phase noise misled the preamble
        rough = take(state, wandering)
        blocks, turns = _steered(samples, take(found, wandering), rows, waveform.cyclic_prefix, waveform)
        steady = [oscillator.steady(block, take(rough, index), waveform) for index, block in enumerate(blocks)]
        received[wandering] = ofdm.to_carriers(np.stack(steady), waveform, turns)
        known = training.Training(rough.response, rough.noise_var)
        again = estimate(received[wandering], header_points[wandering], known, missing[wandering], waveform)
        calm = np.setdiff1d(np.arange(len(received)), wandering)
        state = merge([(calm, take(state, calm)), (wandering, again)])
    symbols, noise_var = equalize(received, state, waveform)
    out = missing[:, 2 + waveform.header_symbols :]
    lost = np.repeat(out, waveform.data_carriers, axis=1)
    symbols[lost], noise_var[lost] = 0, np.inf
    return Demodulated(symbols, noise_var, state, received, found.cfo + state.cfo, out.sum(axis=1))


def _steered(
    samples: Complex64[np.ndarray, "n"], found: Found, rows: int, before: int, waveform: Waveform
) -> tuple[Complex64[np.ndarray, "packets rows window"], Complex64[np.ndarray, "packets rows"]]:
    """Windows of packets, each with as many samples before it, CFO removed; by what to turn each as a whole."""
    size, begin = waveform.fft_size, windows(waveform, rows) - before
    blocks = sliding_window_view(samples, size + before)[found.long_start[:, None] + begin]
    blocks *= ofdm.phasors(found.cfo, np.arange(size + before))[:, None]
    return blocks, ofdm.phasors(found.cfo, begin - size)
