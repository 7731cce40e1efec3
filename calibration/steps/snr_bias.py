"""Bias of the SNR estimate: what the receiver says, against power on and off the air and against steps of amplitude."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Complex64, Float64
from matplotlib.figure import Figure

from calibration.bench import Bench, Capture, level_burst
from calibration.steps.step import BLUE, GREY, ORANGE, Each, Outcome, Peer, Step
from sdr.assemble import Packet
from sdr.calibrated import SnrBias
from sdr.errors import SdrError
from sdr.waveform import Waveform

_LEVELS_DB = np.arange(-24.0, 0.1, 3.0)
_PACKETS, _BURSTS = 8, 3
_LISTEN_S = 0.1
_NULL_BINS = 2
"""On either side of the carrier, where a transmitter's DC leaks to."""
_RANGE_DB = (0.0, 20.0)
"""Above, what a transmitter itself adds (images, steps of its converter) is in the estimate and not in the noise."""
_NEEDED = 3
_STEPS = 6
"""Of the converter, over which noise of half a step's deviation extends; weaker noise is rounded away."""


def _run(bench: Bench, each: Each) -> Outcome:
    levels = _LEVELS_DB.tolist()
    silence = bench.listen(_LISTEN_S, bench.receive_gains)
    if (steps := np.unique(silence.real).size) < _STEPS:
        raise SdrError(
            f"without a signal the converter gives {steps} values only, its noise is smaller than its steps and no "
            "reference: raise the receiving gain, see noise-floor"
        )
    dc = np.complex64(silence.mean())
    estimates: list[list[float]] = [[] for _ in levels]
    powers: list[list[float]] = [[] for _ in levels]
    ratios: list[list[float]] = [[] for _ in levels]
    for _ in each(range(_BURSTS)):
        burst = level_burst(bench.waveform, levels, _PACKETS, bench.rng)
        capture = bench.exchange(burst, receive_gains=bench.receive_gains, transmit_gains=bench.transmit_gains)
        for index in range(len(levels)):
            estimates[index] += capture.snr_db(index).tolist()
            powers[index] += _powers(capture, index, dc, bench.waveform)
            noise = _carrier_power(silence - dc, _offset(capture.at_level(index), bench.waveform), bench.waveform)
            ratios[index] += [power / noise - 1 for power in powers[index][len(ratios[index]) :]]
    whole = [index for index in range(len(levels)) if len(estimates[index]) == _PACKETS * _BURSTS]
    if len(whole) < _NEEDED:
        raise SdrError(
            f"all packets were received at {len(whole)} of {len(levels)} levels, and {_NEEDED} are needed: "
            "raise the gains of both stations to about 20 dB of SNR"
        )
    at = np.array([levels[index] for index in whole])
    on_off = np.array([10 * np.log10(np.mean(ratios[index])) for index in whole])
    said = np.array([np.mean(estimates[index]) for index in whole])
    errors = np.array([np.std(estimates[index], ddof=1) / np.sqrt(len(estimates[index])) for index in whole])
    reference = at + np.mean(on_off - at)
    inside = (reference >= _RANGE_DB[0]) & (reference <= _RANGE_DB[1])
    if not inside.any():
        raise SdrError(f"SNR is {reference[0]:.1f} dB and more at all levels: lower the transmitting gain by 10 dB")
    bias = (said - reference)[inside]
    scatter = float(np.std(bias, ddof=1)) if bias.size > 1 else float(errors.mean())
    result = SnrBias(float(np.mean(bias)), scatter, (float(reference[inside][0]), float(reference[inside][-1])))
    summary = (
        f"the estimate says {result.bias_db:+.2f} ± {result.sd_db:.2f} dB more than power on and off the air, "
        f"from {result.snr_db[0]:.1f} to {result.snr_db[1]:.1f} dB; worst {bias[np.argmax(np.abs(bias))]:+.2f} dB"
    )
    return Outcome(
        {"snr_bias": result},
        summary,
        lambda figure: _draw(figure, reference, said, errors, on_off, result),
    )


def _offset(packets: Sequence[Packet], waveform: Waveform) -> float:
    """Mean carrier offset, cycles per sample."""
    return float(np.mean([one.cfo_hz for one in packets] or [0.0])) / waveform.sample_rate_hz


def _powers(capture: Capture, index: int, dc: np.complex64, waveform: Waveform) -> list[float]:
    """Power on the occupied carriers during header and payload of each packet."""
    packets = capture.at_level(index)
    spans = [slice(one.start_sample + waveform.preamble_samples, one.end_sample) for one in packets]
    offset = _offset(packets, waveform)
    return [_carrier_power(capture.samples[span] - dc, offset, waveform) for span in spans]


def _carrier_power(samples: Complex64[np.ndarray, "n"], offset: float, waveform: Waveform) -> float:
    """Mean power of a bin among the occupied carriers but for the middle, which are `offset` cycles per sample off.

    Hann windows that overlap by half (Welch, IEEE Trans. Audio Electroacoust. 15, 1967): what sends beside or exactly
    on the carrier stays out of it.
    """
    size = waveform.fft_size
    turned = samples * np.exp(-2j * np.pi * offset * np.arange(samples.size))
    frames: Float64[np.ndarray, "frames size"] = np.lib.stride_tricks.sliding_window_view(turned, size)[:: size // 2]
    spectrum = np.fft.fft(frames * np.hanning(size), axis=1)
    bins = np.arange(_NULL_BINS + 1, waveform.edge_carrier)
    return float(np.mean(np.abs(spectrum[:, np.concatenate([bins, -bins])]) ** 2))


def _draw(
    figure: Figure,
    reference: Float64[np.ndarray, "levels"],
    said: Float64[np.ndarray, "levels"],
    errors: Float64[np.ndarray, "levels"],
    on_off: Float64[np.ndarray, "levels"],
    result: SnrBias,
) -> None:
    axes = figure.add_subplot()
    axes.errorbar(reference, said - reference, yerr=2 * errors, color=BLUE, marker="o", label="estimate, ± 2 sd")
    axes.plot(reference, on_off - reference, "s", color=ORANGE, label="power on and off the air")
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.axhspan(result.bias_db - result.sd_db, result.bias_db + result.sd_db, color=GREY, alpha=0.2, linewidth=0)
    axes.set(xlabel="reference SNR, in steps of the amplitude (dB)", ylabel="difference from it (dB)")
    axes.set_title(f"SNR estimate, bias {result.bias_db:+.2f} dB (grey: ± 1 sd between levels)")
    axes.legend(loc="best")


STEP = Step(
    "snr-bias",
    f"the SNR estimate against amplitudes in steps of 3 dB, {_PACKETS * _BURSTS} packets each",
    Peer.NEEDED,
    _run,
)
