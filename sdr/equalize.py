"""Payload symbols out of subcarriers, once the channel is known."""

import numpy as np
from jaxtyping import Complex64, Float32

from sdr import ofdm
from sdr.estimate import Estimate
from sdr.track import phasor
from sdr.waveform import Waveform

_ERASED_SNR = 1e-2
"""A carrier 20 dB under the noise carries next to nothing: dividing by it only makes large numbers."""


def equalize(
    received: Complex64[np.ndarray, "packets symbols used"], state: Estimate, waveform: Waveform
) -> tuple[Complex64[np.ndarray, "packets slots"], Float32[np.ndarray, "packets slots"]]:
    """Payload symbols and their noise variances relative to unit symbol power; hopeless carriers are erased.

    Zero forcing leaves E[ŝ|s] = s. The variance holds the noise and the errors of channel and phase estimates.
    """
    layout = ofdm.grid(waveform)
    packets, first = len(received), 2 + waveform.header_symbols
    payload_symbols = received.shape[1] - first
    moment = ofdm.times(waveform, received.shape[1])[first:, None]
    frequency = 2 * np.pi * layout.carriers[layout.data] / waveform.fft_size
    delay = (state.drift[:, None, None] * moment).astype(np.float32)
    turn = phasor(delay * frequency.astype(np.float32) - state.phase[:, first:, None].astype(np.float32))
    response = state.response[:, None, layout.data]
    gain = response.real**2 + response.imag**2
    burst = state.burst[:, first:, None]
    noise_var = state.noise_var[:, None, layout.data] * (burst if np.any(burst != 1) else 1.0)
    good = gain > _ERASED_SNR * noise_var
    inverse = np.where(good, response.conj(), 0) / np.where(good, gain, 1)
    scramble = layout.payload_scramble[:payload_symbols].conj()
    symbols = np.take(received[:, first:], layout.data, axis=2)
    for factor in (turn, inverse.astype(np.complex64), scramble):
        symbols *= factor
    relative = np.where(good, (noise_var + state.response_var[:, None, layout.data]) / np.where(good, gain, 1), np.inf)
    variance = relative.astype(np.float32) + state.phase_var[:, first:, None].astype(np.float32)
    return symbols.reshape(packets, -1), variance.reshape(packets, -1)
