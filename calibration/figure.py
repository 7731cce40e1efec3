"""The picture of `lrisc inspect`: when and where packets came, and in detail what the first ones went through."""

from typing import Any

import matplotlib as mpl
import numpy as np
import scipy.signal
from jaxtyping import Float64, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from calibration import panels
from calibration.inspect import Inspection
from calibration.panels import BLACK, BLUE, GREY, ORANGE
from sdr.candidate import Reason

_MARKERS = {
    Reason.HEADER: "x",
    Reason.FOREIGN: "^",
    Reason.CONTRADICTION: "P",
    Reason.CUT: "s",
    Reason.OVERLAP: "D",
}
"""Of preambles that led to no packet; what merely looked like a short sequence is not worth one."""
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "lines.linewidth": 1.2,
}
_COLUMNS = 600
_RANGE_DB = 50.0
_NUMBERED_PACKETS = 40


def draw(inspection: Inspection, name: str) -> UInt8[np.ndarray, "h w 3"]:
    """RGB picture of an inspection, 1400 pixels wide; `name` goes into its heading."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(14, 11.2), dpi=100, layout="constrained")
        canvas: Any = FigureCanvasAgg(figure)  # its methods have no types
        grid = figure.add_gridspec(4, 12, height_ratios=[0.5, 1.1, 1.25, 1.0])
        figure.suptitle(_heading(inspection, name), x=0.008, ha="left", fontsize=11)
        _overview(figure.add_subplot(grid[0, :]), inspection)
        _spectrogram(figure.add_subplot(grid[1, :]), inspection)
        waveform, tracks = inspection.hearing.waveform, inspection.tracks
        if tracks:
            panels.constellation(figure.add_subplot(grid[2, 0:3]), tracks)
            panels.response(figure.add_subplot(grid[2, 3:6]), tracks, waveform)
            panels.impulse(figure.add_subplot(grid[2, 6:9]), tracks, waveform)
            panels.symbol_snr(figure.add_subplot(grid[2, 9:12]), tracks, waveform)
            panels.snr_track(figure.add_subplot(grid[3, 0:4]), tracks)
            panels.phase_track(figure.add_subplot(grid[3, 4:8]), tracks)
            panels.delay_track(figure.add_subplot(grid[3, 8:12]), tracks)
        else:
            empty = figure.add_subplot(grid[2:, :])
            empty.set_axis_off()
            empty.text(0, 0.95, "No packet was heard.", fontsize=11, va="top")
        canvas.draw()
        return np.array(canvas.buffer_rgba())[:, :, :3].copy()


def _heading(inspection: Inspection, name: str) -> str:
    hearing, tracks = inspection.hearing, inspection.tracks
    rate_hz = hearing.playback.device.rate_hz
    parts = [
        name,
        f"{hearing.samples / hearing.waveform.sample_rate_hz:.4g} s, {rate_hz / 1e6:g} Msps",
        f"{hearing.packet_count} packets, {sum(hearing.faulty().values())} rejected",
    ]
    if tracks:
        snr_db, cfo_hz, sfo_ppm = (
            np.median([getattr(one.heard, key) for one in tracks]) for key in ("snr_db", "cfo_hz", "sfo_ppm")
        )
        parts.append(f"medians: SNR {snr_db:.1f} dB, CFO {cfo_hz / 1e3:+.2f} kHz, SFO {sfo_ppm:+.1f} ppm")
    return "   ·   ".join(parts)


def _overview(axes: Axes, inspection: Inspection) -> None:
    hearing = inspection.hearing
    rate_hz = hearing.waveform.sample_rate_hz
    seconds = hearing.samples / rate_hz
    unit, scale = ("s", 1.0) if seconds >= 1 else ("ms", 1e3)
    mean, peak = _db(inspection.mean_power), _db(inspection.peak_power)
    time = scale * (np.arange(mean.size) + 0.5) * inspection.column_s
    axes.fill_between(time, mean, peak, color=GREY, alpha=0.4, linewidth=0, label="peak")
    axes.plot(time, mean, color=BLACK, linewidth=0.7, label="mean")
    rejected: dict[Reason, list[int]] = {
        reason: [candidate.start_sample for candidate in hearing.rejected if candidate.reason is reason]
        for reason in _MARKERS
    }
    events = {"packet": ("|", BLUE, [packet.start_sample for packet in hearing.packets])}
    events |= {f"no packet: {why}": (_MARKERS[why], ORANGE, starts) for why, starts in rejected.items()}
    for label, (marker, colour, starts) in events.items():
        if starts:
            at = scale * np.array(starts) / rate_hz
            line, *_ = axes.plot(at, np.ones(at.size), marker, color=colour, markersize=5, label=label)
            line.set(transform=axes.get_xaxis_transform(), clip_on=False)
    first_s, last_s = inspection.window_s
    if last_s - first_s < seconds:
        axes.axvspan(scale * first_s, scale * last_s, color=BLUE, alpha=0.15, linewidth=0, label="shown below")
    if np.isfinite(mean).any():
        top = float(np.nanmax(peak))
        axes.set_ylim(max(float(np.nanmin(mean)) - 5, top - 80), top + 5)
    axes.set_xlim(0, scale * max(seconds, inspection.column_s))
    axes.set(xlabel=f"time ({unit})", ylabel="power (dBFS)")
    axes.set_title("The whole recording", pad=8)
    axes.legend(loc="lower right", ncols=9, bbox_to_anchor=(1.0, 1.04), borderaxespad=0)


def _spectrogram(axes: Axes, inspection: Inspection) -> None:
    waveform = inspection.hearing.waveform
    rate_hz, size = waveform.sample_rate_hz, waveform.fft_size
    first, last = (1e3 * second for second in inspection.window_s)
    level, hop = _levels(inspection, size)
    top, bottom = (float(np.nanquantile(level, part)) if np.isfinite(level).any() else 0.0 for part in (0.999, 0.05))
    image = axes.imshow(
        level,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap=mpl.colormaps["cividis"].with_extremes(bad="#dddddd"),
        vmin=min(max(bottom, top - _RANGE_DB), top - 1),
        vmax=top,
        extent=(first, first + 1e3 * level.shape[1] * hop / rate_hz, -rate_hz / 2e6, rate_hz / 2e6),
    )
    axes.grid(False)
    axes.figure.colorbar(image, ax=axes, label=f"dBFS per {rate_hz / size / 1e3:.3g} kHz", pad=0.005, fraction=0.03)
    strip: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    spans = [
        (1e3 * packet.start_sample / rate_hz, 1e3 * packet.end_sample / rate_hz, packet.packet_index)
        for packet in inspection.hearing.packets
    ]
    spans = [(max(start, first), min(end, last), index) for start, end, index in spans if start < last and end > first]
    for start, end, index in spans:
        axes.plot([start, end], [1.03, 1.03], "|-", color=BLUE, linewidth=2, **strip)
        if len(spans) <= _NUMBERED_PACKETS:
            axes.text((start + end) / 2, 1.05, str(index), color=BLUE, ha="center", **strip)
    for candidate in inspection.hearing.rejected:
        at = 1e3 * candidate.start_sample / rate_hz
        if candidate.reason in _MARKERS and first <= at <= last:
            axes.plot(at, 1.03, _MARKERS[candidate.reason], color=ORANGE, markersize=6, zorder=4, **strip)
            axes.axvline(at, color=ORANGE, linewidth=1, linestyle="--")
    axes.set_xlim(first, max(last, first + 1e-3))
    axes.set(xlabel="time (ms)", ylabel="frequency (MHz)")
    missing = "; grey: missing" if inspection.hearing.playback.missing_samples else ""
    axes.set_title(f"Spectrogram; above it the packets and their indices{missing}", pad=18)


def _levels(inspection: Inspection, size: int) -> tuple[Float64[np.ndarray, "size columns"], int]:
    """Level of each frequency bin over time in dB, a full-scale tone is 0, and the samples between columns.

    Means over two spectra and more that overlap by half (Welch, IEEE Trans. Audio Electroacoust. 15, 1967).
    """
    samples, hop = inspection.window, size // 2
    spectra = max(-(-samples.size // (hop * _COLUMNS)), 2)
    columns = max(-(-samples.size // (hop * spectra)), 1)
    padded = np.full((columns * spectra + 1) * hop, np.nan, np.complex64)
    padded[: samples.size] = samples
    taper = scipy.signal.get_window("hann", size)
    power = np.empty((columns, size))
    for column in range(columns):
        starts = hop * (column * spectra + np.arange(spectra))
        frames = padded[starts[:, None] + np.arange(size)] * (taper / taper.sum())
        power[column] = np.mean(np.abs(np.fft.fft(frames, axis=1)) ** 2, axis=0)
    return _db(np.fft.fftshift(power, axes=1).T), hop * spectra


def _db(power: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """In dB, NaN where there is no power at all or samples are missing."""
    level = np.full(power.shape, np.nan)
    np.log10(power, out=level, where=power > 0)
    return 10 * level
