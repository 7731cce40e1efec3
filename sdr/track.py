"""Common phases of packets, from everything known in them."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Complex64, Complex128, Float32, Float64, Inexact, Int64

from sdr import ofdm
from sdr.training import SLOPE_LIMIT, Fit, weighted_fit
from sdr.waveform import Waveform

_SCORE = 4.0
"""Score of a wandering phase, in standard deviations; without one it is reached by 1 packet of 100."""
_STEP_VARS = 10 ** np.arange(-6.0, 0.0, 0.1)
"""From one symbol to the next, in rad²."""


@dataclass(frozen=True, eq=False)
class Known:
    """Where the known subcarriers of a packet lie, and what of the estimation depends on that alone.

    Entries run symbol by symbol: the first symbols, the long ones and the header, are known on every carrier, the
    payload's on the pilots.
    """

    dense: int
    """How many symbols are known on every carrier."""
    pilot: Int64[np.ndarray, "pilots"]
    """Carriers known in every symbol."""
    pilot_entry: Int64[np.ndarray, "symbols pilots"]
    header_entry: Int64[np.ndarray, "header"]
    """Entries that the header's data lie in."""
    row: Int64[np.ndarray, "known"]
    column: Int64[np.ndarray, "known"]
    first: Int64[np.ndarray, "symbols"]
    """Where each symbol's entries begin."""
    pattern: Float64[np.ndarray, "symbols used"]
    """1 where there is an entry, 0 elsewhere."""
    reference: Complex64[np.ndarray, "known"]
    """Known values; the header's are filled in per packet."""
    frequency: Float64[np.ndarray, "used"]
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
    search: Complex128[np.ndarray, "symbols slopes"]

    def entries(self, values: Complex64[np.ndarray, "packets symbols used"]) -> Complex64[np.ndarray, "packets known"]:
        """What is at the known subcarriers."""
        parts = values[:, : self.dense], np.take(values[:, self.dense :], self.pilot, axis=2)
        return np.concatenate([part.reshape(len(values), -1) for part in parts], axis=1)

    def at_carriers(self, values: Inexact[np.ndarray, "packets used"]) -> Inexact[np.ndarray, "packets known"]:
        """Each entry's share of what differs between carriers."""
        return np.take(values, self.column, axis=1)

    def at_symbols(self, values: Inexact[np.ndarray, "packets symbols"]) -> Inexact[np.ndarray, "packets known"]:
        """Each entry's share of what differs between symbols."""
        return np.take(values, self.row, axis=1)

    def by_symbol(self, values: Inexact[np.ndarray, "packets known"]) -> Inexact[np.ndarray, "packets symbols"]:
        """Sums over the entries of each symbol."""
        return np.add.reduceat(values, self.first, axis=1)

    def by_carrier(self, values: Inexact[np.ndarray, "packets known"]) -> Inexact[np.ndarray, "packets used"]:
        """Sums over the entries of each carrier."""
        edge, packets = self.dense * self.counts.size, len(values)
        sums = values[:, :edge].reshape(packets, self.dense, -1).sum(axis=1)
        sums[:, self.pilot] += values[:, edge:].reshape(packets, -1, self.pilot.size).sum(axis=1)
        return np.asarray(sums)

    def totals(self, values: Float64[np.ndarray, "packets used"]) -> Float64[np.ndarray, "packets symbols"]:
        """Sums for each symbol of what its carriers have in every symbol."""
        sums = np.repeat(values[:, self.pilot].sum(axis=1, keepdims=True), self.moment.size, axis=1)
        sums[:, : self.dense] = values.sum(axis=1, keepdims=True)
        return sums


@lru_cache(maxsize=64)
def known_carriers(waveform: Waveform, symbols: int) -> Known:
    """For a packet of that many long, header and payload symbols."""
    layout = ofdm.grid(waveform)
    rows, dense = symbols - 2, 2 + waveform.header_symbols
    values = np.zeros((symbols, waveform.used_subcarriers), np.complex64)
    values[:2] = layout.long_values
    values[2:dense] = 1
    values[2:, layout.pilot] = layout.pilot_values[:rows]
    row, column = np.nonzero(values)
    is_pilot = np.isin(column, layout.pilot)
    moment = ofdm.times(waveform, symbols)
    frequency = 2 * np.pi * layout.carriers / waveform.fft_size
    counts = np.count_nonzero(values, axis=0).astype(np.float64)
    slopes = np.linspace(-SLOPE_LIMIT, SLOPE_LIMIT, 129) / waveform.symbol_samples
    beside = np.linalg.qr(np.stack([np.ones_like(moment), moment], axis=1), mode="complete")[0][:, 2:]
    distance = np.abs(moment[:, None] - moment) / np.mean(np.diff(moment))
    mode_var, shapes = np.linalg.eigh(beside.T @ (-distance / 2) @ beside)
    return Known(
        dense=dense,
        pilot=layout.pilot,
        pilot_entry=np.flatnonzero(is_pilot).reshape(symbols, -1),
        header_entry=np.flatnonzero((row >= 2) & (row < dense) & ~is_pilot),
        row=row,
        column=column,
        first=np.searchsorted(row, np.arange(symbols)),
        pattern=(values != 0).astype(np.float64),
        reference=values[row, column],
        frequency=frequency,
        product=(frequency[column] * moment[row]).astype(np.float32),
        counts=counts,
        fit=weighted_fit(waveform, counts),
        moment=moment,
        modes=beside @ shapes,
        mode_var=mode_var,
        slopes=slopes,
        search=np.exp(-1j * np.outer(moment, slopes)),
    )


@dataclass(frozen=True, eq=False)
class Track:
    """Common phases of the OFDM symbols: a line, plus a random walk as far as the data show one.

    Of many packets or, without that axis, of one.
    """

    phase: Float64[np.ndarray, "*packets symbols"]
    variance: Float64[np.ndarray, "*packets symbols"]
    """Of the error of `phase`."""
    line: Float64[np.ndarray, "*packets 2"]
    """Phase at the middle of the long symbols, in rad, and its slope, in rad per sample."""
    freedom: Float64[np.ndarray, "*packets"]
    """Real degrees of freedom that the phases took from the data."""
    left: Float64[np.ndarray, "*packets symbols"]
    """Phases as measured, beside the line."""
    left_var: Float64[np.ndarray, "*packets symbols"]
    """Variance of the error of `left`."""
    step_var: Float64[np.ndarray, "*packets"]
    """Of the random walk, in rad² from one symbol to the next; 0 if there is none to see."""


def first_line(sums: Complex128[np.ndarray, "packets symbols"], known: Known) -> Float64[np.ndarray, "packets 2"]:
    """The line that turns per-symbol correlations into one direction, by search."""
    scores = sums @ known.search
    best = np.argmax(np.abs(scores), axis=1)
    return np.stack([np.angle(scores[np.arange(len(sums)), best]), known.slopes[best]], axis=1)


def track_phase(
    sums: Complex128[np.ndarray, "packets symbols"],
    weight: Float64[np.ndarray, "packets symbols"],
    line: Float64[np.ndarray, "packets 2"],
    known: Known,
) -> Track:
    """Track from per-symbol correlations, whose phases have the inverse variances `weight` and lie near `line`."""
    moment = known.moment
    design = np.stack([np.ones_like(moment), moment])
    left = np.angle(sums * np.exp(-1j * (line @ design)))
    covariance = np.linalg.inv((design * weight[:, None]) @ design.T)
    fit = (covariance @ (design @ (weight * left)[..., None]))[..., 0]
    left = left - fit @ design
    line = line + fit
    phase = line @ design
    variance = np.sum(covariance @ design * design, axis=1)
    left_var = 1 / weight
    step_var, freedom = _wander(left, left_var, known), np.full(len(sums), 2.0)
    distance = np.abs(moment[:, None] - moment) / np.mean(np.diff(moment))
    for packet in np.flatnonzero(step_var):
        prior = step_var[packet] * (distance.max() - distance / 2)  # of a Wiener process at unknown level
        smoother = prior @ np.linalg.inv(prior + np.diag(left_var[packet]))
        phase[packet] += smoother @ left[packet]
        variance[packet] = np.diag(prior - smoother @ prior)
        freedom[packet] += np.trace(smoother)
    return Track(phase, variance, line, freedom, left, left_var, step_var)


def _wander(
    left: Float64[np.ndarray, "packets symbols"], left_var: Float64[np.ndarray, "packets symbols"], known: Known
) -> Float64[np.ndarray, "packets"]:
    """Variance of the steps of a Wiener process in phases beside their line, the most likely one; 0 if there is none.

    In the modes of such a process, which the noise of all symbols is nearly independent in.
    """
    seen, noise = (left @ known.modes) ** 2, left_var @ known.modes**2
    weight = known.mode_var / noise
    score = np.sum(weight * (seen / noise - 1), axis=1) / np.sqrt(2 * np.sum(weight**2, axis=1))
    step_var = np.zeros(len(left))
    for packet in np.flatnonzero(score >= _SCORE):
        expected = _STEP_VARS[:, None] * known.mode_var + noise[packet]
        likelihood = -np.sum(np.log(expected) + seen[packet] / expected, axis=1)
        step_var[packet] = _STEP_VARS[np.argmax(likelihood)]
    return step_var


def phasor(angle: Float32[np.ndarray, "..."]) -> Complex64[np.ndarray, "..."]:
    """exp(j angle): NumPy vectorises real sines, not complex exponentials."""
    turn = np.empty(angle.shape, np.complex64)
    np.cos(angle, out=turn.real)
    np.sin(angle, out=turn.imag)
    return turn
