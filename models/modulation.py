"""From real channel inputs per latent position to one stream of complex symbols, most important first, and back."""

import torch
from jaxtyping import Bool, Complex64, Float, Int64
from torch import Tensor

GAIN_STEP_DB = 0.25
"""Step of the quantised power gain that the side information carries; one byte spans −32…+31.75 dB."""


def sent_mask(counts: Int64[Tensor, "b h w"], limit: int) -> Bool[Tensor, "b s h w"]:
    """True where symbol s of a position is sent, i.e. s < k: a nested prefix."""
    order = torch.arange(limit, device=counts.device)[None, :, None, None]
    return order < counts[:, None]


def to_stream(symbols: Complex64[Tensor, "s h w"], sent: Bool[Tensor, "s h w"]) -> Complex64[Tensor, "n"]:
    """Symbols in importance order: the first symbol of every position, then the second of those that have one, …"""
    return symbols[sent]


def from_stream(stream: Tensor, sent: Bool[Tensor, "s h w"], fill: float) -> Tensor:
    """Inverse of `to_stream` for symbols and for per-symbol values; what was not sent becomes `fill`."""
    grid = torch.full(sent.shape, fill, dtype=stream.dtype, device=stream.device)
    grid[sent] = stream
    return grid


def to_complex(reals: Float[Tensor, "*b r h w"]) -> Complex64[Tensor, "*b s h w"]:
    """Pairs of adjacent channels (2s, 2s+1) → one complex symbol; unit-power reals give a unit-power symbol."""
    pairs: Tensor = torch.complex(reals[..., 0::2, :, :], reals[..., 1::2, :, :]) * 0.5**0.5
    return pairs


def to_reals(symbols: Complex64[Tensor, "*b s h w"]) -> Float[Tensor, "*b r h w"]:
    """Inverse of `to_complex`."""
    pairs = torch.stack((symbols.real, symbols.imag), dim=-3) * 2**0.5
    return pairs.flatten(-4, -3)


def gain_to_byte(power: float) -> int:
    """Byte that stands for 10·log10(power), rounded to `GAIN_STEP_DB`."""
    decibels = 10 * torch.log10(torch.tensor(max(power, 1e-12))).item()
    return min(max(round(decibels / GAIN_STEP_DB) + 128, 0), 255)


def byte_to_gain(code: int) -> float:
    """Power that the byte stands for."""
    return float(10 ** ((code - 128) * GAIN_STEP_DB / 10))
