"""What a codec is: anything that turns a picture into symbols and side information, and back."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Complex64, Float32, UInt8

from models.errors import ModelError

CBR_RANGE = (1 / 128, 1 / 5)
SNR_RANGE_DB = (-10.0, 40.0)


@dataclass(frozen=True)
class Encoded:
    """`symbols` complex64[n] of mean power 1 in importance order; `side` must arrive exactly."""

    symbols: Complex64[np.ndarray, "n"]
    side: bytes


@runtime_checkable
class Codec(Protocol):
    """A learned joint source-channel coder as the link sees it; the radio never knows which one it carries."""

    name: str

    def encode(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        *,
        cbr: float,
        snr_hint_db: float,
        mask: Float32[np.ndarray, "h w"] | None,
        side_symbols: Callable[[int], int],
    ) -> Encoded:
        """Encodes so that symbols and side information together take 98…100 % of ⌊cbr·3·h·w⌋ channel symbols.

        Args:
            mask: region of interest, 0…1, or None.
            side_symbols: how many channel symbols a number of side-information bytes occupies, FEC included.

        Raises:
            ModelError: CBR or SNR out of range, mask of another size, or a picture too small for the CBR.
        """
        ...

    def decode(
        self,
        symbols: Complex64[np.ndarray, "n"],
        noise_var: Float32[np.ndarray, "n"],
        snr_db: float,
        side: bytes,
        *,
        steps: int | None = None,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Decodes.

        Args:
            noise_var: of each symbol, relative to unit symbol power, inf = erased.
            steps: denoising steps, 0 for the direct decoder alone, None for the codec's default.
            seed: of the diffusion noise.
            progress: called with (steps done, steps).

        Raises:
            ModelError: lengths disagree, NaN, negative variances, or side information that does not decode.
        """
        ...


def parse_cbr(text: str) -> float:
    """'1/12' or '0.083' → channel symbols per picture value.

    Raises:
        ModelError: not a number.
    """
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError) as error:
        raise ModelError(f"CBR {text!r} is not a ratio: write 1/12 or 0.083") from error


def check_request(cbr: float, snr_db: float) -> None:
    """Refuses operating points outside `CBR_RANGE` and `SNR_RANGE_DB`.

    Raises:
        ModelError: with the number and the range.
    """
    low, high = CBR_RANGE
    if not low <= cbr <= high:
        raise ModelError(f"CBR {cbr:g} is out of range: choose 1/{round(1 / low)} to 1/{round(1 / high)}")
    low, high = SNR_RANGE_DB
    if not low <= snr_db <= high:
        raise ModelError(f"SNR {snr_db:g} dB is out of range: choose {low:g} to {high:g} dB")


def check_received(symbols: Complex64[np.ndarray, "n"], noise_var: Float32[np.ndarray, "m"], snr_db: float) -> None:
    """Refuses received values that no decoder can use.

    Raises:
        ModelError: unequal lengths, NaN or infinite symbols, NaN or negative noise variances, NaN SNR.
    """
    if symbols.shape != noise_var.shape:
        raise ModelError(f"{len(symbols)} symbols came with {len(noise_var)} noise variances; their number must agree")
    if not np.isfinite(symbols).all() or np.isnan(noise_var).any() or (noise_var < 0).any() or not np.isfinite(snr_db):
        raise ModelError("symbols or SNR are not finite, or a noise variance is NaN or negative; fix the receiver")
