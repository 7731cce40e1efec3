"""Channel estimate, phase and timing tracking, and equalisation of one packet.

Known subcarriers are the two long symbols, the pilots and, once the header's CRC holds, the re-encoded header. The
impulse response is confined to the cyclic prefix, which averages noise over carriers (van de Beek et al., VTC 1995).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Complex64, Complex128, Float32, Float64, Int64

from sdr import ofdm
from sdr.sparse import sparse_response
from sdr.waveform import Waveform

_RANK_TOLERANCE = 0.01
_ITERATIONS = 3
_NOISE_FLOOR = 1e-9
"""Of the signal: what float32 arithmetic leaves without any noise, so that nothing divides by 0."""
_SLOPE_LIMIT = 0.6
"""Largest phase step per OFDM symbol that the search covers, in rad: 1.3 kHz of CFO left after the preamble."""
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


@dataclass(frozen=True, eq=False)
class _Known:
    """Where the known subcarriers of a packet lie, and what of the estimation depends on that alone."""

    row: Int64[np.ndarray, "known"]
    first: Int64[np.ndarray, "symbols"]
    """Where each symbol's entries begin."""
    column: Int64[np.ndarray, "known"]
    reference: Complex64[np.ndarray, "symbols used"]
    """Known values; the header's data carriers are filled in per packet."""
    frequency: Float32[np.ndarray, "known"]
    """Angular frequency of the carrier, in rad per sample."""
    product: Float32[np.ndarray, "known"]
    """`frequency` times the moment of the symbol: phase per unit of clock drift."""
    counts: Float64[np.ndarray, "used"]
    matrix: Complex128[np.ndarray, "used used"]
    """Weighted least squares from per-carrier means onto the delay basis."""
    leverage: Float64[np.ndarray, "used"]
    rank: int
    moment: Float64[np.ndarray, "symbols"]
    slopes: Float64[np.ndarray, "slopes"]
    """Phase slopes to search, in rad per sample."""
    search: Complex128[np.ndarray, "slopes symbols"]


@lru_cache(maxsize=64)
def _known(waveform: Waveform, payload_symbols: int) -> _Known:
    layout, basis = ofdm.grid(waveform), delay_basis(waveform)
    rows = waveform.header_symbols + payload_symbols
    values = np.zeros((2 + rows, waveform.used_subcarriers), np.complex64)
    values[:2] = layout.long_values
    values[2 : 2 + waveform.header_symbols] = 1
    values[2:, layout.pilot] = layout.pilot_values[:rows]
    row, column = np.nonzero(values)
    moment = times(waveform, 2 + rows)
    frequency = 2 * np.pi * layout.carriers[column] / waveform.fft_size
    counts = np.bincount(column).astype(np.float64)
    inverse = np.linalg.inv((basis.conj().T * counts) @ basis)
    slopes = np.linspace(-_SLOPE_LIMIT, _SLOPE_LIMIT, 129) / waveform.symbol_samples
    return _Known(
        row=row,
        first=np.searchsorted(row, np.arange(2 + rows)),
        column=column,
        reference=values,
        frequency=frequency.astype(np.float32),
        product=(frequency * moment[row]).astype(np.float32),
        counts=counts,
        matrix=(basis @ inverse @ basis.conj().T) * counts,
        leverage=np.einsum("ij,jk,ik->i", basis, inverse, basis.conj()).real,
        rank=basis.shape[1],
        moment=moment,
        slopes=slopes,
        search=np.exp(-1j * np.outer(slopes, moment)),
    )


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
    return response, max(float(residual) / (2 * used - rank), _noise_floor(response))


def _noise_floor(response: Complex128[np.ndarray, "used"]) -> float:
    return _NOISE_FLOOR * float(np.mean(np.abs(response) ** 2)) + float(np.finfo(np.float32).tiny)


def header_llr(
    received: Complex64[np.ndarray, "symbols used"], waveform: Waveform, *, sparse: bool = False
) -> Float64[np.ndarray, "header data"]:
    """LLRs of the header's BPSK points from the long symbols and the header's own pilots.

    `sparse` takes more time over the channel and assumes that few paths make it: worth 0.8 dB below 0 dB.
    """
    layout = ofdm.grid(waveform)
    response, noise = first_estimate(received, waveform)
    if sparse:
        training = (received[:2] / layout.long_values).mean(axis=0).astype(np.complex128)
        response = sparse_response(training, noise / 2, waveform)
    count = waveform.header_symbols
    rows = received[2 : 2 + count]
    pilots = np.sum(rows[:, layout.pilot] * (response[layout.pilot] * layout.pilot_values[:count]).conj(), axis=1)
    # Phase is a line through 0 at the long symbols: a search in one dimension stays safe far below 0 dB.
    moments = times(waveform, 2 + count)[2:]
    slopes = np.linspace(-_SLOPE_LIMIT, _SLOPE_LIMIT, 65) / waveform.symbol_samples
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
    symbols, first = len(received), 2 + waveform.header_symbols
    known = _known(waveform, symbols - first)
    reference = known.reference.copy()
    reference[2:first, layout.data] = header_points * layout.header_scramble
    # References have unit modulus: what is left is channel and phase.
    observed = (received * reference.conj())[known.row, known.column]

    response, noise = first_estimate(received, waveform)
    expected = response.astype(np.complex64)[known.column]
    retimed, line, drift = observed, None, 0.0
    for _ in range(_ITERATIONS):
        aligned = retimed * expected.conj()
        weight = expected.real**2 + expected.imag**2
        track = _track_phase(np.add.reduceat(aligned, known.first), weight, noise, line, known)
        line = track.line
        turn = np.exp(-1j * track.phase).astype(np.complex64)[known.row]
        drift -= _drift_step((aligned * turn).imag, weight, known)
        retimed = observed * _phasor(drift * known.product)
        settled = retimed * turn
        mean = np.bincount(known.column, settled.real) + 1j * np.bincount(known.column, settled.imag)
        response = known.matrix @ (mean / known.counts)
        expected = response.astype(np.complex64)[known.column]
        error = settled - expected
        freedom = len(error) - known.rank - track.freedom / 2  # a phase takes one real dimension
        noise = max(float(np.vdot(error, error).real) / freedom, _noise_floor(response))
    cfo = float(track.line[1]) / (2 * np.pi)
    return Estimate(response, known.leverage, track.phase, track.variance, drift, noise, cfo)


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
    turn = _phasor((state.drift * moment * frequency - state.phase[first:, None]).astype(np.float32))
    response = state.response[layout.data]
    gain = np.abs(response) ** 2
    good = gain > _ERASED_SNR * state.noise
    inverse = np.where(good, response.conj(), 0) / np.where(good, gain, 1)
    scramble = layout.payload_scramble[:payload_symbols].conj()
    symbols = received[first:, layout.data] * turn * inverse * scramble
    relative = np.where(good, state.noise * (1 + state.leverage[layout.data]) / np.where(good, gain, 1), np.inf)
    variance = relative + state.phase_var[first:, None]
    return symbols.reshape(-1).astype(np.complex64), variance.reshape(-1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Track:
    phase: Float64[np.ndarray, "symbols"]
    variance: Float64[np.ndarray, "symbols"]
    line: tuple[float, float]
    """Phase at the middle of the long symbols, in rad, and its slope, in rad per sample."""
    freedom: float
    """Real degrees of freedom that the phases took from the data."""


def _phasor(angle: Float32[np.ndarray, "..."]) -> Complex64[np.ndarray, "..."]:
    """exp(j angle): NumPy vectorises real sines, not complex exponentials."""
    turn = np.empty(angle.shape, np.complex64)
    np.cos(angle, out=turn.real)
    np.sin(angle, out=turn.imag)
    return turn


def _track_phase(
    sums: Complex64[np.ndarray, "symbols"],
    energy: Float32[np.ndarray, "known"],
    noise: float,
    line: tuple[float, float] | None,
    known: _Known,
) -> _Track:
    """Common phases from per-symbol correlations: a line, plus a random walk as far as the data show one."""
    moment = known.moment
    weight = 2 * np.bincount(known.row, energy) / noise  # inverse variance of each symbol's phase
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
    variance = np.einsum("is,ij,js->s", design, covariance, design)
    # Steps beyond what the noise of two neighbours explains are the oscillator's: phase noise, a Wiener process.
    steps = np.diff(left) ** 2
    excess = float(np.mean(steps - 1 / weight[1:] - 1 / weight[:-1]))
    if excess < 2 * float(np.std(steps)) / len(steps) ** 0.5:
        return _Track(phase, variance, line, 2.0)
    distance = np.abs(moment[:, None] - moment) / np.mean(np.diff(moment))
    prior = excess * (distance.max() - distance / 2)  # of a Wiener process at unknown level
    smoother = prior @ np.linalg.inv(prior + np.diag(1 / weight))
    return _Track(phase + smoother @ left, np.diag(prior - smoother @ prior), line, 2.0 + float(np.trace(smoother)))


def _drift_step(quadrature: Float32[np.ndarray, "known"], energy: Float32[np.ndarray, "known"], known: _Known) -> float:
    """Gauss-Newton step of the phase that grows with frequency and time, beside one that grows with frequency only."""
    regressors = np.stack([known.frequency, known.product])
    normal = (regressors * energy) @ regressors.T
    return float(np.linalg.solve(normal, regressors @ quadrature)[1])
