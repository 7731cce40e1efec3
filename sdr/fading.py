"""Multipath: what the surroundings do between the two antennas.

Either block fading, one impulse response per packet, or the tapped delay lines of 3GPP TR 38.901, whose paths lie
between the samples and turn with time.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex64, Float32, Float64

from sdr.noise import complex_normal
from sdr.resample import HALF_TAPS, windowed_sinc
from sdr.waveform import Waveform

_PROFILE_TAPS = 16
_PROFILE_DECAY_TAPS = 4.0
_FOUR_DELAYS = (0.0, 5 / 32, 11 / 32, 18 / 32)
"""In cyclic prefixes; uneven, so that the response over the carriers has no short period."""
_SINUSOIDS = 64
_KNOT_TURN_RAD = 0.05
"""Doppler phase between the times for which a response is computed: linear in between is right within -70 dB."""

Taps = Complex64[np.ndarray, "packets taps"]


@dataclass(frozen=True, eq=False)
class Profile:
    """Delays, in units of the rms delay spread, and mean powers of a tapped delay line, all paths Rayleigh."""

    delays: tuple[float, ...]
    powers_db: tuple[float, ...]


@dataclass(frozen=True)
class ChannelModel:
    """One entry of `CHANNELS`."""

    draw_taps: Callable[[int, Waveform, np.random.Generator], Taps]
    """(packets, waveform, rng) to the impulse response of each packet, one tap per sample, unit mean power."""
    noisy: bool = True
    """False: no noise, no random phase and, unless asked for, no delay."""
    profile: Profile | None = None
    """Paths that the signal takes instead, see `draw_paths`."""


@dataclass(frozen=True, eq=False)
class MovingPaths:
    """A drawn tapped delay line: path l has the gain Σ_m amplitudes[l, m]·exp(j2π·doppler_hz[l, m]·t) at time t."""

    delays_samples: Float64[np.ndarray, "paths"]
    amplitudes: Complex64[np.ndarray, "paths sinusoids"]
    doppler_hz: Float64[np.ndarray, "paths sinusoids"]
    sample_rate_hz: float

    def gains(self, times: Float64[np.ndarray, "times"]) -> Complex64[np.ndarray, "times paths"]:
        """Complex gain of each path at times in samples of the transmission."""
        turns = times[:, None, None] * (self.doppler_hz / self.sample_rate_hz)
        return np.asarray(np.einsum("tlm,lm->tl", np.exp(2j * np.pi * turns), self.amplitudes), np.complex64)

    @property
    def filters(self) -> Float32[np.ndarray, "paths taps"]:
        """Band-limited impulse of each path, from `HALF_TAPS` samples before the undelayed one."""
        last = int(np.ceil(self.delays_samples.max())) + HALF_TAPS
        return windowed_sinc(np.arange(-HALF_TAPS, last + 1) - self.delays_samples[:, None])

    def apply(self, samples: Complex64[np.ndarray, "n"], start: int) -> Complex64[np.ndarray, "longer"]:
        """Pass samples, whose first is sent at time `start`, through the paths.

        The result begins `HALF_TAPS` samples before that time, and the gains turn within it: they are computed for
        moments that lie close together, with straight lines in between.
        """
        filters = self.filters
        taps = filters.shape[1]
        count = samples.size + taps - 1
        fastest = float(np.abs(self.doppler_hz).max())
        stride = count if not fastest else int(_KNOT_TURN_RAD / (2 * np.pi * fastest) * self.sample_rate_hz)
        stride = min(max(stride, 1), count)
        pieces = -(-count // stride)
        knots = start - HALF_TAPS + stride * np.arange(pieces + 1, dtype=np.float64)
        responses = (self.gains(knots) @ filters)[:, ::-1, None]
        padded = np.zeros(pieces * stride + taps - 1, np.complex64)
        padded[taps - 1 : taps - 1 + samples.size] = samples
        windows = np.lib.stride_tricks.sliding_window_view(padded, taps).reshape(pieces, stride, taps)
        share = (np.arange(stride, dtype=np.float32) / np.float32(stride))[:, None]
        result = windows @ responses[:-1]
        if fastest:
            result = result + share * (windows @ (responses[1:] - responses[:-1]))
        return np.asarray(result.reshape(-1)[:count], np.complex64)


def draw_paths(
    profile: Profile, delay_spread_s: float, doppler_hz: float, sample_rate_hz: float, rng: np.random.Generator
) -> MovingPaths:
    """Draw a tapped delay line of unit mean power whose delays are scaled by `delay_spread_s` (TR 38.901, 7.7.3).

    Jakes' spectrum by a sum of sinusoids that arrive from evenly spaced angles, turned at random, with complex
    Gaussian amplitudes: at every moment a path is exactly Gaussian, and its autocorrelation is J0(2π·doppler_hz·t).
    Without Doppler the response is drawn once and stands still for the whole transmission.
    """
    powers = 10 ** (np.array(profile.powers_db) / 10)
    scale = np.sqrt(powers / powers.sum() / _SINUSOIDS).astype(np.float32)
    amplitudes = complex_normal(rng, (powers.size, _SINUSOIDS)) * scale[:, None]
    angles = (np.arange(_SINUSOIDS) + rng.uniform(size=(powers.size, 1))) * (2 * np.pi / _SINUSOIDS)
    delays = np.array(profile.delays) * delay_spread_s * sample_rate_hz
    return MovingPaths(delays, amplitudes, doppler_hz * np.cos(angles), sample_rate_hz)


def _flat(packets: int, waveform: Waveform, rng: np.random.Generator) -> Taps:
    return np.ones((packets, 1), np.complex64)


def _rayleigh(packets: int, waveform: Waveform, rng: np.random.Generator) -> Taps:
    return complex_normal(rng, (packets, 1))


def _multipath(packets: int, waveform: Waveform, rng: np.random.Generator) -> Taps:
    profile = np.exp(-np.arange(_PROFILE_TAPS) / _PROFILE_DECAY_TAPS)
    weights = np.sqrt(profile / profile.sum()).astype(np.float32)
    taps: Taps = complex_normal(rng, (packets, _PROFILE_TAPS)) * weights
    return taps


def _four_tap(packets: int, waveform: Waveform, rng: np.random.Generator) -> Taps:
    delays = (np.array(_FOUR_DELAYS) * waveform.cyclic_prefix).astype(np.int64)
    taps = np.zeros((packets, int(delays[-1]) + 1), np.complex64)
    taps[:, delays] = complex_normal(rng, (packets, len(delays))) * np.float32(0.5)
    return taps


# 3GPP TR 38.901, tables 7.7.2-1 to 7.7.2-3, row by row as printed (not in order of delay).
TDL_A = Profile(
    (
        *(0.0000, 0.3819, 0.4025, 0.5868, 0.4610, 0.5375, 0.6708, 0.5750, 0.7618, 1.5375, 1.8978, 2.2242),
        *(2.1718, 2.4942, 2.5119, 3.0582, 4.0810, 4.4579, 4.5695, 4.7966, 5.0066, 5.3043, 9.6586),
    ),
    (
        *(-13.4, 0.0, -2.2, -4.0, -6.0, -8.2, -9.9, -10.5, -7.5, -15.9, -6.6, -16.7),
        *(-12.4, -15.2, -10.8, -11.3, -12.7, -16.2, -18.3, -18.9, -16.6, -19.9, -29.7),
    ),
)
TDL_B = Profile(
    (
        *(0.0000, 0.1072, 0.2155, 0.2095, 0.2870, 0.2986, 0.3752, 0.5055, 0.3681, 0.3697, 0.5700, 0.5283),
        *(1.1021, 1.2756, 1.5474, 1.7842, 2.0169, 2.8294, 3.0219, 3.6187, 4.1067, 4.2790, 4.7834),
    ),
    (
        *(0.0, -2.2, -4.0, -3.2, -9.8, -1.2, -3.4, -5.2, -7.6, -3.0, -8.9, -9.0),
        *(-4.8, -5.7, -7.5, -1.9, -7.6, -12.2, -9.8, -11.4, -14.9, -9.2, -11.3),
    ),
)
TDL_C = Profile(
    (
        *(0.0000, 0.2099, 0.2219, 0.2329, 0.2176, 0.6366, 0.6448, 0.6560, 0.6584, 0.7935, 0.8213, 0.9336),
        *(1.2285, 1.3083, 2.1704, 2.7105, 4.2589, 4.6003, 5.4902, 5.6077, 6.3065, 6.6374, 7.0427, 8.6523),
    ),
    (
        *(-4.4, -1.2, -3.5, -5.2, -2.5, 0.0, -2.2, -3.9, -7.4, -7.1, -10.7, -11.1),
        *(-5.1, -6.8, -8.7, -13.2, -13.9, -13.9, -15.8, -17.1, -16.0, -15.7, -21.6, -22.8),
    ),
)

CHANNELS: dict[str, ChannelModel] = {
    "ideal": ChannelModel(_flat, noisy=False),
    "awgn": ChannelModel(_flat),
    "rayleigh": ChannelModel(_rayleigh),  # block fading: one gain per packet
    "multipath": ChannelModel(_multipath),  # 16 taps of exponential profile, new for each packet
    "four-tap": ChannelModel(_four_tap),  # 4 taps of equal power over 9/16 of the prefix, new for each packet
    "tdl-a": ChannelModel(_flat, profile=TDL_A),
    "tdl-b": ChannelModel(_flat, profile=TDL_B),
    "tdl-c": ChannelModel(_flat, profile=TDL_C),
}
