"""One image through transmitter, software channel and receiver."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sdr.channel import Channel
from sdr.impairments import ChannelRealisation, apply_channel, draw_channel
from sdr.receive import ReceivedImage, Receiver
from sdr.transmit import Transmission, transmit
from sdr.waveform import DEFAULT, Waveform


def gaussian(count: int, rng: np.random.Generator) -> np.ndarray:
    """Complex Gaussian symbols of mean power exactly 1, as a learned code sends."""
    values = rng.standard_normal(count) + 1j * rng.standard_normal(count)
    power = np.mean(np.abs(values) ** 2) if count else 1.0
    scaled: np.ndarray = (values / np.sqrt(power)).astype(np.complex64)
    return scaled


@dataclass(frozen=True)
class Passage:
    symbols: np.ndarray
    side: bytes
    transmission: Transmission
    channel: ChannelRealisation
    samples: np.ndarray
    """As received."""


def passage(
    seed: int,
    *,
    name: str = "awgn",
    count: int = 16384,
    side_bytes: int = 60,
    repetition: int = 2,
    image_id: int = 1,
    waveform: Waveform = DEFAULT,
    snr_db: float = 10.0,
    delay_samples: float | None = None,
    **conditions: Any,
) -> Passage:
    rng = np.random.default_rng(seed)
    symbols, side = gaussian(count, rng), rng.bytes(side_bytes)
    sent = transmit(symbols, side, waveform, session=77, image_id=image_id, repetition=repetition)
    channel = Channel(name, snr_db, **conditions)
    drawn = draw_channel(channel, waveform, len(sent.packets), rng, delay_samples=delay_samples)
    return Passage(symbols, side, sent, drawn, apply_channel(sent.samples, sent.packets, drawn))


def receive(samples: np.ndarray, waveform: Waveform = DEFAULT) -> list[ReceivedImage]:
    receiver = Receiver(waveform)
    return receiver.push(samples) + receiver.flush()


def mean_error(sent: np.ndarray, image: ReceivedImage) -> float:
    """Mean squared error of the symbols that arrived."""
    arrived = np.isfinite(image.noise_var)
    return float(np.mean(np.abs(image.symbols - sent)[arrived] ** 2))
