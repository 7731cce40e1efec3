"""A packet looked at closely: channel, constellation, and how phase, timing and SNR run over its symbols."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex64, Complex128, Float, Float64

from calibration.hearing import HeardPacket, heard_packet
from sdr import header, ofdm
from sdr.candidate import Candidate
from sdr.header import Header
from sdr.sync import EARLY_SAMPLES
from sdr.waveform import Waveform

_OVERSAMPLING = 4
"""Of the impulse response."""
_STEPS = 4


@dataclass(frozen=True, eq=False)
class PacketTracks:
    """One packet, symbol by symbol. `symbols` counts the long, header and payload symbols, `rows` the payload's.

    What is measured comes from the known subcarriers of that symbol alone, and is NaN where samples are missing; what
    is tracked is what the receiver used.
    """

    heard: HeardPacket
    time_s: Float64[np.ndarray, "symbols"]
    """Since the start of the recording."""
    phase_rad: Float64[np.ndarray, "symbols"]
    phase_tracked_rad: Float64[np.ndarray, "symbols"]
    phase_sd_rad: Float64[np.ndarray, "symbols"]
    delay_s: Float64[np.ndarray, "symbols"]
    """Beside the packet's middle long symbols."""
    delay_tracked_s: Float64[np.ndarray, "symbols"]
    snr_db: Float64[np.ndarray, "symbols"]
    """Es/N0 measured on the known subcarriers."""
    snr_told_db: Float64[np.ndarray, "rows"]
    """The same from what the decoder is told of the data subcarriers beside the pilots, erased ones left out."""
    symbol_snr_db: Float64[np.ndarray, "rows data"]
    """What the decoder is told of each symbol; -inf where erased."""
    payload: Complex64[np.ndarray, "rows data"]
    header: Complex64[np.ndarray, "header data"]
    """Equalised, BPSK, without scrambling, as `payload` is."""
    response: Complex128[np.ndarray, "used"]
    """Channel, relative to the nominal amplitude."""
    noise_db: float
    """Noise on a subcarrier, relative to the nominal power."""


def packet_tracks(candidate: Candidate, waveform: Waveform) -> PacketTracks:
    """Measure each symbol of a packet on its known subcarriers, beside what the receiver tracked."""
    packet, state, received = candidate.packet, candidate.state, candidate.spectrum
    assert packet is not None and state is not None and received is not None
    layout, rate_hz = ofdm.grid(waveform), waveform.sample_rate_hz
    first = 2 + waveform.header_symbols
    told = packet.noise_var.reshape(-1, waveform.data_carriers).astype(np.float64)
    missing = np.concatenate([np.zeros(first, bool), np.isinf(told).all(axis=1)])

    moment = ofdm.times(waveform, len(received))
    frequency = 2 * np.pi * layout.carriers / waveform.fft_size
    steady = np.exp(1j * (state.drift * moment[:, None] * frequency - state.phase[:, None]))
    reference = _reference(packet.header, len(received), waveform)
    settled = received * reference.conj() * steady  # the channel, on known subcarriers
    error = np.sum(np.abs(np.where(reference != 0, settled - state.response, 0)) ** 2, axis=1)
    noise = np.maximum(error / np.count_nonzero(reference, axis=1), np.finfo(np.float32).tiny)
    weight = np.abs(state.response * reference) ** 2
    turn, slope = _turns(settled * state.response.conj(), weight, frequency)

    gain = np.abs(state.response[layout.data]) ** 2
    beside = np.isin(layout.data, (layout.pilot[:, None] + [-1, 1]).reshape(-1)) & np.isfinite(told)
    energy, noise_told = np.where(beside, gain, 0).sum(axis=1), (np.where(beside, told, 0) * gain).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # what is erased
        symbol_snr_db = 10 * np.log10(1 / told)
        snr_told_db = 10 * np.log10(energy / noise_told)
    inverse = state.response.conj() / np.maximum(np.abs(state.response) ** 2, np.finfo(np.float64).tiny)
    equalised = (received * steady * inverse)[2:first, layout.data] * layout.header_scramble.conj()
    start = packet.start_sample + waveform.preamble_samples - waveform.fft_size - EARLY_SAMPLES
    return PacketTracks(
        heard=heard_packet(candidate, waveform),
        time_s=(start + moment) / rate_hz,
        phase_rad=np.where(missing, np.nan, state.phase + turn),
        phase_tracked_rad=state.phase,
        phase_sd_rad=np.sqrt(state.phase_var),
        delay_s=np.where(missing, np.nan, (state.drift * moment - slope) / rate_hz),
        delay_tracked_s=state.drift * moment / rate_hz,
        snr_db=np.where(missing, np.nan, 10 * np.log10(np.mean(np.abs(state.response) ** 2) / noise)),
        snr_told_db=snr_told_db,
        symbol_snr_db=symbol_snr_db,
        payload=packet.symbols.reshape(told.shape),
        header=np.asarray(equalised, np.complex64),
        response=state.response,
        noise_db=float(10 * np.log10(state.noise)),
    )


def _reference(contents: Header, rows: int, waveform: Waveform) -> Complex64[np.ndarray, "rows used"]:
    """What was sent on the known subcarriers of a packet, 0 on the others."""
    layout, first = ofdm.grid(waveform), 2 + waveform.header_symbols
    values = np.zeros((rows, waveform.used_subcarriers), np.complex64)
    values[:2] = layout.long_values
    values[2:first, layout.data] = header.modulate([contents], waveform)[0] * layout.header_scramble
    values[2:, layout.pilot] = layout.pilot_values[: rows - 2]
    return values


def _turns(
    aligned: Complex128[np.ndarray, "rows used"],
    weight: Float[np.ndarray, "rows used"],
    frequency: Float64[np.ndarray, "used"],
) -> tuple[Float64[np.ndarray, "rows"], Float64[np.ndarray, "rows"]]:
    """Common phase of each symbol, in rad, and how it grows with the frequency, in samples: least squares.

    A delay turns carriers in proportion to their frequency. Gauss-Newton steps, since whole samples turn them far.
    """
    centred = frequency - (weight @ frequency / weight.sum(axis=1))[:, None]
    turn, slope = np.zeros(len(aligned)), np.zeros(len(aligned))
    for _ in range(_STEPS):
        left = aligned * np.exp(-1j * (turn[:, None] + slope[:, None] * centred))
        step = np.angle(left.sum(axis=1))
        turn += step
        quadrature = (left * np.exp(-1j * step)[:, None]).imag
        slope += np.sum(centred * quadrature, axis=1) / np.sum(centred**2 * weight, axis=1)
    return turn, slope


def impulse_response(
    response: Complex128[np.ndarray, "used"], waveform: Waveform
) -> tuple[Float64[np.ndarray, "taps"], Float64[np.ndarray, "taps"]]:
    """Delays after the path that timing aims at, in s, and power of the impulse response there.

    The inverse transform of the occupied band under a Hann window, four times oversampled: a path of the nominal
    amplitude has power 1, and its half-power width is 1.44 ÷ bandwidth.
    """
    used = waveform.used_subcarriers
    size = _OVERSAMPLING * waveform.fft_size
    window = np.hanning(used + 2)[1:-1]
    bins = np.zeros(size, np.complex128)
    bins[ofdm.grid(waveform).carriers % size] = response * window / window.sum()
    power = np.abs(np.fft.ifft(bins) * size) ** 2
    shown = np.arange(-_OVERSAMPLING * waveform.cyclic_prefix // 4, _OVERSAMPLING * waveform.cyclic_prefix * 5 // 4)
    return (shown / _OVERSAMPLING - EARLY_SAMPLES) / waveform.sample_rate_hz, power[shown % size]


def carriers_hz(waveform: Waveform) -> Float64[np.ndarray, "used"]:
    """Frequencies of the occupied subcarriers."""
    return np.asarray(ofdm.grid(waveform).carriers * (waveform.sample_rate_hz / waveform.fft_size), np.float64)
