"""DC offset and IQ imbalance: the receiver's from its own noise, the sender's from packets of which all is known."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Complex64, Complex128
from matplotlib.figure import Figure
from numpy.lib.stride_tricks import sliding_window_view

from calibration.bench import Bench, Capture, LevelBurst, level_burst
from calibration.steps.step import BLUE, ORANGE, Each, Outcome, Peer, Step, db, receive_ladder
from sdr.calibrated import IqError, balance
from sdr.errors import SdrError
from sdr.waveform import Waveform

_NOISE_S, _LOOK_S = 0.5, 0.01
_PARTS = 20
_BEST_DBFS = -22.0
_GOOD_DBFS = (-38.0, -12.0)
"""Noise must span some steps of the converter and not fill it."""
_BURSTS, _PACKETS = 4, 8
_SEGMENT = 1024
"""Samples in which neither phase nor sample clock move: at 40 ppm, 0.04 samples."""
_TAPS = 8
"""On either side: the fraction of a sample, and an error of timing."""
_CUT = 1e-3
"""Directions in which the packets have less than this share of their largest are outside the signal's band."""


def receiver_error(samples: Complex64[np.ndarray, "n"]) -> IqError:
    """DC and imbalance of a receiver that sees circular noise alone: I and Q are equally strong and uncorrelated.

    With y = I + j·g·(Q·cos φ + I·sin φ), E[Q'²]/E[I'²] = g² and E[I'Q'] = g·σ²·sin φ.
    """
    parts = [_moments(part) for part in np.array_split(samples, _PARTS)]
    mean = _moments(samples)
    spread = np.std(parts, axis=0, ddof=1) / np.sqrt(_PARTS)
    return IqError(
        dc_i=mean[0],
        dc_q=mean[1],
        dc_sd=float(max(spread[:2])),
        gain_db=mean[2],
        gain_sd_db=float(spread[2]),
        phase_deg=mean[3],
        phase_sd_deg=float(spread[3]),
    )


def _moments(samples: Complex64[np.ndarray, "n"]) -> tuple[float, float, float, float]:
    """DC of I and Q, gain in dB, phase in degrees."""
    covariance = np.cov(samples.real.astype(np.float64), samples.imag.astype(np.float64))
    phase = np.arcsin(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
    gain_db = 10 * np.log10(covariance[1, 1] / covariance[0, 0])
    return float(samples.real.mean()), float(samples.imag.mean()), float(gain_db), float(np.rad2deg(phase))


def sender_parts(
    received: Complex64[np.ndarray, "n"], sent: Complex64[np.ndarray, "m"], offset: float
) -> list[tuple[complex, complex]]:
    """Image ratio β/α and DC, as the transmitter has them, from each segment of a packet.

    `received` begins `_TAPS` samples before `sent` arrives, ±`_TAPS`, and ends as many after it; `offset` is that of
    the carrier in cycles per sample. In each segment received = a·h∗x + b·h∗x* + d: first h, which the channel and the
    fraction of a sample make, then a, b and d, by least squares.
    """
    turned = received * np.exp(-2j * np.pi * offset * np.arange(received.size))
    found = []
    for begin in range(_TAPS, sent.size - _SEGMENT - _TAPS, _SEGMENT):
        target = turned[begin + _TAPS : begin + _TAPS + _SEGMENT]
        past = sliding_window_view(sent[begin - _TAPS : begin + _SEGMENT + _TAPS], 2 * _TAPS + 1)
        taps = np.linalg.lstsq(past, target, rcond=_CUT)[0]
        regressors = np.stack([past @ taps, past.conj() @ taps, np.ones(_SEGMENT)], axis=1)
        direct, image, dc = np.linalg.lstsq(regressors, target, rcond=None)[0]
        found.append((complex(image / direct), complex(dc / (direct * taps.sum()))))
    return found


def sender_error(parts: Complex128[np.ndarray, "segments 2"]) -> IqError:
    """DC and imbalance of a transmitter from image ratios and DC: with z = g·e^jφ, β/α = (1 − z*)/(1 + z)."""
    each = np.array([_imbalance(ratio) for ratio in parts[:, 0]])
    spread = np.std(each, axis=0, ddof=1) / np.sqrt(len(each))
    ratio, leak = parts.mean(axis=0)
    gain_db, phase_deg = _imbalance(ratio)
    leak *= _direct(gain_db, phase_deg)
    dc_sd = np.sqrt(np.var(parts[:, 1].real, ddof=1) + np.var(parts[:, 1].imag, ddof=1)) / np.sqrt(2 * len(parts))
    return IqError(
        float(leak.real), float(leak.imag), float(dc_sd), gain_db, float(spread[0]), phase_deg, float(spread[1])
    )


def _imbalance(ratio: complex) -> tuple[float, float]:
    """Gain in dB and phase in degrees: ρ(1 + z) = 1 − z* is linear in the parts of z."""
    matrix = [[1 + ratio.real, -ratio.imag], [ratio.imag, ratio.real - 1]]
    real, imag = np.linalg.solve(matrix, [1 - ratio.real, -ratio.imag])
    return float(20 * np.log10(np.hypot(real, imag))), float(np.rad2deg(np.arctan2(imag, real)))


def _direct(gain_db: float, phase_deg: float) -> complex:
    """α = (1 + g·e^jφ)/2."""
    return complex((1 + 10 ** (gain_db / 20) * np.exp(1j * np.deg2rad(phase_deg))) / 2)


def _run(bench: Bench, each: Each) -> Outcome:
    gains = _noisy_gain(bench)
    rounds = [None, *range(_BURSTS if bench.sender is not None else 0)]
    parts: list[tuple[complex, complex]] = []
    error: IqError | None = None
    for number in each(rounds):
        if number is None:
            error = receiver_error(bench.listen(_NOISE_S, gains))
            continue
        assert error is not None
        burst = level_burst(bench.waveform, [0.0], _PACKETS, bench.rng)
        capture = bench.exchange(burst, receive_gains=bench.receive_gains, transmit_gains=bench.transmit_gains)
        parts += _segments(capture, burst, error, bench.waveform)
    assert error is not None
    fields = {"receive_iq": error}
    summary = f"receiver {_text(error)}"
    if bench.sender is not None:
        if len(parts) < _PACKETS:
            raise SdrError("too few packets were received to see the sender's imbalance: raise the gains")
        fields["transmit_iq"] = sender_error(np.array(parts))
        summary += f"; sender {_text(fields['transmit_iq'])}"
    return Outcome(fields, summary, lambda figure: _draw(figure, fields))


def _noisy_gain(bench: Bench) -> Mapping[str, float]:
    """Gains at which the receiver's noise spans its converter well. Raises SdrError if there are none."""
    ladder = receive_ladder(bench.receive_ranges(), bench.receive_gains)
    levels = [db(float(np.var(bench.listen(_LOOK_S, gains)))) for gains in ladder]
    best = int(np.argmin(np.abs(np.array(levels) - _BEST_DBFS)))
    if not _GOOD_DBFS[0] <= levels[best] <= _GOOD_DBFS[1]:
        raise SdrError(
            f"the receiver's noise has {levels[best]:.0f} dBFS at best, and its imbalance is seen at "
            f"{_GOOD_DBFS[0]:g}…{_GOOD_DBFS[1]:g}"
        )
    return ladder[best]


def _segments(capture: Capture, burst: LevelBurst, error: IqError, waveform: Waveform) -> list[tuple[complex, complex]]:
    dc = np.complex64(complex(error.dc_i, error.dc_q))
    clean = balance(capture.samples - dc, error)
    length = burst.samples.size // burst.packets
    parts: list[tuple[complex, complex]] = []
    for packet in capture.packets:
        begin = packet.start_sample - _TAPS
        if begin < 0 or packet.start_sample + length + _TAPS > clean.size:
            continue
        sent = burst.samples[packet.header.packet_index * length :][:length]
        received = clean[begin : packet.start_sample + length + _TAPS]
        parts += sender_parts(received, sent, packet.cfo_hz / waveform.sample_rate_hz)
    return parts


def _text(error: IqError) -> str:
    return (
        f"DC {error.dc_i:+.4f} {error.dc_q:+.4f}j of full scale, Q {error.gain_db:+.2f} dB and "
        f"{error.phase_deg:+.2f}° off"
    )


def _draw(figure: Figure, errors: Mapping[str, IqError]) -> None:
    left, right = figure.subplots(1, 2)
    names = {"receive_iq": ("receiver", BLUE, "o"), "transmit_iq": ("sender", ORANGE, "s")}
    for key, error in errors.items():
        label, colour, marker = names[key]
        style = {"color": colour, "marker": marker, "linestyle": "none", "label": label, "capsize": 3}
        left.errorbar(1e3 * error.dc_i, 1e3 * error.dc_q, 2e3 * error.dc_sd, 2e3 * error.dc_sd, **style)
        right.errorbar(error.gain_db, error.phase_deg, 2 * error.phase_sd_deg, 2 * error.gain_sd_db, **style)
    left.set(xlabel="I (10⁻³ of full scale)", ylabel="Q (10⁻³ of full scale)", title="DC, ± 2 sd")
    right.set(xlabel="gain of Q (dB)", ylabel="phase of Q (degrees)", title="Imbalance, ± 2 sd")
    for axes in (left, right):
        axes.axhline(0, color="black", linewidth=0.6)
        axes.axvline(0, color="black", linewidth=0.6)
    left.legend(loc="best")


STEP = Step("iq", "the receiver's noise; with a peer, packets too, for the sender's own", Peer.OPTIONAL, _run)
