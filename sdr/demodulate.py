"""From the samples of a packet to its payload symbols."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Complex64, Float32, Int64

from sdr import equalize, ofdm, oscillator, training
from sdr.sync import Found
from sdr.waveform import Waveform

_WANDERING = 0.05
"""Phase noise from one symbol to the next, relative to the noise, below which that within symbols costs under 0.05 dB:
a fifth of it turns into interference between carriers."""


@dataclass(frozen=True, eq=False)
class Heard:
    """A confirmed preamble with the subcarriers of its long and header symbols."""

    found: Found
    """With the timing that the channel asks for."""
    spectrum: Complex64[np.ndarray, "rows used"]
    training: training.Training


@dataclass(frozen=True, eq=False)
class Demodulated:
    """Payload of a packet and all that was found out about it."""

    symbols: Complex64[np.ndarray, "slots"]
    noise_var: Float32[np.ndarray, "slots"]
    """Relative to unit symbol power; infinite where a symbol is missing or its carrier hopeless."""
    state: equalize.Estimate
    spectrum: Complex64[np.ndarray, "rows used"]
    """Subcarriers of the long, header and payload symbols, without the CFO, as far as it was known before `state`."""
    cfo: float
    """In cycles per sample."""
    missing_symbols: int
    """Payload symbols that were left out."""


def windows(waveform: Waveform, rows: int) -> Int64[np.ndarray, "rows"]:
    """Where the FFT windows of a packet begin, after the first one: long symbols, then header and payload."""
    size = waveform.fft_size
    later = 2 * size + waveform.cyclic_prefix + waveform.symbol_samples * np.arange(rows - 2)
    return np.concatenate([[0, size], later])


def spectrum(
    samples: Complex64[np.ndarray, "n"], found: Found, rows: int, waveform: Waveform
) -> Complex64[np.ndarray, "rows used"]:
    """Subcarriers of the long symbols and the rows - 2 symbols after them, CFO removed."""
    return ofdm.to_carriers(_steered(samples, found, rows, 0, waveform), waveform)


def listen(samples: Complex64[np.ndarray, "n"], found: Found, waveform: Waveform) -> Heard:
    """What is needed to decode the header; its symbols lie within `samples`."""
    rows = 2 + waveform.header_symbols
    received = spectrum(samples, found, rows, waveform)
    start = training.train(received, waveform)
    if late := training.late(received, start, waveform):
        found = replace(found, long_start=found.long_start - late)
        received = spectrum(samples, found, rows, waveform)
        start = training.train(received, waveform)
    return Heard(found, received, start)


def demodulate(
    samples: Complex64[np.ndarray, "n"],
    heard: Heard,
    header_points: Complex64[np.ndarray, "header data"],
    missing: Bool[np.ndarray, "rows"],
    waveform: Waveform,
) -> Demodulated:
    """Demodulate a packet whose header is known; `missing` tells which symbols to leave out, and how many there are.

    All windows lie within `samples`.
    """
    found, rows = heard.found, len(missing)
    received = spectrum(samples, found, rows, waveform)
    state = equalize.estimate(received, header_points, heard.training, waveform, missing)
    if state.track.step_var and state.track.step_var * state.snr > _WANDERING:
        found = replace(found, cfo=found.cfo + state.cfo)  # phase noise misled the preamble
        blocks = _steered(samples, found, rows, waveform.cyclic_prefix, waveform)
        received = ofdm.to_carriers(oscillator.steady(blocks, state, waveform), waveform)
        known = training.Training(state.response, state.noise_var)
        state = equalize.estimate(received, header_points, known, waveform, missing)
    symbols, noise_var = equalize.equalize(received, state, waveform)
    out = missing[2 + waveform.header_symbols :]
    if out.any():
        lost = np.repeat(out, waveform.data_carriers)
        symbols[lost], noise_var[lost] = 0, np.inf
    return Demodulated(symbols, noise_var, state, received, found.cfo + state.cfo, int(out.sum()))


def _steered(
    samples: Complex64[np.ndarray, "n"], found: Found, rows: int, before: int, waveform: Waveform
) -> Complex64[np.ndarray, "rows window"]:
    """Windows of a packet, each with as many samples before it, CFO removed."""
    size = waveform.fft_size
    window = windows(waveform, rows)[:, None] + np.arange(-before, size)
    # exp(jω(a + b)) = exp(jωa) exp(jωb): an outer product instead of an exponential per sample
    turns = np.exp(-2j * np.pi * found.cfo * (window[:, 0] - size))[:, None]
    turns = turns * np.exp(-2j * np.pi * found.cfo * np.arange(size + before))
    return np.asarray(samples[found.long_start + window] * turns.astype(np.complex64))
