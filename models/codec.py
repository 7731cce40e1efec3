"""What a codec is: anything that turns a picture into symbols and side information, and back.

Whatever has the members of `Codec` can be sent over the radio; `models.registry.load_codec` finds it by name. Callers
use nothing of a codec but these members. `check_request`, `check_received` and `grey_picture` are what every codec
does alike. The conformance suite is tests/contract/test_codec.py.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Complex64, Float32, UInt8

from models.errors import ModelError

CBR_RANGE = (1 / 128, 1 / 5)
SNR_RANGE_DB = (-10.0, 40.0)
ROI_STRONGEST = 4.0  # largest value of a region of interest's mask
LONGEST_SIDE = 65_535  # pixels of a picture
GREY = 128  # of the flat picture that stands for one of which nothing arrived

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Encoded:
    """`symbols` complex64[n] of mean power 1; `side` must arrive exactly."""

    symbols: Complex64[np.ndarray, "n"]
    side: bytes


@runtime_checkable
class Codec(Protocol):
    """A joint source-channel coder as the link sees it; the radio never knows which one it carries.

    Attributes:
        name: for people and reports.
    """

    name: str

    @property
    def parameters(self) -> int:
        """Trained parameters of all parts."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 over the weights, hexadecimal: the sender's and the receiver's must be the same."""
        ...

    @property
    def device(self) -> str:
        """That it runs on, as torch writes it: "cpu", "cuda:0"."""
        ...

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

        Codecs that can send only certain numbers of symbols (DeepJSCC of 2019) meet the CBR with the symbols alone.

        Args:
            image: a grey picture is one of three equal channels.
            mask: region of interest as weights, 0 outside, 1 as trained, up to `ROI_STRONGEST`; zeros are as None, to
                the bit. Codecs without regions of interest take no notice.
            side_symbols: how many channel symbols a number of side-information bytes occupies, FEC included.

        Raises:
            ModelError: CBR or SNR out of range or not among those that the codec was made for, a mask of another size,
                or a picture too small for its side information at this CBR.
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
        """Decodes to the size that the picture had. The same arguments give the same picture.

        Where every symbol is erased the picture is flat grey, and the log has a warning. Side information that is no
        codec's own never leads to more than an error, or to a wrong picture of at most `models.image.MAX_PIXELS`.

        Args:
            noise_var: of each symbol, relative to unit symbol power, inf = erased.
            steps: denoising steps, 0 for the direct decoder alone, None for the codec's default.
            seed: of the diffusion noise.
            progress: called with (steps done, steps).

        Raises:
            ModelError: no symbols, lengths that disagree, NaN, negative variances, or side information that does not
                decode or belongs to other weights.
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


def check_request(
    image: UInt8[np.ndarray, "h w 3"], mask: Float32[np.ndarray, "h2 w2"] | None, cbr: float, snr_db: float
) -> None:
    """Refuses what no codec can encode.

    Raises:
        ModelError: CBR or SNR outside `CBR_RANGE` and `SNR_RANGE_DB`, a mask of another size or with values outside
            0…`ROI_STRONGEST`, a picture longer than `LONGEST_SIDE`.
    """
    low, high = CBR_RANGE
    if not low <= cbr <= high:
        raise ModelError(f"CBR {cbr:g} is out of range: choose 1/{round(1 / low)} to 1/{round(1 / high)}")
    low, high = SNR_RANGE_DB
    if not low <= snr_db <= high:
        raise ModelError(f"SNR {snr_db:g} dB is out of range: choose {low:g} to {high:g} dB")
    height, width = image.shape[:2]
    if max(height, width) > LONGEST_SIDE:
        raise ModelError(f"a {width}×{height} picture is too long: its sides may have up to {LONGEST_SIDE} pixels")
    if mask is not None and mask.shape != (height, width):
        raise ModelError(f"the region of interest is {mask.shape[1]}×{mask.shape[0]}, the picture {width}×{height}")
    if mask is not None and not (np.isfinite(mask).all() and mask.min() >= 0 and mask.max() <= ROI_STRONGEST):
        raise ModelError(
            f"the region of interest has values outside 0…{ROI_STRONGEST:g}: 1 is what it weighs as trained"
        )


def check_received(symbols: Complex64[np.ndarray, "n"], noise_var: Float32[np.ndarray, "m"], snr_db: float) -> None:
    """Refuses received values that no decoder can use.

    Raises:
        ModelError: no symbols, unequal lengths, NaN or infinite symbols, NaN or negative noise variances, NaN SNR.
    """
    if not len(symbols):
        raise ModelError("no symbols were received: there is nothing to decode")
    if symbols.shape != noise_var.shape:
        raise ModelError(f"{len(symbols)} symbols came with {len(noise_var)} noise variances; their number must agree")
    if not np.isfinite(symbols).all() or np.isnan(noise_var).any() or (noise_var < 0).any() or not np.isfinite(snr_db):
        raise ModelError("symbols or SNR are not finite, or a noise variance is NaN or negative; fix the receiver")


def grey_picture(height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """What stands for a picture of which no symbol arrived; says so in the log."""
    log.warning("no symbol of a %d×%d picture arrived, only its size: it is left grey", width, height)
    return np.full((height, width, 3), GREY, dtype=np.uint8)
