"""What the two long training symbols tell: channel, noise, and with them the header.

The impulse response is confined to the cyclic prefix, which averages noise over carriers (van de Beek et al., VTC
1995).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
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
    """Channel state from the long training symbols, relative to the nominal transmit amplitude."""

    response: Complex128[np.ndarray, "used"]
    noise_var: Float64[np.ndarray, "used"]


@dataclass(frozen=True, eq=False)
class Fit:
    """Least squares onto the delay basis."""

    basis: Complex128[np.ndarray, "used rank"]
    pseudo_inverse: Complex128[np.ndarray, "rank used"]
    variance: Float64[np.ndarray, "used"]
    """Of the error of the fitted response."""
    taken: Float64[np.ndarray, "used"]
    """Degrees of freedom that the fit takes from each carrier."""

    def __call__(self, mean: Complex128[np.ndarray, "used"]) -> Complex128[np.ndarray, "used"]:
        """Response fitted to one mean per carrier."""
        return np.asarray(self.basis @ (self.pseudo_inverse @ mean))


@lru_cache(maxsize=16)
def delay_basis(waveform: Waveform) -> Complex128[np.ndarray, "used rank"]:
    """Orthonormal basis of the frequency responses of all impulse responses within the cyclic prefix."""
    delays = np.arange(waveform.cyclic_prefix)
    turns = np.outer(ofdm.grid(waveform).carriers, delays) / waveform.fft_size
    basis, values, _ = np.linalg.svd(np.exp(-2j * np.pi * turns), full_matrices=False)
    selected: Complex128[np.ndarray, "used rank"] = basis[:, values > _RANK_TOLERANCE * values[0]]
    return selected


def misfit(response: Complex128[np.ndarray, "used"]) -> float:
    """Variance that the weights of a fit to this response must reckon with beside the noise."""
    return _MISFIT * float(np.mean(np.abs(response) ** 2))


def weighted_fit(waveform: Waveform, precision: Float64[np.ndarray, "used"]) -> Fit:
    """Least squares where the mean on each carrier has that precision, the inverse of its variance."""
    basis = delay_basis(waveform)
    weighted = basis.conj().T * precision
    inverse = np.linalg.inv(weighted @ basis)
    variance = np.einsum("ur,ru->u", basis @ inverse, basis.conj().T).real
    return Fit(basis, inverse @ weighted, variance, variance * precision)


@lru_cache(maxsize=16)
def _even_fit(waveform: Waveform) -> Fit:
    return weighted_fit(waveform, np.full(waveform.used_subcarriers, 2.0))


def noise_floor(response: Complex128[np.ndarray, "used"]) -> float:
    """The least noise variance that float32 samples can have."""
    return _NOISE_FLOOR * float(np.mean(np.abs(response) ** 2)) + float(np.finfo(np.float32).tiny)


def train(received: Complex64[np.ndarray, "symbols used"], waveform: Waveform) -> Training:
    """Channel and noise from the long training symbols, the first two rows of `received`.

    A jammer is kept from spreading over the response: its carriers lose their weight, in a few rounds.
    """
    looks = received[:2] / ofdm.grid(waveform).long_values
    mean = looks.mean(axis=0).astype(np.complex128)
    difference = np.abs(looks[0] - looks[1]) ** 2 / 2
    fit = _even_fit(waveform)
    response = fit(mean)
    for _ in range(_ITERATIONS):
        energy, freedom = difference + 2 * np.abs(mean - response) ** 2, 2 - fit.taken
        coloured = residual.profile(energy, freedom, draft=True)
        if coloured is None:
            return Training(response, np.full(energy.size, max(energy.sum() / freedom.sum(), noise_floor(response))))
        noise_var = np.maximum(coloured, noise_floor(response))
        fit = weighted_fit(waveform, 2 / (noise_var + misfit(response)))
        response = fit(mean)
    return Training(response, noise_var)


def late(received: Complex64[np.ndarray, "symbols used"], training: Training, waveform: Waveform) -> int:
    """By how many samples the FFT windows begin too late for a weak path before the strongest ones; 0 if there is none.

    A path before the windows neither fits the delay basis nor is free of interference between symbols. It is looked
    for in the impulse response under a Hann window, whose sidelobes lie 31 dB and more below the strongest path.
    """
    prefix, size = waveform.cyclic_prefix, waveform.fft_size
    carriers, window = _hann(waveform)
    mean = (received[:2] / ofdm.grid(waveform).long_values).mean(axis=0)
    bins = np.zeros(size, np.complex128)
    bins[carriers] = mean * window
    bins[0] = (bins[1] + bins[-1]) / 2  # the null at DC would raise sidelobes
    power = np.abs(np.fft.ifft(bins, norm="forward")) ** 2
    noise = float(np.sum(window**2 * training.noise_var)) / 2
    power[power < max(_PATH_NOISE * noise, _PATH_SIDELOBE * float(power.max()))] = 0
    # Energy that windows which begin 1, 2… samples earlier gain at their start, and lose at the end of the prefix.
    steps = np.arange(1, prefix // 2 + 1)
    balance = np.cumsum(power[-steps]) - np.cumsum(power[prefix - steps])
    best = int(np.argmax(balance))
    return int(steps[best]) + _PATH_LEAD if balance[best] > 0 else 0


@lru_cache(maxsize=16)
def _hann(waveform: Waveform) -> tuple[Int64[np.ndarray, "used"], Float64[np.ndarray, "used"]]:
    """Bins of the used carriers, and a Hann window over the band of unit sum."""
    carriers = ofdm.grid(waveform).carriers
    window = np.cos(np.pi * carriers / (2 * waveform.edge_carrier + 2)) ** 2
    return carriers % waveform.fft_size, window / window.sum()


def header_llr(
    received: Complex64[np.ndarray, "symbols used"], training: Training, waveform: Waveform, *, sparse: bool = False
) -> Float64[np.ndarray, "header data"]:
    """LLRs of the header's BPSK points from the long symbols and the header's own pilots.

    `sparse` takes more time over the channel and assumes that few paths make it: worth 0.8 dB below 0 dB.
    """
    layout, response = ofdm.grid(waveform), training.response
    if sparse:
        mean = (received[:2] / layout.long_values).mean(axis=0).astype(np.complex128)
        response = sparse_response(mean, training.noise_var / 2, waveform)
    count = waveform.header_symbols
    rows = received[2 : 2 + count]
    matched = response.conj() / training.noise_var
    pilots = np.sum(rows[:, layout.pilot] * (matched[layout.pilot] * layout.pilot_values[:count]), axis=1)
    # Phase is a line through 0 at the long symbols: a search in one dimension stays safe far below 0 dB.
    turns = _header_turns(waveform)
    turn = turns[np.argmax((turns @ pilots).real)][:, None]
    points = rows[:, layout.data] * turn * matched[layout.data] * layout.header_scramble.conj()
    llr: Float64[np.ndarray, "header data"] = 4 * points.real
    return llr


@lru_cache(maxsize=16)
def _header_turns(waveform: Waveform) -> Complex128[np.ndarray, "slopes header"]:
    """What turns the header's symbols back, for every slope of the phase that is searched."""
    slopes = np.linspace(-SLOPE_LIMIT, SLOPE_LIMIT, 65) / waveform.symbol_samples
    return np.asarray(np.exp(-1j * np.outer(slopes, ofdm.times(waveform, 2 + waveform.header_symbols)[2:])))
