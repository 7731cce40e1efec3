"""Common phase and sampling clock offset of a packet, from everything known in it."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Complex64, Complex128, Float32, Float64, Int64

from sdr import ofdm
from sdr.training import SLOPE_LIMIT, Fit, weighted_fit
from sdr.waveform import Waveform

_SCORE = 4.0
"""Score of a wandering phase, in standard deviations; without one it is reached by 1 packet of 100."""
_STEP_VARS = 10 ** np.arange(-6.0, 0.0, 0.1)
"""From one symbol to the next, in rad²."""


@dataclass(frozen=True, eq=False)
class Known:
    """Where the known subcarriers of a packet lie, and what of the estimation depends on that alone."""

    row: Int64[np.ndarray, "known"]
    first: Int64[np.ndarray, "symbols"]
    """Where each symbol's entries begin."""
    column: Int64[np.ndarray, "known"]
    reference: Complex64[np.ndarray, "symbols used"]
    """Known values; the header's data carriers are filled in per packet."""
    pilot: Int64[np.ndarray, "symbols pilots"]
    """Entries on the pilot carriers, which are known in every symbol."""
    dense: int
    """How many symbols, the first ones, are known on every carrier: the long ones and the header."""
    frequency: Float32[np.ndarray, "known"]
    """Angular frequency of the carrier, in rad per sample."""
    product: Float32[np.ndarray, "known"]
    """`frequency` times the moment of the symbol: phase per unit of clock drift."""
    counts: Float64[np.ndarray, "used"]
    fit: Fit
    """For means over all entries of a carrier, in white noise of variance 1."""
    moment: Float64[np.ndarray, "symbols"]
    modes: Float64[np.ndarray, "symbols modes"]
    """Orthonormal shapes of a Wiener process beside its line, sampled at each symbol, in which it is uncorrelated."""
    mode_var: Float64[np.ndarray, "modes"]
    """Their variances for steps of variance 1 between symbols."""
    slopes: Float64[np.ndarray, "slopes"]
    """Phase slopes to search, in rad per sample."""
    search: Complex128[np.ndarray, "slopes symbols"]


@lru_cache(maxsize=64)
def known_carriers(waveform: Waveform, symbols: int) -> Known:
    """For a packet of that many long, header and payload symbols."""
    layout = ofdm.grid(waveform)
    rows = symbols - 2
    values = np.zeros((symbols, waveform.used_subcarriers), np.complex64)
    values[:2] = layout.long_values
    values[2 : 2 + waveform.header_symbols] = 1
    values[2:, layout.pilot] = layout.pilot_values[:rows]
    row, column = np.nonzero(values)
    moment = ofdm.times(waveform, symbols)
    frequency = 2 * np.pi * layout.carriers[column] / waveform.fft_size
    counts = np.bincount(column).astype(np.float64)
    slopes = np.linspace(-SLOPE_LIMIT, SLOPE_LIMIT, 129) / waveform.symbol_samples
    beside = np.linalg.qr(np.stack([np.ones_like(moment), moment], axis=1), mode="complete")[0][:, 2:]
    distance = np.abs(moment[:, None] - moment) / np.mean(np.diff(moment))
    mode_var, shapes = np.linalg.eigh(beside.T @ (-distance / 2) @ beside)
    return Known(
        row=row,
        first=np.searchsorted(row, np.arange(symbols)),
        column=column,
        reference=values,
        dense=2 + waveform.header_symbols,
        pilot=np.flatnonzero(np.isin(column, layout.pilot)).reshape(symbols, -1),
        frequency=frequency.astype(np.float32),
        product=(frequency * moment[row]).astype(np.float32),
        counts=counts,
        fit=weighted_fit(waveform, counts),
        moment=moment,
        modes=beside @ shapes,
        mode_var=mode_var,
        slopes=slopes,
        search=np.exp(-1j * np.outer(slopes, moment)),
    )


@dataclass(frozen=True, eq=False)
class Track:
    """Common phases of the OFDM symbols: a line, plus a random walk as far as the data show one."""

    phase: Float64[np.ndarray, "symbols"]
    variance: Float64[np.ndarray, "symbols"]
    """Of the error of `phase`."""
    line: tuple[float, float]
    """Phase at the middle of the long symbols, in rad, and its slope, in rad per sample."""
    freedom: float
    """Real degrees of freedom that the phases took from the data."""
    left: Float64[np.ndarray, "symbols"]
    """Phases as measured, beside the line."""
    left_var: Float64[np.ndarray, "symbols"]
    """Variance of the error of `left`."""
    step_var: float = 0.0
    """Of the random walk, in rad² from one symbol to the next; 0 if there is none to see."""


def track_phase(
    sums: Complex64[np.ndarray, "symbols"],
    weight: Float64[np.ndarray, "symbols"],
    line: tuple[float, float] | None,
    known: Known,
) -> Track:
    """Track from per-symbol correlations, whose phases have the inverse variances `weight`."""
    moment = known.moment
    if line is None:
        scores = known.search @ sums
        best = int(np.argmax(np.abs(scores)))
        line = float(np.angle(scores[best])), float(known.slopes[best])
    left = np.angle(sums * np.exp(-1j * (line[0] + line[1] * moment)))
    design = np.stack([np.ones_like(moment), moment])
    covariance = np.linalg.inv((design * weight) @ design.T)
    fit = covariance @ (design @ (weight * left))
    left = left - fit @ design
    line = line[0] + float(fit[0]), line[1] + float(fit[1])
    phase = line[0] + line[1] * moment
    variance = np.sum(covariance @ design * design, axis=0)
    left_var = 1 / weight
    step_var = _wander(left, left_var, known)
    if not step_var:
        return Track(phase, variance, line, 2.0, left, left_var)
    distance = np.abs(moment[:, None] - moment) / np.mean(np.diff(moment))
    prior = step_var * (distance.max() - distance / 2)  # of a Wiener process at unknown level
    smoother = prior @ np.linalg.inv(prior + np.diag(left_var))
    phase, variance = phase + smoother @ left, np.diag(prior - smoother @ prior)
    return Track(phase, variance, line, 2.0 + float(np.trace(smoother)), left, left_var, step_var)


def _wander(left: Float64[np.ndarray, "symbols"], left_var: Float64[np.ndarray, "symbols"], known: Known) -> float:
    """Variance of the steps of a Wiener process in phases beside their line, the most likely one; 0 if there is none.

    In the modes of such a process, which the noise of all symbols is nearly independent in.
    """
    seen, noise = (known.modes.T @ left) ** 2, (known.modes**2).T @ left_var
    weight = known.mode_var / noise
    score = float(weight @ (seen / noise - 1)) / float(np.sqrt(2 * weight @ weight))
    if score < _SCORE:
        return 0.0
    expected = _STEP_VARS[:, None] * known.mode_var + noise
    likelihood = -np.sum(np.log(expected) + seen / expected, axis=1)
    best = int(np.argmax(likelihood))
    return float(_STEP_VARS[best])


def phasor(angle: Float32[np.ndarray, "..."]) -> Complex64[np.ndarray, "..."]:
    """exp(j angle): NumPy vectorises real sines, not complex exponentials."""
    turn = np.empty(angle.shape, np.complex64)
    np.cos(angle, out=turn.real)
    np.sin(angle, out=turn.imag)
    return turn
