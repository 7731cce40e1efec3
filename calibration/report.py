"""Pictures for people: a comparison sheet with captions."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw, ImageFont

from calibration.compare import Comparison
from models.metrics import Quality
from sdr.channel import Channel

_MARGIN = 12
_CAPTION_LINES = 2
_ROI_COLOUR = (255, 176, 0)  # amber: told apart from most pictures by colour-blind readers too
_LARGEST_PANEL = 900  # pixels


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a sheet; None where nothing was received. Captions are short: title, then details."""

    picture: UInt8[np.ndarray, "h w 3"] | None
    title: str
    details: str
    roi: Float32[np.ndarray, "h w"] | None = None


def describe(measured: Quality | None) -> str:
    """'PSNR 29.1 dB · MS-SSIM 0.970 · LPIPS 0.110' as far as there are values."""
    if measured is None:
        return "not received"
    parts = [f"PSNR {measured.psnr_db:.1f} dB", f"MS-SSIM {measured.ms_ssim:.3f}"]
    if measured.lpips is not None:
        parts.append(f"LPIPS {measured.lpips:.3f}")
    return " · ".join(parts)


def sheet(panels: list[Panel], heading: str, columns: int = 2) -> UInt8[np.ndarray, "h w 3"]:
    """Panels in a grid with captions below each, as one RGB picture.

    Pictures are shown at their own size, within 256…900 pixels of width; the region of interest is outlined.
    """
    height, width = next(panel.picture.shape[:2] for panel in panels if panel.picture is not None)
    scale = min(1.0, _LARGEST_PANEL / max(height, width))
    scale = max(scale, 256 / max(height, width))
    shown = (max(1, round(width * scale)), max(1, round(height * scale)))
    cell_width = max(shown[0], 400)
    title_font, font = (ImageFont.load_default(size) for size in (18, 15))
    caption = 24 * _CAPTION_LINES + 6
    rows = -(-len(panels) // columns)
    size = (
        columns * (cell_width + _MARGIN) + _MARGIN,
        rows * (shown[1] + caption + _MARGIN) + 2 * _MARGIN + 26,
    )
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, _MARGIN), heading, fill="black", font=title_font)
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        left = _MARGIN + column * (cell_width + _MARGIN)
        top = 2 * _MARGIN + 26 + row * (shown[1] + caption + _MARGIN)
        if panel.picture is None:
            draw.rectangle((left, top, left + shown[0] - 1, top + shown[1] - 1), fill=(200, 200, 200))
        else:
            picture = panel.picture if panel.roi is None else _outline(panel.picture, panel.roi)
            method = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
            canvas.paste(Image.fromarray(picture).resize(shown, method), (left, top))
        draw.text((left, top + shown[1] + 4), panel.title, fill="black", font=title_font)
        draw.text((left, top + shown[1] + 28), panel.details, fill=(60, 60, 60), font=font)
    return np.asarray(canvas)


def comparison_sheet(
    result: Comparison,
    image: UInt8[np.ndarray, "h w 3"],
    mask: Float32[np.ndarray, "h w"] | None,
    channel: Channel,
    cbr: float,
) -> UInt8[np.ndarray, "rows columns 3"]:
    """Original, LRISC's picture and both baselines, with what they measured."""
    region = "  ·  region of interest outlined" if mask is not None else ""
    panels = [Panel(image, "original", f"{image.shape[1]} x {image.shape[0]}{region}", mask)]
    titles = {"lrisc": "LRISC (received)", "deepjscc": "DeepJSCC", "digital": f"digital, {result.digital.format}"}
    for method, title in titles.items():
        roi = mask if method == "lrisc" else None
        panels.append(Panel(result.pictures[method], title, describe(result.quality[method]), roi))
    return sheet(panels, f"{channel.fading}, SNR {channel.snr_db:g} dB, CBR {cbr:.4f} (1/{1 / cbr:.3g})")


def _outline(picture: UInt8[np.ndarray, "h w 3"], roi: Float32[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """`picture` with the border of the region of interest drawn in."""
    inside = np.pad(roi >= 0.5, 2)
    height, width = roi.shape
    core = np.ones((height, width), dtype=bool)
    for row in range(5):
        for column in range(5):
            core &= inside[row : row + height, column : column + width]
    result = picture.copy()
    result[inside[2:-2, 2:-2] & ~core] = _ROI_COLOUR
    return result
