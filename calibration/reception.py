"""From what is heard in a recording to pictures, and to lines for people."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from calibration.compare import quality_json
from calibration.hearing import Hearing
from flowgraphs.errors import LinkError
from flowgraphs.link import decode
from models.codec import Codec
from models.errors import ModelError
from models.image import save_image
from models.metrics import quality


def receive_pictures(
    codec: Codec,
    hearing: Hearing,
    folder: Path,
    original: UInt8[np.ndarray, "h w 3"] | None,
    *,
    steps: int | None,
    seed: int,
    stage: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Decode every image that is heard into received_000.png and so on, and describe each for JSON.

    An image that cannot be decoded has no `file` but a `reason`, and does not stop the others. `original` is what the
    pictures are compared with; `stage` is told what is being done.

    Raises:
        ModelError: a picture cannot be written.
        SdrError: the recording cannot be read.
    """
    images: list[dict[str, Any]] = []
    stage("search for packets")
    for found in hearing.images():
        entry: dict[str, Any] = {"file": None, **hearing.describe(found)}
        images.append(entry)
        stage(f"decode picture {len(images)}")
        try:
            picture = decode(codec, found, steps=steps, seed=seed)
        except (LinkError, ModelError) as error:
            entry["reason"] = str(error)
            continue
        file = folder / f"received_{len(images) - 1:03d}.png"
        save_image(file, picture)
        entry["file"] = str(file)
        if original is not None and original.shape == picture.shape:
            entry["quality"] = quality_json(quality(original, picture))
        elif original is not None:
            entry["reason"] = f"the reference is {original.shape[1]}×{original.shape[0]}: no quality measured"
    return images


def image_line(name: str, image: Mapping[str, Any]) -> str:
    """What `Hearing.describe` and `receive_pictures` say of one image, in one line."""
    measured = image.get("quality")
    return (
        f"{name}: SNR {image['snr_db_estimated']:.1f} dB, CFO {round(image['cfo_hz_estimated'])} Hz, "
        f"{image['packets_received']} of {image['packets_expected']} packets"
        + (f", PSNR {measured['psnr_db']:.2f} dB" if measured and measured["psnr_db"] is not None else "")
        + "".join(f" – {image[key]}" for key in ("incomplete", "reason") if key in image)
    )


def rejected_line(hearing: Hearing) -> str:
    """Preambles that led to no packet, by reason."""
    faulty = ", ".join(f"{count} × {reason}" for reason, count in hearing.faulty().items())
    return f"packets rejected: {faulty or 'none'}"
