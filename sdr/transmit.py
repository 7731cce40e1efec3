"""Symbols and side information of one image to the samples of its packets."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex64

from sdr import header, ofdm, sequences
from sdr.errors import SdrError
from sdr.framing import FramePlan, encode_side, plan_frame
from sdr.header import IMAGE_ID_LIMIT, SESSION_LIMIT, Header
from sdr.waveform import Waveform

_CLIP_KNEE = 0.8
_POWER_RANGE = (0.8, 1.25)


@dataclass(frozen=True)
class PacketSpan:
    """Where a packet lies in a sample stream."""

    start_sample: int
    samples: int


@dataclass(frozen=True, eq=False)
class Transmission:
    """The samples of one image and where its packets lie in them."""

    samples: Complex64[np.ndarray, "samples"]
    """Full scale is 1.0; nominal rms is the waveform's `tx_rms`."""
    packets: tuple[PacketSpan, ...]
    channel_uses: int
    """Complex channel uses of everything sent: preambles, headers, pilots, payload, padding."""
    side_symbols: int
    """Complex symbols of side information with its FEC and copies."""


def transmit(
    symbols: Complex64[np.ndarray, "n"],
    side: bytes,
    waveform: Waveform,
    *,
    session: int,
    image_id: int,
    repetition: int,
) -> Transmission:
    """Build the packets of one image, back to back.

    `symbols` has mean power 1 (any value is sent as it is, up to the clip at full scale). Raises SdrError for symbols
    that are not finite or not of mean power 1, and for numbers that the header cannot express.
    """
    _check(symbols, session, image_id)
    plan = plan_frame(waveform, symbols.size, len(side), repetition)
    stream = np.concatenate([np.repeat(encode_side(side), repetition), symbols])
    padding = sequences.qpsk("padding", plan.packets * plan.slots - stream.size)
    payload = np.concatenate([stream, padding])[plan.stream_index()]
    length = waveform.packet_samples(plan.payload_symbols)
    headers = [
        Header(session, image_id, index, plan.packets, symbols.size, len(side), repetition)
        for index in range(plan.packets)
    ]
    samples = np.empty((plan.packets, length), np.complex64)
    for index, points in enumerate(header.modulate(headers, waveform)):
        samples[index] = _packet(points, payload[index], plan, waveform)
    return Transmission(
        samples=samples.reshape(-1),
        packets=tuple(PacketSpan(index * length, length) for index in range(plan.packets)),
        channel_uses=waveform.channel_uses(samples.size),
        side_symbols=plan.side_symbols,
    )


def _packet(
    header_points: Complex64[np.ndarray, "header data"],
    payload: Complex64[np.ndarray, "slots"],
    plan: FramePlan,
    waveform: Waveform,
) -> Complex64[np.ndarray, "samples"]:
    layout = ofdm.grid(waveform)
    rows = waveform.header_symbols + plan.payload_symbols
    values = np.empty((rows, waveform.used_subcarriers), np.complex64)
    values[:, layout.pilot] = layout.pilot_values[:rows]
    data = np.concatenate(
        [
            header_points * layout.header_scramble,
            payload.reshape(plan.payload_symbols, -1) * layout.payload_scramble[: plan.payload_symbols],
        ]
    )
    values[:, layout.data] = data
    body = ofdm.add_prefix(ofdm.to_time(values, layout.carriers, waveform), waveform)
    return _soft_clip(np.concatenate([layout.preamble, body]))


def _soft_clip(samples: Complex64[np.ndarray, "n"]) -> Complex64[np.ndarray, "n"]:
    """Bend magnitudes above the knee smoothly towards, and never past, full scale."""
    magnitude = np.abs(samples)
    room = 1 - _CLIP_KNEE
    over = magnitude > _CLIP_KNEE
    clipped = samples.copy()
    bent = _CLIP_KNEE + room * np.tanh((magnitude[over] - _CLIP_KNEE) / room)
    clipped[over] *= 0.9999 * bent / magnitude[over]  # the margin keeps float32 rounding below 1.0
    return clipped


def _check(symbols: Complex64[np.ndarray, "n"], session: int, image_id: int) -> None:
    if not np.all(np.isfinite(symbols)):
        raise SdrError("symbols contain NaN or infinity")
    if symbols.size:
        power = float(np.mean(np.abs(symbols.astype(np.complex128)) ** 2))
        if not _POWER_RANGE[0] <= power <= _POWER_RANGE[1]:
            raise SdrError(f"symbols must have mean power 1, got {power:.3g}: divide them by {power**0.5:.3g}")
    if not 0 <= session < SESSION_LIMIT:
        raise SdrError(f"session must lie in 0…{SESSION_LIMIT - 1}, got {session}")
    if not 0 <= image_id < IMAGE_ID_LIMIT:
        raise SdrError(f"image_id must lie in 0…{IMAGE_ID_LIMIT - 1}, got {image_id}")
