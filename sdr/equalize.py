"""Channel estimate, noise, and equalisation of one packet.

Known subcarriers are the two long symbols, the pilots and, once the header's CRC holds, the re-encoded header.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex64, Complex128, Float32, Float64

from sdr import ofdm, residual
from sdr.track import Known, Track, known_carriers, phasor, track_phase
from sdr.training import Training, misfit, noise_floor, weighted_fit
from sdr.waveform import Waveform

_LAST_ROUND = 7
_SETTLED = 0.3
"""Step of the clock drift, in standard errors, after which another round would change nothing."""
_SMALL_TURN = 0.2
"""Phase in rad of which the sine is as good."""
_ERASED_SNR = 1e-2
"""A carrier 20 dB under the noise carries next to nothing: dividing by it only makes large numbers."""
_WORTHLESS = 1e9
"""Noise of a symbol whose samples are missing, relative to that of the others."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """Channel state of a packet. Amplitudes are relative to the nominal transmit amplitude."""

    response: Complex128[np.ndarray, "used"]
    """Channel at the middle of the long training symbols."""
    response_var: Float64[np.ndarray, "used"]
    """Variance of the error of `response`."""
    noise_var: Float64[np.ndarray, "used"]
    """Noise variance on each subcarrier."""
    burst: Float64[np.ndarray, "symbols"]
    """Factor on the noise variance in each OFDM symbol; 1 but for interference that comes and goes."""
    track: Track
    drift: float
    """Sampling clock offset: samples of delay gained per sample."""

    @property
    def phase(self) -> Float64[np.ndarray, "symbols"]:
        """Common phase of each OFDM symbol, in rad."""
        return self.track.phase

    @property
    def phase_var(self) -> Float64[np.ndarray, "symbols"]:
        """Variance of the error of `phase`, in rad²."""
        return self.track.variance

    @property
    def cfo(self) -> float:
        """CFO left after the correction before the FFT, in cycles per sample."""
        return self.track.line[1] / (2 * np.pi)

    @property
    def even(self) -> bool:
        """Whether the noise is the same everywhere."""
        return _even(self.noise_var, self.burst)

    @property
    def snr(self) -> float:
        """Es/N0 of the packet, linear: its mean over subcarriers, where the noise differs between them.

        Without the bias of the channel estimate's own noise.
        """
        signal = np.abs(self.response) ** 2 - self.response_var
        return max(float(np.mean(signal / self.noise_var)) * self._calm, 0.0)

    @property
    def noise(self) -> float:
        """Noise variance on a subcarrier: the harmonic mean, which a jammer on some of them leaves as it is."""
        return 1 / (float(np.mean(1 / self.noise_var)) * self._calm)

    @property
    def _calm(self) -> float:
        """Mean of 1 / `burst` over the symbols that are not missing."""
        return float(np.mean(1 / self.burst[self.burst < _WORTHLESS / 2]))


def estimate(
    received: Complex64[np.ndarray, "symbols used"],
    header_points: Complex64[np.ndarray, "header data"],
    training: Training,
    waveform: Waveform,
    missing: Bool[np.ndarray, "symbols"] | None = None,
) -> Estimate:
    """Estimate channel, phases, clock offset and noise from everything known in a packet.

    `received` holds the long, header and payload symbols; `header_points` the header's BPSK points as sent; `missing`
    tells which symbols to leave out. Alternates between phases, clock offset, channel and noise, each given the others.
    """
    layout = ofdm.grid(waveform)
    symbols, first = len(received), 2 + waveform.header_symbols
    known = known_carriers(waveform, symbols)
    reference = known.reference.copy()
    reference[2:first, layout.data] = header_points * layout.header_scramble
    # References have unit modulus: what is left is channel and phase.
    observed = (received * reference.conj())[known.row, known.column]

    response, noise_var = training.response, training.noise_var
    burst = np.ones(symbols) if missing is None else np.where(missing, _WORTHLESS, 1.0)
    expected = response.astype(np.complex64)[known.column]
    drift, line = _first_drift((observed * expected.conj())[known.pilot], training.noise_var, known), None
    retimed = observed * phasor(drift * known.product)
    for number in range(_LAST_ROUND + 1):
        precision = (1 / noise_var).astype(np.float32)[known.column] * (1 / burst).astype(np.float32)[known.row]
        aligned = retimed * expected.conj() * precision
        energy = (expected.real**2 + expected.imag**2) * precision
        track = track_phase(np.add.reduceat(aligned, known.first), 2 * np.bincount(known.row, energy), line, known)
        line = track.line
        turn = np.exp(-1j * track.phase).astype(np.complex64)[known.row]
        turned = retimed * turn
        average = _Average(noise_var + misfit(response), burst, known, waveform)
        response = average(turned)
        expected = response.astype(np.complex64)[known.column]
        error = turned - expected
        step, step_error = _drift_step(error, expected, precision, average, known)
        squared = error.real**2 + error.imag**2
        noise_var, burst = _noise(squared, track.freedom, burst, average, known, number)
        noise_var = np.maximum(noise_var, noise_floor(response))
        enough = number > 1 or (number == 1 and average.even and _even(noise_var, burst))
        if number == _LAST_ROUND or (enough and abs(step) < _SETTLED * step_error):
            break
        drift -= step
        retimed = observed * phasor(drift * known.product)
    return Estimate(response, average.variance, noise_var, burst, track, drift)


def _first_drift(
    pilots: Complex64[np.ndarray, "symbols pilots"], noise_var: Float64[np.ndarray, "used"], known: Known
) -> float:
    """Clock drift from pilots that are turned back by the channel at the long symbols: good enough to start from."""
    place = known.pilot[0]
    weighted = pilots * (1 / noise_var[known.column[place]]).astype(np.float32)
    size = np.abs(weighted)
    energy = size.sum(axis=0)
    centred = known.frequency[place] - np.float32(energy @ known.frequency[place] / energy.sum())
    moved = known.moment[:, None].astype(np.float32) * centred
    information = float(np.sum(size * moved**2))
    turned, drift = weighted, 0.0
    for _ in range(2):
        sums = turned.sum(axis=1, keepdims=True)
        common = sums.conj() / np.maximum(np.abs(sums), np.finfo(np.float32).tiny)
        step = float(np.sum((turned * common).imag * moved)) / information
        drift -= step
        if abs(step) * float(np.abs(moved[-1]).max()) < _SMALL_TURN:
            break
        turned = weighted * phasor(np.float32(drift) * moved)
    return drift


def _even(noise_var: Float64[np.ndarray, "used"], burst: Float64[np.ndarray, "symbols"]) -> bool:
    """Whether the noise is the same everywhere."""
    return bool(np.all(noise_var == noise_var[0]) and np.all(burst == 1))


class _Average:
    """Averages values at the known subcarriers to a response in the delay basis, by their weights."""

    even: bool
    """Whether all weigh the same."""
    variance: Float64[np.ndarray, "used"]
    """Of the error of the response."""
    taken: Float64[np.ndarray, "used"]
    """Degrees of freedom that it takes from each carrier."""

    def __init__(
        self,
        noise_var: Float64[np.ndarray, "used"],
        burst: Float64[np.ndarray, "symbols"],
        known: Known,
        waveform: Waveform,
    ) -> None:
        self.even = _even(noise_var, burst)
        self._known, self._weight = known, None
        self._counts, self._fit, scale = known.counts, known.fit, noise_var[0]
        if not self.even:
            weight = (1 / burst)[known.row]
            self._counts, self._weight = np.bincount(known.column, weight), weight.astype(np.float32)
            self._fit, scale = weighted_fit(waveform, self._counts / noise_var), 1.0
        self.variance, self.taken = scale * self._fit.variance, self._fit.taken

    def __call__(self, values: Complex64[np.ndarray, "known"]) -> Complex128[np.ndarray, "used"]:
        if self._weight is not None:
            values = values * self._weight
        column = self._known.column
        return self._fit((np.bincount(column, values.real) + 1j * np.bincount(column, values.imag)) / self._counts)


def _drift_step(
    error: Complex64[np.ndarray, "known"],
    expected: Complex64[np.ndarray, "known"],
    precision: Float32[np.ndarray, "known"],
    average: _Average,
    known: Known,
) -> tuple[float, float]:
    """Gauss-Newton step of the clock drift, whose phase grows with frequency and time, and its standard error.

    What the common phases and the response at hand have already taken of it does not count: otherwise each round
    would find but a part.
    """
    energy = (expected.real**2 + expected.imag**2) * precision
    centre = np.add.reduceat(energy * known.frequency, known.first) / np.add.reduceat(energy, known.first)
    moved = expected * (known.product - (centre * known.moment).astype(np.float32)[known.row])
    moved = moved - average(moved).astype(np.complex64)[known.column]
    information = float((moved.real**2 + moved.imag**2) @ precision)
    return float(((moved.conj() * error).imag) @ precision) / information, (2 * information) ** -0.5


def _noise(
    squared: Float32[np.ndarray, "known"],
    phases: float,
    burst: Float64[np.ndarray, "symbols"],
    average: _Average,
    known: Known,
    number: int,
) -> tuple[Float64[np.ndarray, "used"], Float64[np.ndarray, "symbols"]]:
    """Noise variance of each carrier and factor of each symbol from squared residuals, in the round of that number.

    The first round looks no closer if the training symbols gave no cause to, the second is content with drafts.
    """
    used = known.counts.size
    if number == 0 and average.even:
        white = float(squared.sum()) / (squared.size - phases / 2 - average.taken.sum())
        return np.full(used, white), burst
    present, draft = burst < _WORTHLESS, number < 2
    counts = np.bincount(known.column, present[known.row])
    freedom = np.maximum(counts * (1 - phases / 2 / counts.sum()) - average.taken, 0)  # a phase: one real dimension
    # Symbols first, by their pilots: only the first symbols tell of other carriers what the noise is there, and what
    # comes later would seem to be on the pilots alone. How the pilots are weighed is the same for every symbol.
    place = known.column[known.pilot[0]]
    dense = squared[: known.dense * used].reshape(known.dense, used)
    level = np.convolve(present[: known.dense] @ dense, np.ones(3), "same")[place] + np.finfo(np.float32).tiny
    energy = np.sum(squared[known.pilot[present]] / level, axis=1)
    coming = residual.profile(energy, np.full(energy.size, np.sum((freedom / counts)[place])), draft=draft)
    burst = np.where(present, 1.0, _WORTHLESS)
    if coming is not None:
        burst[present] = np.minimum(coming / np.median(coming), _WORTHLESS / 2)
    energy = np.bincount(known.column, squared * (present / burst)[known.row])
    coloured = residual.profile(energy, freedom, draft=draft)
    return np.full(used, energy.sum() / freedom.sum()) if coloured is None else coloured, burst


def equalize(
    received: Complex64[np.ndarray, "symbols used"], state: Estimate, waveform: Waveform
) -> tuple[Complex64[np.ndarray, "slots"], Float32[np.ndarray, "slots"]]:
    """Payload symbols and their noise variances relative to unit symbol power; hopeless carriers are erased.

    Zero forcing leaves E[ŝ|s] = s. The variance holds the noise and the errors of channel and phase estimates.
    """
    layout = ofdm.grid(waveform)
    first = 2 + waveform.header_symbols
    payload_symbols = len(received) - first
    moment = ofdm.times(waveform, len(received))[first:, None]
    frequency = 2 * np.pi * layout.carriers[layout.data] / waveform.fft_size
    turn = phasor((state.drift * moment * frequency - state.phase[first:, None]).astype(np.float32))
    response = state.response[layout.data]
    gain = np.abs(response) ** 2
    burst = state.burst[first:, None]
    noise_var = state.noise_var[layout.data] * (burst if np.any(burst != 1) else 1.0)
    good = gain > _ERASED_SNR * noise_var
    inverse = np.where(good, response.conj(), 0) / np.where(good, gain, 1)
    scramble = layout.payload_scramble[:payload_symbols].conj()
    symbols = received[first:, layout.data] * turn * inverse.astype(np.complex64) * scramble
    relative = np.where(good, (noise_var + state.response_var[layout.data]) / np.where(good, gain, 1), np.inf)
    variance = relative + state.phase_var[first:, None]
    return symbols.reshape(-1).astype(np.complex64), variance.reshape(-1).astype(np.float32)
