"""The whole way of a picture, without GNU Radio: encode, transmit, air, receive, decode.

Here alone do the learned code and the radio meet; they exchange `symbols`, `side` and `noise_var`.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex64, Float32, UInt8

from flowgraphs.errors import LinkError
from models.codec import Codec, Encoded
from sdr.channel import Channel
from sdr.framing import side_repetition, side_symbols
from sdr.impairments import apply_channel, draw_channel
from sdr.receive import ReceivedImage, Receiver
from sdr.transmit import Transmission, transmit
from sdr.waveform import Waveform


@dataclass(frozen=True, eq=False)
class Sent:
    """An encoded picture and its samples.

    Channel bandwidth ratios are complex channel symbols ÷ (3·height·width): `cbr_payload` counts JSCC symbols, `cbr`
    adds side information with its FEC, `cbr_total` everything that is sent, preambles, headers and pilots included.
    """

    encoded: Encoded
    transmission: Transmission
    cbr_payload: float
    cbr: float
    cbr_total: float

    def budget(self) -> dict[str, float]:
        """What was spent, for reports: the three ratios, JSCC symbols, bytes and symbols of side information."""
        return {
            "cbr_payload": self.cbr_payload,
            "cbr": self.cbr,
            "cbr_total": self.cbr_total,
            "symbols": len(self.encoded.symbols),
            "side_bytes": len(self.encoded.side),
            "side_symbols": self.transmission.side_symbols,
        }


@dataclass(frozen=True, eq=False)
class Passage:
    """One picture's way through the software air; `seconds` by stage."""

    sent: Sent
    received: ReceivedImage
    seconds: dict[str, float]


def send(
    codec: Codec,
    image: UInt8[np.ndarray, "h w 3"],
    waveform: Waveform,
    *,
    cbr: float,
    snr_hint_db: float,
    mask: Float32[np.ndarray, "h w"] | None = None,
    session: int = 0,
    image_id: int = 0,
) -> Sent:
    """Encodes a picture and modulates it.

    Raises:
        ModelError: see `Codec.encode`.
        SdrError: more symbols than the header can count.
    """
    encoded = encode(codec, image, cbr=cbr, snr_hint_db=snr_hint_db, mask=mask)
    return modulate(encoded, image.size, waveform, snr_hint_db=snr_hint_db, session=session, image_id=image_id)


def encode(
    codec: Codec,
    image: UInt8[np.ndarray, "h w 3"],
    *,
    cbr: float,
    snr_hint_db: float,
    mask: Float32[np.ndarray, "h w"] | None,
) -> Encoded:
    """`Codec.encode` with the cost that this radio's protection gives to side information."""

    def cost(side_bytes: int) -> int:
        return side_symbols(side_bytes, side_repetition(snr_hint_db, side_bytes))

    return codec.encode(image, cbr=cbr, snr_hint_db=snr_hint_db, mask=mask, side_symbols=cost)


def modulate(
    encoded: Encoded, values: int, waveform: Waveform, *, snr_hint_db: float, session: int, image_id: int
) -> Sent:
    """Samples of an encoded picture of `values` = 3·height·width numbers."""
    repetition = side_repetition(snr_hint_db, len(encoded.side))
    transmission = transmit(
        encoded.symbols, encoded.side, waveform, session=session, image_id=image_id, repetition=repetition
    )
    payload = len(encoded.symbols)
    return Sent(
        encoded,
        transmission,
        cbr_payload=payload / values,
        cbr=(payload + transmission.side_symbols) / values,
        cbr_total=transmission.channel_uses / values,
    )


def through_air(
    transmission: Transmission, waveform: Waveform, channel: Channel, rng: np.random.Generator
) -> Complex64[np.ndarray, "n"]:
    """What a receiver hears of a transmission.

    Raises:
        SdrError: conditions out of range.
    """
    realisation = draw_channel(channel, waveform, len(transmission.packets), rng)
    return apply_channel(transmission.samples, transmission.packets, realisation)


def listen(chunks: Iterable[Complex64[np.ndarray, "n"]], receiver: Receiver) -> Iterable[ReceivedImage]:
    """Every image that `receiver` finds in a stream, as soon as it is complete or timed out."""
    for chunk in chunks:
        yield from receiver.push(chunk)
    yield from receiver.flush()


def decode(
    codec: Codec,
    received: ReceivedImage,
    *,
    steps: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Picture of a received image.

    Raises:
        ModelError: see `Codec.decode`.
        LinkError: the side information was lost, without which there is no picture.
    """
    if received.side is None:
        raise LinkError(
            f"image {received.image_id} of session {received.session}: its side information was lost "
            f"({received.packets_received} of {received.packets_expected} packets came)"
        )
    return codec.decode(
        received.symbols,
        received.noise_var,
        received.snr_db,
        received.side,
        steps=steps,
        seed=seed,
        progress=progress,
    )


def loopback(
    codec: Codec,
    image: UInt8[np.ndarray, "h w 3"],
    waveform: Waveform,
    channel: Channel,
    *,
    cbr: float,
    snr_hint_db: float | None = None,
    mask: Float32[np.ndarray, "h w"] | None = None,
    seed: int = 0,
) -> Passage:
    """Sends a picture through the software air and receives it, up to the decoder's input.

    The sender's SNR hint is the true SNR unless another is given. The same seed gives the same channel whatever the
    codec, so that codecs can be compared on one channel.

    Raises:
        ModelError, SdrError: bad input, see `send` and `through_air`.
        LinkError: the receiver found no image.
    """
    hint = channel.snr_db if snr_hint_db is None else snr_hint_db
    rng = np.random.default_rng(seed)
    clock = [time.perf_counter()]
    encoded = encode(codec, image, cbr=cbr, snr_hint_db=hint, mask=mask)
    clock.append(time.perf_counter())
    session = int(rng.integers(1 << 16))
    sent = modulate(encoded, image.size, waveform, snr_hint_db=hint, session=session, image_id=0)
    clock.append(time.perf_counter())
    samples = through_air(sent.transmission, waveform, channel, rng)
    clock.append(time.perf_counter())
    receiver = Receiver(waveform)
    images = [found for found in listen([samples], receiver) if found.session == session]
    clock.append(time.perf_counter())
    if not images:
        raise LinkError(
            f"no packet was recognised at {channel.snr_db:g} dB SNR on channel {channel.fading!r} "
            f"({receiver.packets_rejected} rejected): raise --snr-db or lower --loss"
        )
    stages = ("encode", "transmit", "channel", "receive")
    seconds = {stage: after - before for stage, before, after in zip(stages, clock, clock[1:], strict=False)}
    return Passage(sent, images[0], seconds)
