"""Channel estimate, phase and timing tracking, and equalisation of one packet.

Known subcarriers are the two long symbols, the pilots and, once the header's CRC holds, the re-encoded header. The
impulse response is confined to the cyclic prefix, which averages noise over carriers (van de Beek et al., VTC 1995).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Complex64, Complex128, Float32, Float64, Int64

from sdr import ofdm
from sdr.waveform import Waveform

_RANK_TOLERANCE = 0.01
_ITERATIONS = 3
_NOISE_FLOOR = 1e-9
_ERASED_SNR = 1e-3
"""A carrier 30 dB under the noise carries nothing: dividing by it only makes large numbers."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """Channel state of a packet. Amplitudes are relative to the nominal transmit amplitude."""

    response: Complex128[np.ndarray, "used"]
    """Channel at the middle of the long training symbols."""
    leverage: Float64[np.ndarray, "used"]
    """Variance of the error of `response`, in units of the noise variance."""
    phase: Float64[np.ndarray, "symbols"]
    """Common phase of each OFDM symbol, in rad."""
    phase_var: Float64[np.ndarray, "symbols"]
    """Variance of the error of `phase`, in rad²."""
    drift: float
    """Sampling clock offset: samples of delay gained per sample."""
    noise: float
    """Noise variance on a subcarrier."""
    cfo: float
    """CFO left after the correction before the FFT, in cycles per sample."""

    @property
    def snr(self) -> float:
        """Es/N0 of the packet, linear, without the bias of the channel estimate's own noise."""
        signal = float(np.mean(np.abs(self.response) ** 2) - self.noise * np.mean(self.leverage))
        return max(signal, 0.0) / self.noise


@lru_cache(maxsize=16)
def delay_basis(waveform: Waveform) -> Complex128[np.ndarray, "used rank"]:
    """Orthonormal basis of the frequency responses of all impulse responses within the cyclic prefix."""
    delays = np.arange(waveform.cyclic_prefix)
    turns = np.outer(ofdm.grid(waveform).carriers, delays) / waveform.fft_size
    basis, values, _ = np.linalg.svd(np.exp(-2j * np.pi * turns), full_matrices=False)
    selected: Complex128[np.ndarray, "used rank"] = basis[:, values > _RANK_TOLERANCE * values[0]]
    return selected


@lru_cache(maxsize=64)
def _smoother(
    waveform: Waveform, payload_symbols: int
) -> tuple[Complex128[np.ndarray, "used used"], Float64[np.ndarray, "used"], int]:
    """Weighted least squares onto the delay basis from per-carrier means: matrix, leverage, rank."""
    counts = np.full(waveform.used_subcarriers, 2.0 + waveform.header_symbols)
    counts[ofdm.grid(waveform).pilot] += payload_symbols
    basis = delay_basis(waveform)
    inverse = np.linalg.inv((basis.conj().T * counts) @ basis)
    matrix = (basis @ inverse @ basis.conj().T) * counts
    leverage = np.einsum("ij,jk,ik->i", basis, inverse, basis.conj()).real
    return matrix, leverage, basis.shape[1]


def times(waveform: Waveform, symbols: int) -> Float64[np.ndarray, "symbols"]:
    """Samples from the middle of the two long symbols to each symbol: first the long ones, then the others."""
    size = waveform.fft_size
    others = 1.5 * size + waveform.cyclic_prefix + waveform.symbol_samples * np.arange(symbols - 2)
    return np.concatenate([[-0.5 * size, 0.5 * size], others])


def first_estimate(
    received: Complex64[np.ndarray, "symbols used"], waveform: Waveform
) -> tuple[Complex128[np.ndarray, "used"], float]:
    """Channel and noise variance from the two long training symbols alone."""
    training = received[:2] / ofdm.grid(waveform).long_values
    basis = delay_basis(waveform)
    mean = training.mean(axis=0).astype(np.complex128)
    response = basis @ (basis.conj().T @ mean)
    used, rank = basis.shape
    residual = np.sum(np.abs(training[0] - training[1]) ** 2) / 2 + 2 * np.sum(np.abs(mean - response) ** 2)
    return response, max(float(residual) / (2 * used - rank), _NOISE_FLOOR)


def header_llr(
    received: Complex64[np.ndarray, "symbols used"], waveform: Waveform
) -> Float64[np.ndarray, "header data"]:
    """LLRs of the header's BPSK points from the long symbols and the header's own pilots."""
    layout = ofdm.grid(waveform)
    response, noise = first_estimate(received, waveform)
    count = waveform.header_symbols
    rows = received[2 : 2 + count]
    pilots = np.sum(rows[:, layout.pilot] * (response[layout.pilot] * layout.pilot_values[:count]).conj(), axis=1)
    # Phase is a line through 0 at the long symbols: a search in one dimension stays safe far below 0 dB.
    moments = times(waveform, 2 + count)[2:]
    slopes = np.linspace(-1, 1, 65) * (0.6 / waveform.symbol_samples)
    scores = (np.exp(-1j * np.outer(slopes, moments)) @ pilots).real
    turn = np.exp(-1j * slopes[np.argmax(scores)] * moments)[:, None]
    points = rows[:, layout.data] * turn * response[layout.data].conj() * layout.header_scramble.conj()
    llr: Float64[np.ndarray, "header data"] = 4 * points.real / noise
    return llr


def estimate(
    received: Complex64[np.ndarray, "symbols used"],
    header_points: Complex64[np.ndarray, "header data"],
    waveform: Waveform,
) -> Estimate:
    """Estimate channel, phases, clock offset and noise from everything known in a packet.

    `received` holds the long, header and payload symbols; `header_points` the header's BPSK points as sent.
    Alternates between phases, clock offset and channel, each by least squares given the others.
    """
    layout = ofdm.grid(waveform)
    symbols = len(received)
    payload_symbols = symbols - 2 - waveform.header_symbols
    row, column, reference = _known(header_points, waveform, payload_symbols)
    observed = received[row, column] * reference.conj()  # unit-modulus references: now channel and phase only
    counts = np.bincount(column, minlength=waveform.used_subcarriers)
    matrix, leverage, rank = _smoother(waveform, payload_symbols)
    moment, frequency = times(waveform, symbols), 2 * np.pi * layout.carriers / waveform.fft_size
    slope_regressor = frequency[column] * moment[row]

    response, noise = first_estimate(received, waveform)
    drift, cfo = 0.0, 0.0
    phase = phase_var = np.zeros(symbols)
    freedom = 0.0
    for _ in range(_ITERATIONS):
        aligned = observed * response[column].conj() * np.exp(1j * drift * slope_regressor)
        sums = np.bincount(row, aligned.real, symbols) + 1j * np.bincount(row, aligned.imag, symbols)
        energy = np.bincount(row, np.abs(response[column]) ** 2, symbols)
        phase, phase_var, cfo, freedom = _track_phase(sums, noise / (2 * energy), moment, waveform)
        slope = _slope_step(aligned * np.exp(-1j * phase[row]), response[column], row, column, moment, frequency)
        drift -= slope
        turn = np.exp(1j * (drift * slope_regressor - phase[row]))
        settled = observed * turn
        mean = np.bincount(column, settled.real) + 1j * np.bincount(column, settled.imag)
        response = matrix @ (mean / counts)
        residual = float(np.sum(np.abs(settled - response[column]) ** 2))
        noise = max(residual / (len(row) - rank - freedom / 2), _NOISE_FLOOR)
    return Estimate(response, leverage, phase, phase_var, drift, noise, cfo)


def equalize(
    received: Complex64[np.ndarray, "symbols used"], state: Estimate, waveform: Waveform
) -> tuple[Complex64[np.ndarray, "slots"], Float32[np.ndarray, "slots"]]:
    """Payload symbols and their noise variances relative to unit symbol power; hopeless carriers are erased.

    Zero forcing leaves E[ŝ|s] = s. The variance holds the noise and the errors of channel and phase estimates.
    """
    layout = ofdm.grid(waveform)
    first = 2 + waveform.header_symbols
    payload_symbols = len(received) - first
    moment = times(waveform, len(received))[first:, None]
    frequency = 2 * np.pi * layout.carriers[layout.data] / waveform.fft_size
    turn = np.exp(1j * (state.drift * moment * frequency - state.phase[first:, None]))
    response = state.response[layout.data]
    gain = np.abs(response) ** 2
    good = gain > _ERASED_SNR * state.noise
    inverse = np.where(good, response.conj(), 0) / np.where(good, gain, 1)
    scramble = layout.payload_scramble[:payload_symbols].conj()
    symbols = received[first:, layout.data] * turn * inverse * scramble
    relative = np.where(good, state.noise * (1 + state.leverage[layout.data]) / np.where(good, gain, 1), np.inf)
    variance = relative + state.phase_var[first:, None]
    return symbols.reshape(-1).astype(np.complex64), variance.reshape(-1).astype(np.float32)


def _known(
    header_points: Complex64[np.ndarray, "header data"], waveform: Waveform, payload_symbols: int
) -> tuple[Int64[np.ndarray, "known"], Int64[np.ndarray, "known"], Complex64[np.ndarray, "known"]]:
    """Symbol index, carrier position and value of every known subcarrier."""
    layout = ofdm.grid(waveform)
    rows = waveform.header_symbols + payload_symbols
    values = np.zeros((2 + rows, waveform.used_subcarriers), np.complex64)
    values[:2] = layout.long_values
    values[2:, layout.pilot] = layout.pilot_values[:rows]
    values[2 : 2 + waveform.header_symbols, layout.data] = header_points * layout.header_scramble
    row, column = np.nonzero(values)
    return row, column, values[row, column]


def _track_phase(
    sums: Complex128[np.ndarray, "symbols"],
    variance: Float64[np.ndarray, "symbols"],
    moment: Float64[np.ndarray, "symbols"],
    waveform: Waveform,
) -> tuple[Float64[np.ndarray, "symbols"], Float64[np.ndarray, "symbols"], float, float]:
    """Common phases from per-symbol correlations: a line, plus a random walk as far as the data show one.

    Returns phases, their error variances, the CFO in cycles per sample, and the degrees of freedom spent.
    """
    span = waveform.symbol_samples
    slopes = np.linspace(-1, 1, 129) * (0.6 / span)
    scores = np.abs(np.exp(-1j * np.outer(slopes, moment)) @ sums)
    slope = float(slopes[np.argmax(scores)])
    offset = float(np.angle(np.sum(sums * np.exp(-1j * slope * moment))))
    left = np.angle(sums * np.exp(-1j * (slope * moment + offset)))
    design = np.stack([np.ones_like(moment), moment / span], axis=1)
    weighted = design / variance[:, None]
    covariance = np.linalg.inv(weighted.T @ design)
    line = covariance @ (weighted.T @ left)
    left = left - design @ line
    phase = slope * moment + offset + design @ line
    spread = np.einsum("ij,jk,ik->i", design, covariance, design)
    step = np.mean(np.diff(left) ** 2 - variance[1:] - variance[:-1])
    uncertainty = np.std(np.diff(left) ** 2) / np.sqrt(len(left))
    walk = float(step) if step > 2 * uncertainty else 0.0
    freedom = 2.0
    if walk > 0:
        lags = np.abs(moment[:, None] - moment[None]) / span
        prior = walk * (lags.max() - lags / 2)  # Brownian motion of unknown level
        smoother = prior @ np.linalg.inv(prior + np.diag(variance))
        phase = phase + smoother @ left
        spread = np.diag(prior - smoother @ prior)
        freedom += float(np.trace(smoother))
    cfo = (slope + float(line[1]) / span) / (2 * np.pi)
    return phase, spread, cfo, freedom


def _slope_step(
    aligned: Complex128[np.ndarray, "known"],
    response: Complex128[np.ndarray, "known"],
    row: Int64[np.ndarray, "known"],
    column: Int64[np.ndarray, "known"],
    moment: Float64[np.ndarray, "symbols"],
    frequency: Float64[np.ndarray, "used"],
) -> float:
    """Gauss-Newton step of the phase that grows with frequency and time, beside one that grows with frequency only."""
    weight = np.abs(response) ** 2
    angle = aligned.imag
    regressors = np.stack([frequency[column], frequency[column] * moment[row]])
    normal = (regressors * weight) @ regressors.T
    return float(np.linalg.solve(normal, regressors @ angle)[1])
