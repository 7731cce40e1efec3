"""Channel, phases, clock offset and noise of packets of equal length, all at once.

Known subcarriers are the two long symbols, the pilots and, once the header's CRC holds, the re-encoded header.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex64, Complex128, Float32, Float64, Inexact

from sdr import ofdm, residual
from sdr.batch import merge, take
from sdr.track import Known, Track, first_line, known_carriers, phasor, track_phase
from sdr.training import Training, misfit, noise_floor, weighted_fit
from sdr.waveform import Waveform

_LAST_ROUND = 7
_SETTLED = 0.3
"""Step of the clock drift, in standard errors, after which another round would change nothing."""
_SMALL_TURN = 0.2
"""Phase in rad of which the sine is as good."""
_WORTHLESS = 1e9
"""Noise of a symbol whose samples are missing, relative to that of the others."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """Channel state of many packets or, without that axis, of one. Amplitudes are relative to the nominal one."""

    response: Complex128[np.ndarray, "*packets used"]
    """Channel at the middle of the long training symbols."""
    response_var: Float64[np.ndarray, "*packets used"]
    """Variance of the error of `response`."""
    noise_var: Float64[np.ndarray, "*packets used"]
    """Noise variance on each subcarrier."""
    burst: Float64[np.ndarray, "*packets symbols"]
    """Factor on the noise variance in each OFDM symbol; 1 but for interference that comes and goes."""
    track: Track
    drift: Float64[np.ndarray, "*packets"]
    """Sampling clock offset: samples of delay gained per sample."""

    @property
    def phase(self) -> Float64[np.ndarray, "*packets symbols"]:
        """Common phase of each OFDM symbol, in rad."""
        return self.track.phase

    @property
    def phase_var(self) -> Float64[np.ndarray, "*packets symbols"]:
        """Variance of the error of `phase`, in rad²."""
        return self.track.variance

    @property
    def cfo(self) -> Float64[np.ndarray, "*packets"]:
        """CFO left after the correction before the FFT, in cycles per sample."""
        return np.asarray(self.track.line[..., 1] / (2 * np.pi))

    @property
    def even(self) -> Bool[np.ndarray, "*packets"]:
        """Whether the noise is the same everywhere."""
        return _even(self.noise_var, self.burst)

    @property
    def snr(self) -> Float64[np.ndarray, "*packets"]:
        """Es/N0 of the packet, linear: its mean over subcarriers, where the noise differs between them.

        Without the bias of the channel estimate's own noise.
        """
        signal = self.response.real**2 + self.response.imag**2 - self.response_var
        return np.asarray(np.maximum(np.mean(signal / self.noise_var, axis=-1) * self._calm, 0.0))

    @property
    def noise(self) -> Float64[np.ndarray, "*packets"]:
        """Noise variance on a subcarrier: the harmonic mean, which a jammer on some of them leaves as it is."""
        return np.asarray(1 / (np.mean(1 / self.noise_var, axis=-1) * self._calm))

    @property
    def _calm(self) -> Float64[np.ndarray, "*packets"]:
        """Mean of 1 / `burst` over the symbols that are not missing."""
        return np.asarray(np.mean(1 / self.burst, axis=-1, where=self.burst < _WORTHLESS / 2))


def estimate(
    received: Complex64[np.ndarray, "packets symbols used"],
    header_points: Complex64[np.ndarray, "packets header data"],
    training: Training,
    missing: Bool[np.ndarray, "packets symbols"],
    waveform: Waveform,
) -> Estimate:
    """Estimate channel, phases, clock offset and noise from everything known in each of many packets.

    `received` holds the long, header and payload symbols; `header_points` the header's BPSK points as sent; `missing`
    tells which symbols to leave out. Alternates between phases, clock offset, channel and noise, each given the others,
    until the packet's clock offset has settled.
    """
    known = known_carriers(waveform, received.shape[1])
    reference = np.repeat(known.reference[None], len(received), axis=0)
    reference[:, known.header_entry] = (header_points * ofdm.grid(waveform).header_scramble).reshape(len(received), -1)
    # References have unit modulus: what is left is channel and phase.
    observed = known.entries(received) * reference.conj()

    response, noise_var, burst = training.response, training.noise_var, np.where(missing, _WORTHLESS, 1.0)
    drift, line = _first_drift(observed, training, known), None
    left, parts = np.arange(len(received)), []  # packets that have not settled, and those that have
    for number in range(_LAST_ROUND + 1):
        retimed = observed * phasor(drift.astype(np.float32)[:, None] * known.product)
        matched = known.at_carriers((response.conj() / noise_var).astype(np.complex64))
        sums = known.by_symbol(retimed * matched) / burst
        energy = (response.real**2 + response.imag**2) / noise_var
        line = first_line(sums, known) if line is None else line
        track = track_phase(sums, 2 * known.totals(energy) / burst, line, known)
        turned = retimed * known.at_symbols(np.exp(-1j * track.phase).astype(np.complex64))
        average = _Average(noise_var + misfit(response), burst, known, waveform)
        response = average(turned)
        expected = known.at_carriers(response.astype(np.complex64))
        error = turned - expected
        step, step_error = _drift_step(error, expected, response, 1 / noise_var, 1 / burst, average, known)
        squared = error.real**2 + error.imag**2
        noise_var, burst = _noise(squared, track.freedom, burst, average, known, number)
        noise_var = np.maximum(noise_var, noise_floor(response))
        enough = (number > 1) | ((number == 1) & average.even & _even(noise_var, burst))
        settled = (enough & (np.abs(step) < _SETTLED * step_error)) | (number == _LAST_ROUND)
        drift, line = drift - np.where(settled, 0, step), track.line
        state = Estimate(response, average.variance, noise_var, burst, track, drift)
        parts.append((left[settled], take(state, settled)))
        if settled.all():
            break
        if settled.any():
            left, observed, response, noise_var, burst, drift, line = (
                values[~settled] for values in (left, observed, response, noise_var, burst, drift, line)
            )
    return merge(parts)


def _first_drift(
    observed: Complex64[np.ndarray, "packets known"], training: Training, known: Known
) -> Float64[np.ndarray, "packets"]:
    """Clock drift from pilots that are turned back by the channel at the long symbols: good enough to start from."""
    matched = (training.response.conj() / training.noise_var)[:, known.pilot]
    weighted = np.take(observed, known.pilot_entry, axis=1) * matched.astype(np.complex64)[:, None]
    size = np.abs(weighted)
    energy, frequency = size.sum(axis=1), known.frequency[known.pilot]
    centred = (frequency - (energy @ frequency / energy.sum(axis=1))[:, None]).astype(np.float32)
    moved = known.moment[:, None].astype(np.float32) * centred[:, None]
    information = np.sum(size * moved**2, axis=(1, 2))
    largest = np.abs(moved[:, -1]).max(axis=1)
    turned, drift, moving = weighted, np.zeros(len(observed)), np.ones(len(observed), bool)
    for _ in range(2):
        sums = turned.sum(axis=2, keepdims=True)
        common = sums.conj() / np.maximum(np.abs(sums), np.finfo(np.float32).tiny)
        step = np.sum((turned * common).imag * moved, axis=(1, 2)) / information
        drift -= np.where(moving, step, 0)
        moving &= np.abs(step) * largest >= _SMALL_TURN
        if not moving.any():
            break
        turned = weighted * phasor(drift.astype(np.float32)[:, None, None] * moved)
    return drift


def _even(
    noise_var: Float64[np.ndarray, "*packets used"], burst: Float64[np.ndarray, "*packets symbols"]
) -> Bool[np.ndarray, "*packets"]:
    """Whether the noise is the same everywhere."""
    return np.asarray(np.all(noise_var == noise_var[..., :1], axis=-1) & np.all(burst == 1, axis=-1))


class _Average:
    """Averages values at the known subcarriers to responses in the delay basis, by their weights."""

    even: Bool[np.ndarray, "packets"]
    """Whether all weigh the same."""
    variance: Float64[np.ndarray, "packets used"]
    """Of the error of the response."""
    taken: Float64[np.ndarray, "packets used"]
    """Degrees of freedom that it takes from each carrier."""

    def __init__(
        self,
        noise_var: Float64[np.ndarray, "packets used"],
        burst: Float64[np.ndarray, "packets symbols"],
        known: Known,
        waveform: Waveform,
    ) -> None:
        self.even = _even(noise_var, burst)
        self._known, self._weight, self._counts, self._fit = known, None, known.counts, known.fit
        scale = noise_var[:, :1]
        if not self.even.all():
            self._weight = known.at_symbols((1 / burst).astype(np.float32))
            self._counts = known.by_carrier(self._weight).astype(np.float64)
            self._fit, scale = weighted_fit(waveform, self._counts / noise_var), np.ones_like(scale)
        self.variance = scale * self._fit.variance
        self.taken = np.broadcast_to(self._fit.taken, noise_var.shape)

    def __call__(self, values: Complex64[np.ndarray, "packets known"]) -> Complex128[np.ndarray, "packets used"]:
        return self.fit(self.mean(values))

    def mean(self, values: Inexact[np.ndarray, "packets known"]) -> Inexact[np.ndarray, "packets used"]:
        """Weighted mean of each carrier."""
        sums = self._known.by_carrier(values if self._weight is None else values * self._weight)
        return np.asarray(sums / self._counts)

    def fit(self, mean: Complex128[np.ndarray, "packets used"]) -> Complex128[np.ndarray, "packets used"]:
        """Response fitted to the means."""
        return self._fit(mean)


def _drift_step(
    error: Complex64[np.ndarray, "packets known"],
    expected: Complex64[np.ndarray, "packets known"],
    response: Complex128[np.ndarray, "packets used"],
    precision: Float64[np.ndarray, "packets used"],
    steadiness: Float64[np.ndarray, "packets symbols"],
    average: _Average,
    known: Known,
) -> tuple[Float64[np.ndarray, "packets"], Float64[np.ndarray, "packets"]]:
    """Gauss-Newton step of the clock drift, whose phase grows with frequency and time, and its standard error.

    What the common phases and the response at hand have already taken of it does not count: otherwise each round
    would find but a part. Entries weigh as much as `precision` times `steadiness`.
    """
    energy = (response.real**2 + response.imag**2) * precision
    centre = known.totals(energy * known.frequency) / known.totals(energy) * known.moment
    angle = known.product - known.at_symbols(centre.astype(np.float32))
    taken = average.fit(response * average.mean(angle))
    moved = expected * angle - known.at_carriers(taken.astype(np.complex64))
    weight = known.at_carriers(precision.astype(np.float32)) * known.at_symbols(steadiness.astype(np.float32))
    weighted = moved * weight
    information = _inner(weighted, moved)
    return _inner(weighted, -1j * error) / information, (2 * information) ** -0.5


def _inner(
    first: Complex64[np.ndarray, "packets known"], second: Complex64[np.ndarray, "packets known"]
) -> Float64[np.ndarray, "packets"]:
    """Real part of the inner product."""
    return np.asarray(np.einsum("pk,pk->p", first.view(np.float32), second.view(np.float32)), np.float64)


def _noise(
    squared: Float32[np.ndarray, "packets known"],
    phases: Float64[np.ndarray, "packets"],
    burst: Float64[np.ndarray, "packets symbols"],
    average: _Average,
    known: Known,
    number: int,
) -> tuple[Float64[np.ndarray, "packets used"], Float64[np.ndarray, "packets symbols"]]:
    """Noise variance of each carrier and factor of each symbol from squared residuals, in the round of that number.

    The first round looks no closer if the training symbols gave no cause to, the second is content with drafts.
    """
    white = squared.sum(axis=1, dtype=np.float64) / (squared.shape[1] - phases / 2 - average.taken.sum(axis=1))
    noise_var = np.repeat(white[:, None], average.taken.shape[1], axis=1)
    close = np.flatnonzero(~average.even) if number == 0 else np.arange(len(squared))
    if close.size:
        burst = burst.copy()
        noise_var[close], burst[close] = _profiles(
            squared[close], phases[close], burst[close] < _WORTHLESS, average.taken[close], known, draft=number < 2
        )
    return noise_var, burst


def _profiles(
    squared: Float32[np.ndarray, "packets known"],
    phases: Float64[np.ndarray, "packets"],
    present: Bool[np.ndarray, "packets symbols"],
    taken: Float64[np.ndarray, "packets used"],
    known: Known,
    *,
    draft: bool,
) -> tuple[Float64[np.ndarray, "packets used"], Float64[np.ndarray, "packets symbols"]]:
    """Noise variance of each carrier and factor of each symbol, as far as they differ."""
    counts = present @ known.pattern
    phase_share = (phases / 2 / counts.sum(axis=1))[:, None]  # a phase: one real dimension
    freedom = np.maximum(counts * (1 - phase_share) - taken, 0)
    # Symbols first, by their pilots: only the first symbols tell of other carriers what the noise is there, and what
    # comes later would seem to be on the pilots alone. How the pilots are weighed is the same for every symbol.
    used = counts.shape[1]
    dense = squared[:, : known.dense * used].reshape(len(squared), known.dense, used)
    padded = np.pad(np.sum(dense, axis=1, where=present[:, : known.dense, None]), ((0, 0), (1, 1)))
    level = np.sum(padded[:, known.pilot[:, None] + np.arange(3)], axis=2) + np.finfo(np.float32).tiny
    energy = np.sum(np.take(squared, known.pilot_entry, axis=1) / level[:, None], axis=2, dtype=np.float64) * present
    held = np.sum((freedom / counts)[:, known.pilot], axis=1)[:, None] * present
    coming = residual.profile(energy, held, draft=draft)
    burst = np.where(present, 1.0, _WORTHLESS)
    for packet in np.flatnonzero(np.ptp(coming, axis=1)):
        here = present[packet]
        factor = coming[packet, here] / np.median(coming[packet, here])
        burst[packet, here] = np.minimum(factor, _WORTHLESS / 2)
    energy = known.by_carrier(squared * known.at_symbols((present / burst).astype(np.float32)))
    return residual.profile(energy.astype(np.float64), freedom, draft=draft), burst
