"""What the two long training symbols tell: channel, noise, and with them the header.

The impulse response is confined to the cyclic prefix, which averages noise over carriers (van de Beek et al., VTC
1995).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Complex128, Float64, Int64

from sdr import ofdm, residual
from sdr.sparse import sparse_response
from sdr.waveform import Waveform

_RANK_TOLERANCE = 0.003
_MISFIT = 1e-5
"""Of the signal: about what the basis leaves unexplained at the band's edges. No weight may rely on less noise."""
_ITERATIONS = 3
_NOISE_FLOOR = 1e-9
"""Of the signal: what float32 arithmetic leaves without any noise, so that nothing divides by 0."""
_PATH_NOISE = 14.0
"""Power of a path over the noise: the noise alone reaches it at one of 10⁶ delays."""
_PATH_SIDELOBE = 6e-4
_PATH_LEAD = 3
"""Samples that windows begin before an early path, for the skirts of its fractional delay."""
SLOPE_LIMIT = 0.6
"""Largest phase step per OFDM symbol that a search covers, in rad: 1.3 kHz of CFO left after the preamble."""


@dataclass(frozen=True, eq=False)
class Training:
    """Channel state of packets from their long training symbols, relative to the nominal transmit amplitude."""

    response: Complex128[np.ndarray, "packets used"]
    noise_var: Float64[np.ndarray, "packets used"]


@dataclass(frozen=True, eq=False)
class Fit:
    """Least squares onto the delay basis: one for all packets, or one for each."""

    basis: Complex128[np.ndarray, "rank used"]
    weights: Complex128[np.ndarray, "*packets used rank"]
    variance: Float64[np.ndarray, "*packets used"]
    """Of the error of the fitted response."""
    taken: Float64[np.ndarray, "*packets used"]
    """Degrees of freedom that the fit takes from each carrier."""

    def __call__(self, mean: Complex128[np.ndarray, "packets used"]) -> Complex128[np.ndarray, "packets used"]:
        """Response fitted to one mean per carrier."""
        if self.weights.ndim == 2:
            return np.asarray(mean @ self.weights @ self.basis)
        return np.asarray((mean[:, None] @ self.weights)[:, 0] @ self.basis)


@lru_cache(maxsize=16)
def delay_basis(waveform: Waveform) -> Complex128[np.ndarray, "used rank"]:
    """Orthonormal basis of the frequency responses of all impulse responses within the cyclic prefix."""
    delays = np.arange(waveform.cyclic_prefix)
    turns = np.outer(ofdm.grid(waveform).carriers, delays) / waveform.fft_size
    basis, values, _ = np.linalg.svd(np.exp(-2j * np.pi * turns), full_matrices=False)
    selected: Complex128[np.ndarray, "used rank"] = basis[:, values > _RANK_TOLERANCE * values[0]]
    return selected


def misfit(response: Complex128[np.ndarray, "packets used"]) -> Float64[np.ndarray, "packets 1"]:
    """Variance that the weights of a fit to this response must reckon with beside the noise."""
    return _MISFIT * _power(response)


def weighted_fit(waveform: Waveform, precision: Float64[np.ndarray, "*packets used"]) -> Fit:
    """Least squares where the mean on each carrier has that precision, the inverse of its variance."""
    basis = delay_basis(waveform)
    weighted = basis.conj() * precision[..., None]
    inverse = np.linalg.inv(basis.T @ weighted)
    weights = weighted @ inverse
    taken = np.sum(weights * basis, axis=-1).real
    return Fit(basis.T, weights, taken / precision, taken)


@lru_cache(maxsize=16)
def _even_fit(waveform: Waveform) -> Fit:
    return weighted_fit(waveform, np.full(waveform.used_subcarriers, 2.0))


def noise_floor(response: Complex128[np.ndarray, "packets used"]) -> Float64[np.ndarray, "packets 1"]:
    """The least noise variance that float32 samples can have."""
    return np.asarray(_NOISE_FLOOR * _power(response) + np.finfo(np.float32).tiny)


def _power(response: Complex128[np.ndarray, "packets used"]) -> Float64[np.ndarray, "packets 1"]:
    return np.asarray(np.mean(response.real**2 + response.imag**2, axis=1, keepdims=True))


def train(received: Complex64[np.ndarray, "packets symbols used"], waveform: Waveform) -> Training:
    """Channel and noise from the long training symbols, the first two of `received`.

    A jammer is kept from spreading over the response: its carriers lose their weight, in a few rounds.
    """
    looks, mean = _looks(received, waveform)
    difference = np.abs(looks[:, 0] - looks[:, 1]).astype(np.float64) ** 2 / 2
    fit = _even_fit(waveform)
    response = fit(mean)
    noise_var = np.empty(response.shape)
    left = np.arange(len(received))  # whose noise is not white
    for _ in range(_ITERATIONS):
        energy = difference[left] + 2 * np.abs(mean[left] - response[left]) ** 2
        profile = residual.profile(energy, np.broadcast_to(2 - fit.taken, energy.shape), draft=True)
        noise_var[left] = np.maximum(profile, noise_floor(response[left]))
        left = left[np.ptp(profile, axis=1) > 0]
        if not left.size:
            break
        fit = weighted_fit(waveform, 2 / (noise_var[left] + misfit(response[left])))
        response[left] = fit(mean[left])
    return Training(response, noise_var)


def _looks(
    received: Complex64[np.ndarray, "packets symbols used"], waveform: Waveform
) -> tuple[Complex64[np.ndarray, "packets 2 used"], Complex128[np.ndarray, "packets used"]]:
    """The channel as each long symbol shows it, and the mean of both."""
    looks = received[:, :2] * ofdm.grid(waveform).long_values.conj()
    return looks, looks.mean(axis=1, dtype=np.complex128)


def late(
    received: Complex64[np.ndarray, "packets symbols used"], training: Training, waveform: Waveform
) -> Int64[np.ndarray, "packets"]:
    """By how many samples the FFT windows begin too late for a weak path before the strongest ones; 0 if there is none.

    A path before the windows neither fits the delay basis nor is free of interference between symbols. It is looked
    for in the impulse response under a Hann window, whose sidelobes lie 31 dB and more below the strongest path.
    """
    prefix = waveform.cyclic_prefix
    carriers, window = _hann(waveform)
    bins = np.zeros((len(received), waveform.fft_size), np.complex128)
    bins[:, carriers] = _looks(received, waveform)[1] * window
    bins[:, 0] = (bins[:, 1] + bins[:, -1]) / 2  # the null at DC would raise sidelobes
    power = np.abs(scipy.fft.ifft(bins, axis=1, norm="forward")) ** 2
    noise = training.noise_var @ window**2 / 2
    power[power < np.maximum(_PATH_NOISE * noise, _PATH_SIDELOBE * power.max(axis=1))[:, None]] = 0
    # Energy that windows which begin 1, 2… samples earlier gain at their start, and lose at the end of the prefix.
    steps = np.arange(1, prefix // 2 + 1)
    balance = np.cumsum(power[:, -steps], axis=1) - np.cumsum(power[:, prefix - steps], axis=1)
    return np.asarray(np.where(balance.max(axis=1) > 0, steps[balance.argmax(axis=1)] + _PATH_LEAD, 0))


@lru_cache(maxsize=16)
def _hann(waveform: Waveform) -> tuple[Int64[np.ndarray, "used"], Float64[np.ndarray, "used"]]:
    """Bins of the used carriers, and a Hann window over the band of unit sum."""
    carriers = ofdm.grid(waveform).carriers
    window = np.cos(np.pi * carriers / (2 * waveform.edge_carrier + 2)) ** 2
    return carriers % waveform.fft_size, window / window.sum()


def header_llr(
    received: Complex64[np.ndarray, "packets symbols used"],
    training: Training,
    waveform: Waveform,
    *,
    sparse: bool = False,
) -> Float64[np.ndarray, "packets header data"]:
    """LLRs of the headers' BPSK points from the long symbols and the header's own pilots.

    `sparse` takes more time over the channel and assumes that few paths make it: worth 0.8 dB below 0 dB.
    """
    layout, response = ofdm.grid(waveform), training.response
    if sparse:
        looks = zip(_looks(received, waveform)[1], training.noise_var / 2, strict=True)
        response = np.stack([sparse_response(mean, noise, waveform) for mean, noise in looks])
    count = waveform.header_symbols
    rows = received[:, 2 : 2 + count]
    matched = (response.conj() / training.noise_var)[:, None]
    pilots = np.sum(rows[..., layout.pilot] * (matched[..., layout.pilot] * layout.pilot_values[:count]), axis=2)
    # Phase is a line through 0 at the long symbols: a search in one dimension stays safe far below 0 dB.
    turns = _header_turns(waveform)
    turn = turns[np.argmax((pilots @ turns.T).real, axis=1)][..., None]
    points = rows[..., layout.data] * turn * matched[..., layout.data] * layout.header_scramble.conj()
    llr: Float64[np.ndarray, "packets header data"] = 4 * points.real
    return llr


@lru_cache(maxsize=16)
def _header_turns(waveform: Waveform) -> Complex128[np.ndarray, "slopes header"]:
    """What turns the header's symbols back, for every slope of the phase that is searched."""
    slopes = np.linspace(-SLOPE_LIMIT, SLOPE_LIMIT, 65) / waveform.symbol_samples
    return np.asarray(np.exp(-1j * np.outer(slopes, ofdm.times(waveform, 2 + waveform.header_symbols)[2:])))
