"""What displays show of packets: constellation, channel response and SNR over time, as arrays."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Complex64, Float32

from sdr import ofdm
from sdr.candidate import Candidate
from sdr.waveform import Waveform

HISTORY_S, STEP_S = 20.0, 0.1
_FLOOR_DB = -60.0
"""Below what is shown. NaN would stay in the averages of GNU Radio's displays."""


def header_points(waveform: Waveform) -> int:
    """BPSK symbols in a header."""
    return waveform.header_symbols * waveform.data_carriers


def band_points(waveform: Waveform) -> int:
    """Subcarriers from the lowest to the highest, DC included."""
    return 2 * waveform.edge_carrier + 1


def packet_numbers(candidate: Candidate, waveform: Waveform) -> dict[str, Any]:
    """SNR in dB, CFO in Hz, `header` (c32, equalised) and `response` (c32 on the used subcarriers) of a packet."""
    packet, state, spectrum = candidate.packet, candidate.state, candidate.spectrum
    assert packet is not None and state is not None and spectrum is not None
    layout, rows = ofdm.grid(waveform), slice(2, 2 + waveform.header_symbols)
    moment = ofdm.times(waveform, len(spectrum))[rows, None]
    frequency = 2 * np.pi * layout.carriers / waveform.fft_size
    steady = np.exp(1j * (state.drift * moment * frequency - state.phase[rows, None]))
    inverse = state.response.conj() / np.maximum(np.abs(state.response) ** 2, np.finfo(np.float32).tiny)
    header = (spectrum[rows] * steady * inverse)[:, layout.data] * layout.header_scramble.conj()
    return {
        "snr_db": float(10 * np.log10(max(packet.signal / packet.noise, 10 ** (_FLOOR_DB / 10)))),
        "cfo_hz": packet.cfo_hz,
        "header": header.astype(np.complex64).reshape(-1),
        "response": state.response.astype(np.complex64),
    }


def response_db(response: Complex64[np.ndarray, "used"]) -> Float32[np.ndarray, "band"]:
    """Power of the channel from the lowest subcarrier to the highest; between its neighbours at DC, which is unused."""
    power = 10 * np.log10(np.maximum(np.abs(response) ** 2, 10 ** (_FLOOR_DB / 10)))
    middle = len(power) // 2
    curve: np.ndarray = np.insert(power, middle, power[middle - 1 : middle + 1].mean()).astype(np.float32)
    return curve


def thinned(symbols: Complex64[np.ndarray, "n"], count: int) -> Complex64[np.ndarray, "count"]:
    """That many of a packet's payload symbols, evenly over it; some twice if it has fewer."""
    chosen: np.ndarray = symbols[np.arange(count) * symbols.size // count]
    return chosen


class History:
    """A number over the last `HISTORY_S` seconds."""

    def __init__(self) -> None:
        self._values: deque[tuple[float, float]] = deque()

    def add(self, time_s: float, value: float) -> None:
        """Note a value."""
        self._values.append((time_s, value))

    def curve(self, now_s: float) -> Float32[np.ndarray, "steps"]:
        """The last known value at each step up to now; far below all before the first."""
        while len(self._values) > 1 and self._values[1][0] < now_s - HISTORY_S:
            self._values.popleft()
        times, values = np.array([(-np.inf, _FLOOR_DB), *self._values]).T
        steps = now_s + np.arange(1 - round(HISTORY_S / STEP_S), 1) * STEP_S
        curve: np.ndarray = values[np.searchsorted(times, steps, side="right") - 1].astype(np.float32)
        return curve


def describe(numbers: Mapping[str, Any]) -> str:
    """What is known of a picture, for the line below it."""
    parts = [str(numbers.get("name", ""))]
    if "snr_db" in numbers:
        parts.append(f"SNR {numbers['snr_db']:.1f} dB")
        parts.append(f"{numbers['packets_received']} of {numbers['packets_expected']} packets")
        parts.append(f"{numbers['seconds']:.1f} s to decode")
    if "air_s" in numbers:
        parts.append(f"{numbers['packets']} packets, {1e3 * numbers['air_s']:.1f} ms on the air")
    return " · ".join(parts)
