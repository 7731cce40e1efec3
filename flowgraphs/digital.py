"""The digital link with a code that exists: a picture file, LDPC and QAM over this modem.

It sends what `models.digital` chooses for an ideal code: the best of JPEG, WebP and AVIF that the bits allow, without
the boxes that a receiver can put back. Here the bits are those of the fastest of `flowgraphs.modes.MODES` that the
sender's SNR hint is known to carry. Waveform, packets, receiver and charging of the CBR are those of all other codecs.
Nothing is drawn from a damaged file: where the checksum is wrong, the picture is lost. That is a digital link's cliff.

It stands here and not in `models` because gr-fec is part of GNU Radio. `--model flowgraphs/digital.py:load` gives it to
every command, `digital-real` to a campaign.
"""

import hashlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import numpy as np
from jaxtyping import Complex64, Float32, UInt8

from flowgraphs import ldpc
from flowgraphs.errors import LinkError
from flowgraphs.modes import MODES, choose, demodulate, modulate
from models.codec import Encoded, check_received, check_request, grey_picture
from models.digital import FORMATS, MEAN_COLOUR, best_within, restore
from models.errors import ModelError
from models.image import MAX_PIXELS

_NAMES = (MEAN_COLOUR, *FORMATS)
_SIDE = struct.Struct(">BHHBBI")  # digest's first byte, height, width, format and halvings of the area, mode, bytes
_SHRINKS = 32  # that the fourth field counts, of each format
_CRC_BYTES = 4


class DigitalLink:
    """A `models.codec.Codec` but for one thing: `decode` raises LinkError for a picture that is lost.

    Raises:
        ModelError: no gr-fec or none of its matrices here.
    """

    name = "digital-real"
    parameters = 0
    device = "cpu"

    def __init__(self) -> None:
        matrices = {mode.code.file: Path(ldpc.matrix(mode.code)).read_bytes() for mode in MODES}
        version = repr([astuple(mode) for mode in MODES]).encode() + b"".join(matrices.values())
        self.digest = hashlib.sha256(version).hexdigest()
        """Of modes and codes, which sender and receiver must have in common."""

    def encode(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        *,
        cbr: float,
        snr_hint_db: float,
        mask: Float32[np.ndarray, "h w"] | None,
        side_symbols: Callable[[int], int],
    ) -> Encoded:
        """See `models.codec.Codec.encode`. There are no regions of interest.

        Below the lowest mode's SNR that mode is taken, and will not arrive.
        """
        check_request(image, mask, cbr, snr_hint_db)
        symbols = int(cbr * image.size) - side_symbols(_SIDE.size)
        mode = choose(snr_hint_db)
        room = mode.data_bytes(max(symbols, 0)) - _CRC_BYTES
        if room < 3:
            raise ModelError(
                f"a {image.shape[1]}×{image.shape[0]} picture at CBR {cbr:g} has room for no LDPC block at "
                f"{snr_hint_db:g} dB: send a larger picture or raise the CBR"
            )
        found = best_within(image, 8 * room)
        data = found.stream + zlib.crc32(found.stream).to_bytes(_CRC_BYTES, "big")
        sent = modulate(data, mode, symbols)
        shrinks = round(-2 * np.log2(found.scale)) if found.scale else 0
        kind = _NAMES.index(found.format) * _SHRINKS + shrinks
        first = bytes.fromhex(self.digest)[0]
        side = _SIDE.pack(first, *image.shape[:2], kind, MODES.index(mode), len(found.stream))
        # The power of so many random symbols is not quite 1; a receiver does not notice the difference.
        return Encoded(np.asarray(sent / np.sqrt(np.mean(np.abs(sent) ** 2)), np.complex64), side)

    def decode(
        self,
        symbols: Complex64[np.ndarray, "n"],
        noise_var: Float32[np.ndarray, "m"],
        snr_db: float,
        side: bytes,
        *,
        steps: int | None = None,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """See `models.codec.Codec.decode`; steps and seed are those of diffusion, which is not here.

        Raises:
            LinkError: the checksum is wrong: too many bits to correct.
            ModelError: see `models.codec.Codec.decode`.
        """
        check_received(symbols, noise_var, snr_db)
        if len(side) != _SIDE.size:
            raise ModelError(f"side information of digital-real has {_SIDE.size} bytes, not {len(side)}")
        first, height, width, kind, index, length = _SIDE.unpack(side)
        if first != bytes.fromhex(self.digest)[0]:
            raise ModelError("the picture was encoded with other codes or modes than those here: use one version")
        name, shrinks = divmod(kind, _SHRINKS)
        sizes = height and width and height * width <= MAX_PIXELS
        if not (sizes and name < len(_NAMES) and index < len(MODES)):
            raise ModelError("side information of digital-real is damaged")
        mode = MODES[index]
        if not length + _CRC_BYTES <= mode.data_bytes(len(symbols)):
            raise ModelError(f"side information is damaged: {length} bytes do not fit into {len(symbols)} symbols")
        if np.isinf(noise_var).all():
            return grey_picture(height, width)
        data = demodulate(symbols, noise_var, mode)
        stream, checksum = data[:length], data[length : length + _CRC_BYTES]
        if zlib.crc32(stream).to_bytes(_CRC_BYTES, "big") != checksum:
            raise LinkError(
                f"the LDPC code could not correct the picture's {length} bytes ({mode.name}): "
                f"the channel was worse than the {mode.least_snr_db:g} dB that this mode needs"
            )
        return restore(stream, _NAMES[name], 2 ** (-shrinks / 2), height, width)


def load(device: str = "cpu") -> DigitalLink:
    """For `--model flowgraphs/digital.py:load`; there is nothing for a GPU to do."""
    return DigitalLink()
