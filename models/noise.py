"""How much noise there is, by what the receiver says and by what the symbols themselves show.

Every codec sends a mean power of exactly 1, so that what arrives above it is noise: with thousands of symbols that
tells a low SNR well and a high one not at all. The two are put together as independent Gaussian measurements of the
noise in dB are, each by its uncertainty. A receiver that knows its noise is hardly touched; one that is 3 dB off at
5 dB, calibrated wrongly or written by somebody else, is put right.
"""

import numpy as np
from jaxtyping import Complex64, Float32

TOLD_DB = 1.5  # standard deviation that the receiver's estimate is trusted with
POWER_ERROR = 0.03  # of the equaliser's gain, as our own receiver shows it: no number of symbols averages it away
SPREAD = 4.0  # variance of |x|² of what the codecs send, which counts where some of it is lost
WIDEST = 10.0  # factor by which the estimate is corrected at most


def correction(symbols: Complex64[np.ndarray, "n"], noise_var: Float32[np.ndarray, "n"]) -> float:
    """Factor, 1/`WIDEST`…`WIDEST`, by which to multiply the noise variances that the receiver states.

    Args:
        symbols: received, of mean power 1 without noise.
        noise_var: that the receiver states of each, relative to that power, inf = lost.

    Returns:
        1.0 where nothing arrived or no noise is stated; the SNR is to be divided by the same factor.
    """
    told = noise_var[np.isfinite(noise_var)].astype(np.float64)
    arrived = np.abs(symbols[np.isfinite(noise_var)].astype(np.complex128)) ** 2
    if not told.size or told.max() <= 0:
        return 1.0
    weight = 1 / (1 + told) ** 2  # of the clean ones more
    weight /= weight.sum()
    expected = float(weight @ told)
    ratio = float(weight @ arrived - 1) / expected
    lost = 1 - told.size / noise_var.size
    spread = float(weight**2 @ (2 * told + told**2 + SPREAD * lost)) + POWER_ERROR**2
    told_variance = (TOLD_DB * np.log(10) / 10) ** 2
    trust = told_variance / (told_variance + spread / expected**2)
    return float(np.clip(ratio, 1 / WIDEST, WIDEST) ** trust)
