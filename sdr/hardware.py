"""What the radios themselves do to a signal: power amplifier, oscillators, quadrature mixer, converter.

Amplitudes are relative to the transmitter's full scale of 1.
"""

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float64

_OVERSAMPLING = 4


def rapp(samples: Complex64[np.ndarray, "n"], saturation: float, smoothness: float) -> Complex64[np.ndarray, "n"]:
    """AM/AM compression of a solid-state amplifier of unit small-signal gain, without AM/PM.

    |out| = |in| / (1 + (|in|/saturation)^2p)^(1/2p), p = `smoothness` (C. Rapp, 2nd European Conference on Satellite
    Communications, 1991). It acts on the continuous signal: products beyond the sampled band are radiated and cut off
    by the receiver's filter instead of folding back, so the signal is oversampled around it (by FFT, hence as if
    periodic).
    """
    size = samples.size
    wide = np.zeros(_OVERSAMPLING * size, np.complex64)
    upper, lower = (size + 1) // 2, size // 2
    spectrum = scipy.fft.fft(samples)
    wide[:upper], wide[wide.size - lower :] = spectrum[:upper], spectrum[upper:]
    dense = scipy.fft.ifft(wide) * np.float32(_OVERSAMPLING)
    drive = np.abs(dense).astype(np.float64) / saturation  # its powers may pass what float32 holds
    bent = np.asarray(dense * (1 + drive ** (2 * smoothness)) ** (-0.5 / smoothness), np.complex64)
    wide = scipy.fft.fft(bent)
    narrow = np.concatenate([wide[:upper], wide[wide.size - lower :]]) / _OVERSAMPLING
    return np.asarray(scipy.fft.ifft(narrow), np.complex64)


def wiener_phase(count: int, linewidth: float, rng: np.random.Generator) -> Float64[np.ndarray, "count"]:
    """Phase of a free-running oscillator in rad, from 0: a random walk of variance 2π·linewidth·t.

    `linewidth` is the full width at half maximum of its Lorentzian line, in cycles per sample; for a link it is the
    sum of both ends' linewidths.
    """
    steps = rng.standard_normal(count) * np.sqrt(2 * np.pi * linewidth)
    steps[:1] = 0
    return np.asarray(np.cumsum(steps))


def iq_imbalance(samples: Complex64[np.ndarray, "n"], gain_db: float, phase_deg: float) -> Complex64[np.ndarray, "n"]:
    """A direct-conversion receiver whose Q branch has another gain and is not at a right angle to I.

    y = αx + βx*, α = (1 + g·e^-jφ)/2, β = (1 - g·e^jφ)/2; the image is rejected by |α/β|².
    """
    branch = complex(10 ** (gain_db / 20) * np.exp(1j * np.deg2rad(phase_deg)))
    direct, image = (1 + branch.conjugate()) / 2, (1 - branch) / 2
    return np.asarray(direct * samples + image * samples.conj(), np.complex64)


def quantise(samples: Complex64[np.ndarray, "n"], bits: int, full_scale: float) -> Complex64[np.ndarray, "n"]:
    """A converter of that many bits for each of I and Q: mid-tread, in steps of 2·full_scale/2^bits, clipped."""
    codes = 1 << (bits - 1)
    parts = np.rint(np.ascontiguousarray(samples).view(np.float32) * np.float32(codes / full_scale))
    np.clip(parts, -codes, codes - 1, out=parts)
    parts *= np.float32(full_scale / codes)
    quantised: Complex64[np.ndarray, n] = parts.view(np.complex64)
    return quantised
