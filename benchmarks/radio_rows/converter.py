"""What clipping and an 8-bit converter cost, and the peaks of the waveform before and after clipping."""

from dataclasses import dataclass, replace

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float64

from benchmarks.radio_rows import figures
from benchmarks.radio_rows.trial import (
    REPETITION,
    SESSION,
    SIDE_BYTES,
    Finding,
    Point,
    Run,
    db,
    full_packets,
    gaussian,
    mean_interval,
    passage,
    receive,
)
from sdr import hardware
from sdr.channel import Channel
from sdr.transmit import transmit
from sdr.waveform import DEFAULT, Waveform

SNR_DB = 25.0
RMS_DBFS = -12.0
ASKED_DB = 0.3
BITS = (4, 5, 6, 7, 8, 10, 12)
JUDGED_BITS = 8
UNCLIPPED = replace(DEFAULT, tx_rms=DEFAULT.tx_rms / 8)
"""The same waveform 30 dB below full scale, where nothing reaches the clip: the ideal converter."""
_PACKETS = 4
_OVERSAMPLING = 4
_PAPR_DB = np.arange(4.0, 14.01, 0.25)
_VAN_NEE = 2.8


@dataclass(frozen=True)
class _Job:
    seed: tuple[int, ...]


def _converter(samples: Complex64[np.ndarray, "n"]) -> Complex64[np.ndarray, "n"]:
    """The transmitter's own 8-bit converter, full scale 1."""
    return hardware.quantise(samples, JUDGED_BITS, 1.0)


def _trials(job: _Job) -> dict[str, float]:
    """Mean symbol error of one image under each converter, all with the same symbols, noise and channel."""

    def error(channel: Channel, *, ideal: bool = False, sender: bool = False) -> float:
        waveform = UNCLIPPED if ideal else DEFAULT
        rng = np.random.default_rng(job.seed)
        sent = passage(rng, channel, full_packets(_PACKETS), waveform=waveform, send=_converter if sender else None)
        (image,) = receive(sent.samples, waveform)
        arrived = np.isfinite(image.noise_var)
        return float(np.mean(np.abs(image.symbols - sent.symbols)[arrived].astype(np.float64) ** 2))

    plain = Channel(snr_db=SNR_DB, cfo_hz=20e3, adc_rms_dbfs=RMS_DBFS)
    errors = {"ideal": error(plain, ideal=True), "clip": error(plain)}
    errors |= {str(bits): error(replace(plain, adc_bits=bits)) for bits in BITS}
    errors["both"] = error(replace(plain, adc_bits=JUDGED_BITS), sender=True)
    return errors


def quantisation_loss_db(bits: int, snr_db: float, rms_dbfs: float) -> float:
    """SNR loss by the white noise 2Δ²/12 of an ideal quantiser of I and Q, Δ = 2/2^bits of full scale."""
    noise = 2 * (2 / 2**bits) ** 2 / 12
    on_carrier = (
        noise / 10 ** (rms_dbfs / 10) * DEFAULT.used_subcarriers / DEFAULT.fft_size
    )  # white over the whole band
    return db(1 + on_carrier * 10 ** (snr_db / 10))


def peaks_db(samples: Complex64[np.ndarray, "n"], rms: float) -> Float64[np.ndarray, "symbols"]:
    """Peak power of each header and payload OFDM symbol over the nominal mean power, of the continuous signal."""
    size, prefix = DEFAULT.fft_size, DEFAULT.cyclic_prefix
    body = samples[DEFAULT.preamble_samples :].reshape(-1, size + prefix)[:, prefix:]
    spectrum = scipy.fft.fft(body.astype(np.complex128), axis=1)
    wide = np.zeros((len(body), _OVERSAMPLING * size), np.complex128)
    wide[:, : size // 2], wide[:, -(size // 2) :] = spectrum[:, : size // 2], spectrum[:, size // 2 :]
    power = np.abs(scipy.fft.ifft(wide, axis=1) * _OVERSAMPLING) ** 2
    return np.asarray(10 * np.log10(power.max(axis=1) / rms**2))


def papr_theory(levels_db: Float64[np.ndarray, "n"], carriers: int) -> Float64[np.ndarray, "n"]:
    """Share of OFDM symbols whose peak exceeds a level: 1 - (1 - e^-γ)^(2.8 N) (van Nee and de Wild, VTC 1998)."""
    return np.asarray(-np.expm1(_VAN_NEE * carriers * np.log1p(-np.exp(-(10 ** (levels_db / 10))))))


def measure(run: Run) -> list[Finding]:
    """Losses against an ideal converter, and the CCDF of the peaks."""
    images = run.count(60, 8)
    results = run.map(_trials, [_Job((run.seed, 8, number)) for number in range(images)])
    points = []
    cases = {"clip": "clipping alone", **{str(bits): f"clipping + {bits} bits" for bits in BITS}}
    cases["both"] = f"clipping + {JUDGED_BITS} bits at both ends"
    for key, label in cases.items():
        losses = np.array([db(errors[key] / errors["ideal"]) for errors in results])
        asked = ASKED_DB if key == str(JUDGED_BITS) else None
        loss = float(losses.mean())
        bound = 0.0 if key in ("clip", "both") else quantisation_loss_db(int(key), SNR_DB, RMS_DBFS)
        points.append(Point(label, loss, asked is None or loss <= asked, asked, bound, mean_interval(losses), "dB"))
    judged = next(point for point in points if point.asked is not None)
    _plot(run, points)
    return [
        Finding(
            title=f"clipping + {JUDGED_BITS}-bit quantisation, −{-RMS_DBFS:g} dBFS rms",
            asked=f"SNR loss ≤ {ASKED_DB} dB at {SNR_DB:g} dB; PAPR CCDF plotted before and after",
            bound=f"ideal converter, 0 dB (white quantisation noise alone {judged.bound:.2f} dB)",
            measured=f"{judged.measured:.3f} dB; clipping alone {points[0].measured:.0e} dB, "
            f"{JUDGED_BITS} bits at both ends {points[-1].measured:.2f} dB",
            trials=f"{images} images of {_PACKETS} packets, the same noise under every converter",
            points=points,
            plot="converter.png",
            note="symbol error over that of the same waveform without clip and quantisation",
            conditions={"snr_db": SNR_DB, "adc_rms_dbfs": RMS_DBFS, "cfo_hz": 20e3},
        )
    ]


def _packet(seed: tuple[int, ...], waveform: Waveform) -> Complex64[np.ndarray, "samples"]:
    rng = np.random.default_rng(seed)
    symbols, side = gaussian(full_packets(1), rng), rng.bytes(SIDE_BYTES)
    return transmit(symbols, side, waveform, session=SESSION, image_id=0, repetition=REPETITION).samples


def _plot(run: Run, points: list[Point]) -> None:
    with figures.figure(run.out / "converter.png", 2) as (left, right):
        fine = [float(bits) for bits in BITS]
        by_bits = points[1 : 1 + len(BITS)]
        figures.theory(left, fine, [point.bound or 0 for point in by_bits], "white quantisation noise Δ²/12")
        figures.measured(left, fine, [p.measured for p in by_bits], "receiver", 0, [p.interval for p in by_bits])
        left.plot([], [], " ", label=f"(clipping alone: {points[0].measured:.0e} dB)")
        left.plot([JUDGED_BITS], [ASKED_DB], "*", color=figures.RED, markersize=11, label="asked")
        left.set(xlabel="bits of the converter", ylabel="SNR loss, dB", yscale="log", ylim=(1e-3, 10))
        left.set_title(f"SNR loss at {SNR_DB:g} dB, signal at −{-RMS_DBFS:g} dBFS")
        left.legend()
        theory = papr_theory(_PAPR_DB, DEFAULT.used_subcarriers)
        figures.theory(right, _PAPR_DB.tolist(), theory.tolist(), r"$1-(1-e^{-\gamma})^{2.8N}$")
        for series, (label, waveform) in enumerate((("before clipping", UNCLIPPED), ("after clipping", DEFAULT))):
            sent = [_packet((run.seed, 9, number), waveform) for number in range(run.count(600, 60))]
            peaks = np.concatenate([peaks_db(samples, waveform.tx_rms) for samples in sent])
            share = np.array([np.mean(peaks > level) for level in _PAPR_DB])
            seen = share > 0
            # One broad under one narrow line: they differ only at the very end.
            right.plot(
                _PAPR_DB[seen], share[seen], color=figures.COLOURS[series], linewidth=4 - 2.5 * series, label=label
            )
        right.set(xlabel="peak over mean power of an OFDM symbol, dB", ylabel="share of symbols above", yscale="log")
        right.set(ylim=(5e-5, 1.5), title="PAPR, 4-fold oversampled")
        right.legend()
