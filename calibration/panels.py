"""Panels of the picture of `lrisc inspect` that show the packets in detail."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from calibration.tracks import PacketTracks, carriers_hz, impulse_response
from sdr import ofdm
from sdr.waveform import Waveform

BLUE, ORANGE, GREY, BLACK = "#0072B2", "#D55E00", "#8c8c8c", "#000000"
"""Of Okabe and Ito; with cividis for maps, told apart by colour-blind readers and in grey."""
_BINS = 72
_IMPULSE_RANGE_DB = 50.0
_LABELLED_PACKETS = 16


def constellation(axes: Axes, tracks: Sequence[PacketTracks]) -> None:
    """Density of the equalised payload, and the header's BPSK points."""
    payload = np.concatenate([one.payload[np.isfinite(one.symbol_snr_db)] for one in tracks])
    header = np.concatenate([one.header.reshape(-1) for one in tracks])
    inside = payload[(np.abs(payload.real) < 3) & (np.abs(payload.imag) < 3)]
    density, _, _ = np.histogram2d(inside.imag, inside.real, bins=_BINS, range=((-3, 3), (-3, 3)))
    axes.imshow(
        np.where(density > 0, density, np.nan),
        origin="lower",
        extent=(-3, 3, -3, 3),
        cmap="Greys",
        norm=LogNorm(0.3, max(float(density.max()), 1.0)),
        interpolation="nearest",
    )
    axes.plot(header.real, header.imag, ".", color=ORANGE, markersize=2, alpha=0.5)
    axes.plot([], [], "s", color=GREY, markersize=4, label="payload")
    axes.plot([], [], ".", color=ORANGE, label="header")
    axes.legend(loc="upper right", handletextpad=0.2, borderpad=0.1)
    axes.grid(False)
    axes.set_aspect("equal")
    axes.set(xlim=(-3, 3), ylim=(-3, 3), xlabel="in phase", ylabel="quadrature", title="Constellation, equalised")


def response(axes: Axes, tracks: Sequence[PacketTracks], waveform: Waveform) -> None:
    """Magnitude of the channel, and the noise that the decoder is told of, which together are the SNR."""
    frequency_mhz = carriers_hz(waveform) / 1e6
    data = ofdm.grid(waveform).data
    channel_db = _db(np.array([np.abs(one.response) ** 2 for one in tracks]))
    with np.errstate(divide="ignore"):
        snr = np.array([np.mean(10 ** (one.symbol_snr_db / 10), axis=0) for one in tracks])
        noise_db = np.where(snr > 0, channel_db[:, data] - 10 * np.log10(snr), np.nan)
    axes.plot(frequency_mhz, channel_db.T, color=BLUE, linewidth=0.6, alpha=0.35)
    axes.plot(frequency_mhz[data], noise_db.T, color=ORANGE, linewidth=0.6, alpha=0.35)
    axes.plot(frequency_mhz, _db(np.mean(10 ** (channel_db / 10), axis=0)), color=BLUE, label="channel")
    told = np.isfinite(noise_db).any(axis=0)
    mean_db = _db(np.nanmean(10 ** (noise_db[:, told] / 10), axis=0))
    axes.plot(frequency_mhz[data][told], mean_db, "--", color=ORANGE, label="noise")
    axes.legend(loc="lower left", ncols=2)
    axes.set(xlabel="frequency (MHz)", ylabel="power per carrier (dB)", title="Channel and noise; thin: each packet")
    axes.margins(x=0.01)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.12 * (high - low), high)  # room for the legend


def impulse(axes: Axes, tracks: Sequence[PacketTracks], waveform: Waveform) -> None:
    """Power of the impulse response within the cyclic prefix, and a little to either side."""
    delays_s, _ = impulse_response(tracks[0].response, waveform)
    power = np.array([impulse_response(one.response, waveform)[1] for one in tracks])
    mean_db = _db(power.mean(axis=0))
    axes.plot(1e6 * delays_s, _db(power).T, color=BLUE, linewidth=0.6, alpha=0.35)
    axes.plot(1e6 * delays_s, mean_db, color=BLUE)
    first, last = 1e6 * np.array([delays_s[0], delays_s[-1]])
    guard = 1e6 * waveform.cyclic_prefix / waveform.sample_rate_hz
    early = first + guard / 4
    axes.axvspan(first, early, color="#eeeeee", linewidth=0)
    axes.axvspan(early + guard, last, color="#eeeeee", linewidth=0)
    top = mean_db.max()
    axes.set(xlim=(first, last), ylim=(top - _IMPULSE_RANGE_DB, top + 4))
    axes.set(xlabel="delay (µs)", ylabel="power (dB)", title="Impulse response; white: within the cyclic prefix")


def symbol_snr(axes: Axes, tracks: Sequence[PacketTracks], waveform: Waveform) -> None:
    """What the decoder is told of each payload symbol."""
    level = np.concatenate([one.symbol_snr_db for one in tracks]).T
    finite = level[np.isfinite(level)]
    bottom, top = (float(np.quantile(finite, part)) for part in (0.01, 0.99)) if finite.size else (0.0, 1.0)
    middle, half = (bottom + top) / 2, max((top - bottom) / 2, 3.0)  # a flat channel is to look flat
    edge_mhz = carriers_hz(waveform)[-1] / 1e6
    image = axes.imshow(
        np.where(np.isfinite(level), level, np.nan),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap=mpl.colormaps["cividis"].with_extremes(bad=ORANGE),
        vmin=middle - half,
        vmax=middle + half,
        extent=(0, level.shape[1], -edge_mhz, edge_mhz),
    )
    axes.grid(False)
    axes.figure.colorbar(image, ax=axes, label="dB", pad=0.02, fraction=0.06)
    starts = np.cumsum([0, *(len(one.symbol_snr_db) for one in tracks)])
    for start in starts[1:-1]:
        axes.axvline(start, color="white", linewidth=0.8)
    if len(tracks) <= _LABELLED_PACKETS:
        axes.set_xticks((starts[:-1] + starts[1:]) / 2, [str(one.heard.packet_index) for one in tracks])
        axes.tick_params(axis="x", length=0)
    erased = not np.isfinite(level).all()
    axes.set(xlabel="packet (its symbols over time)", ylabel="frequency (MHz)")
    axes.set_title("SNR told of each symbol" + ("; red: erased" if erased else ""))


def snr_track(axes: Axes, tracks: Sequence[PacketTracks]) -> None:
    """SNR per OFDM symbol: measured on the known subcarriers, and told to the decoder."""
    for one in tracks:
        axes.plot(1e3 * one.time_s, one.snr_db, ".", color=GREY, markersize=3, label=_once(one, tracks, "measured"))
        rows = one.time_s.size - one.snr_told_db.size
        axes.plot(1e3 * one.time_s[rows:], one.snr_told_db, color=BLUE, label=_once(one, tracks, "told to the decoder"))
    axes.set(xlabel="time (ms)", ylabel="SNR (dB)", title="SNR of each OFDM symbol")
    axes.legend(loc="best", ncols=2)


def phase_track(axes: Axes, tracks: Sequence[PacketTracks]) -> None:
    """Common phase of each OFDM symbol after the CFO of the preamble is taken out."""
    for one in tracks:
        phase, spread = np.degrees(one.phase_tracked_rad), np.degrees(one.phase_sd_rad)
        time_ms = 1e3 * one.time_s
        axes.plot(
            time_ms, np.degrees(one.phase_rad), ".", color=GREY, markersize=3, label=_once(one, tracks, "measured")
        )
        axes.fill_between(time_ms, phase - spread, phase + spread, color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(time_ms, phase, color=BLUE, label=_once(one, tracks, "tracked ± σ"))
    axes.set(xlabel="time (ms)", ylabel="phase (°)", title="Common phase beside the preamble's CFO")
    axes.legend(loc="best", ncols=2)


def delay_track(axes: Axes, tracks: Sequence[PacketTracks]) -> None:
    """Timing of each OFDM symbol beside its packet's preamble."""
    for one in tracks:
        time_ms = 1e3 * one.time_s
        axes.plot(time_ms, 1e9 * one.delay_s, ".", color=GREY, markersize=3, label=_once(one, tracks, "measured"))
        axes.plot(time_ms, 1e9 * one.delay_tracked_s, color=BLUE, label=_once(one, tracks, "tracked"))
    axes.set(xlabel="time (ms)", ylabel="delay (ns)", title="Timing beside the packet's preamble")
    axes.legend(loc="best", ncols=2)


def _once(one: PacketTracks, tracks: Sequence[PacketTracks], label: str) -> str | None:
    return label if one is tracks[0] else None


def _db(power: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        level: np.ndarray = 10 * np.log10(power)
    return level
