"""One picture through one channel with LRISC and every baseline, each given the same symbols."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from flowgraphs.errors import LinkError
from flowgraphs.link import Passage, decode, loopback
from models.codec import Codec
from models.digital import DigitalResult, digital_reference
from models.metrics import Quality, quality
from sdr.channel import Channel
from sdr.waveform import Waveform

METHODS = ("lrisc", "direct", "deepjscc", "digital")


@dataclass(frozen=True, eq=False)
class Comparison:
    """What came out of `compare`.

    `pictures` uint8[h, w, 3] and `quality` by name of `METHODS`, None where nothing was received. "direct" is LRISC
    without diffusion. `decode_seconds` is LRISC's.
    """

    passage: Passage
    pictures: dict[str, UInt8[np.ndarray, "h w 3"] | None]
    quality: dict[str, Quality | None]
    digital: DigitalResult
    decode_seconds: float


def compare(
    lrisc: Codec,
    deepjscc: Codec,
    image: UInt8[np.ndarray, "h w 3"],
    waveform: Waveform,
    channel: Channel,
    *,
    cbr: float,
    mask: Float32[np.ndarray, "h w"] | None = None,
    steps: int | None = None,
    seed: int = 0,
    stage: Callable[[str], None] = lambda name: None,
) -> Comparison:
    """Sends `image` with both codecs over the same channel realisation and codes it digitally for the same CBR.

    Args:
        stage: told what is being done, for people.

    Raises:
        ModelError, SdrError: bad input.
        LinkError: LRISC's picture did not come through.
    """
    stage("LRISC: encode, transmit, receive")
    passage = loopback(lrisc, image, waveform, channel, cbr=cbr, mask=mask, seed=seed)
    pictures: dict[str, UInt8[np.ndarray, "h w 3"] | None] = {}
    stage("LRISC: decode")
    begun = time.perf_counter()
    pictures["lrisc"] = decode(lrisc, passage.received, steps=steps, seed=seed)
    decode_seconds = time.perf_counter() - begun
    pictures["direct"] = decode(lrisc, passage.received, steps=0)
    stage("DeepJSCC")
    try:
        other = loopback(deepjscc, image, waveform, channel, cbr=cbr, seed=seed)
        pictures["deepjscc"] = decode(deepjscc, other.received)
    except LinkError:  # heard, but not whole enough to decode
        pictures["deepjscc"] = None
    stage("digital baseline")
    digital = digital_reference(image, cbr, channel.snr_db)
    pictures["digital"] = digital.image
    stage("metrics")
    qualities = {name: quality(image, picture) if picture is not None else None for name, picture in pictures.items()}
    return Comparison(passage, pictures, qualities, digital, decode_seconds)


def quality_json(measured: Quality | None) -> dict[str, float | str | None] | None:
    """PSNR, MS-SSIM and LPIPS for JSON, which has no infinity: null for identical pictures' PSNR."""
    if measured is None:
        return None
    values: dict[str, float | str | None] = {
        "psnr_db": measured.psnr_db if np.isfinite(measured.psnr_db) else None,
        "ms_ssim": measured.ms_ssim,
        "lpips": measured.lpips,
    }
    if measured.lpips_missing is not None:
        values["lpips_missing"] = measured.lpips_missing
    return values


def identity(image: UInt8[np.ndarray, "h w 3"], path: str, codec: Codec) -> dict[str, Any]:
    """Which picture and which weights a report is about."""
    return {
        "image": {"path": path, "height": image.shape[0], "width": image.shape[1]},
        "model": {"name": codec.name, "parameters": codec.parameters, "weights_sha256": codec.digest},
    }


def loopback_report(
    result: Comparison, codec: Codec, image: UInt8[np.ndarray, "h w 3"], path: str, channel: Channel
) -> dict[str, Any]:
    """All numbers of a comparison, for JSON."""
    received, transmission = result.passage.received, result.passage.sent.transmission
    return {
        **identity(image, path, codec),
        **result.passage.sent.budget(),
        "channel": asdict(channel),
        "snr_db_true": channel.snr_db,
        "snr_db_estimated": received.snr_db,
        "cfo_hz_true": channel.cfo_hz,
        "cfo_hz_estimated": received.cfo_hz,
        "sfo_ppm_estimated": received.sfo_ppm,
        "packets_sent": len(transmission.packets),
        "packets_received": received.packets_received,
        "quality": {method: quality_json(measured) for method, measured in result.quality.items()},
        "digital": {"format": result.digital.format, "bytes": result.digital.bytes, "scale": result.digital.scale},
        "seconds": {**result.passage.seconds, "decode": result.decode_seconds},
        "device": codec.device,
    }
