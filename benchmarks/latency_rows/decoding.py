"""A picture on its way, stage by stage, and the decoder alone in every runtime."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.latency_rows.timing import Times, take_turns
from flowgraphs import link
from models.codec import Codec
from models.image import default_photo
from models.pipeline import JsccCodec
from sdr.channel import Channel
from sdr.receive import ReceivedImage, Receiver
from sdr.waveform import DEFAULT

CBR, SNR_DB = 1 / 12, 10.0

Key = tuple[str, int, int]
"""Runtime, steps, pictures at once."""


def photograph(height: int, width: int) -> np.ndarray:
    """uint8[h, w, 3]: the default one, resized."""
    return np.asarray(Image.fromarray(default_photo()[0]).resize((width, height), Image.Resampling.LANCZOS))


@dataclass(frozen=True)
class Stages:
    """Times of what comes before the decoder; what it then is given; how long the burst is on the air."""

    times: dict[str, Times]
    found: ReceivedImage
    air_s: float
    samples: int


def before_decoding(codec: Codec, size: tuple[int, int], rounds: int, told: Callable[[], None]) -> Stages:
    """Encode, transmit and receive a picture of (height, width) through white noise at 10 dB, CBR 1/12."""
    image = photograph(*size)
    encode = partial(link.encode, codec, image, cbr=CBR, snr_hint_db=SNR_DB, mask=None)
    encoded = encode()
    modulate = partial(link.modulate, encoded, image.size, DEFAULT, snr_hint_db=SNR_DB, session=7, image_id=0)
    sent = modulate()
    channel = Channel(fading="awgn", snr_db=SNR_DB)
    heard = link.through_air(sent.transmission, DEFAULT, channel, np.random.default_rng(0))

    def receive() -> list[ReceivedImage]:
        return list(link.listen([heard], Receiver(DEFAULT)))

    (found,) = receive()
    times = take_turns({"encode": encode, "transmit": modulate, "receive": receive}, rounds, told)
    return Stages(times, found, len(heard) / DEFAULT.sample_rate_hz, len(heard))


def decode_cases(
    codecs: dict[str, JsccCodec], found: ReceivedImage, steps: tuple[int, ...], batch: int
) -> dict[Key, Callable[[], Any]]:
    """Decoding of `batch` copies of what was received, by runtime and number of steps."""
    assert found.side is not None
    given = (found.symbols, found.noise_var, found.snr_db, found.side)

    def decode(codec: JsccCodec, count: int) -> None:
        codec.paint([codec.read(*given, steps=count, seed=seed) for seed in range(batch)])

    return {(name, count, batch): partial(decode, codec, count) for name, codec in codecs.items() for count in steps}
