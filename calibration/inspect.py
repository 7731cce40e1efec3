"""What a recording holds, for people: how its power runs, what was heard, and its first packets closely, as numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Complex64, Float64

from calibration.hearing import Hearing
from calibration.tracks import PacketTracks, carriers_hz, impulse_response, packet_tracks
from sdr.candidate import Candidate, Reason
from sdr.devices.file import RecordingDevice
from sdr.playback import Playback
from sdr.recording import Recording
from sdr.waveform import Waveform

_WINDOW_S = 0.1
_DETAIL_LIMIT = 48
_OVERVIEW_COLUMNS = 2048
_OVERVIEW_SAMPLES = 256


@dataclass(frozen=True, eq=False)
class Inspection:
    """All that the picture shows. Times count from the recording's first sample, gaps included."""

    hearing: Hearing
    images: list[dict[str, Any]]
    tracks: list[PacketTracks]
    """Of the packets in the window."""
    window_s: tuple[float, float]
    """The part that is shown in detail: all of a short recording, or from the first packet on."""
    window: Complex64[np.ndarray, "n"]
    """Its samples, NaN where they are missing."""
    column_s: float
    mean_power: Float64[np.ndarray, "columns"]
    """Over all of the recording, `column_s` a column, relative to full scale; NaN where samples are missing."""
    peak_power: Float64[np.ndarray, "columns"]


def inspect(recording: Recording, waveform: Waveform) -> Inspection:
    """Listen to a recording and look closely at its first packets, 48 at most, within a tenth of a second.

    Raises SdrError if the recording cannot be read or its rate not be converted.
    """
    playback = Playback(RecordingDevice(recording), waveform)
    overview, details = _Overview(playback.length(recording.samples, recording.gaps)), _Details(waveform)
    hearing = Hearing(playback, waveform, on_packet=details.add, on_samples=overview.add)
    images = [hearing.describe(found) for found in hearing.images()]
    first, last = details.window(hearing)
    return Inspection(
        hearing=hearing,
        images=images,
        tracks=[packet_tracks(candidate, waveform) for candidate in details.kept],
        window_s=(first / waveform.sample_rate_hz, last / waveform.sample_rate_hz),
        window=_cut_out(playback, first, last),
        column_s=overview.width / waveform.sample_rate_hz,
        mean_power=np.array(overview.mean),
        peak_power=np.array(overview.peak),
    )


class _Overview:
    """Mean and peak power over a stream, in at most 2048 columns of equal width; what is left over has none."""

    def __init__(self, samples: int) -> None:
        self.width = max(-(-samples // _OVERVIEW_COLUMNS), _OVERVIEW_SAMPLES)
        self.mean: list[float] = []
        self.peak: list[float] = []
        self._rest = np.zeros(0, np.complex64)

    def add(self, samples: Complex64[np.ndarray, "n"]) -> None:
        """Take the next samples; a column with a missing one is NaN."""
        samples = np.concatenate([self._rest, samples])
        whole = samples.size // self.width * self.width
        columns = samples[:whole].reshape(-1, self.width)
        self._rest = samples[whole:]
        power = columns.real.astype(np.float64) ** 2 + columns.imag.astype(np.float64) ** 2
        self.mean += power.mean(axis=1).tolist()
        self.peak += power.max(axis=1).tolist()


class _Details:
    """Keeps the first packets and all that their demodulation found."""

    def __init__(self, waveform: Waveform) -> None:
        self.kept: list[Candidate] = []
        self._span = round(_WINDOW_S * waveform.sample_rate_hz)

    def add(self, candidate: Candidate) -> None:
        """Take a packet, if it comes soon enough after the first."""
        soon = not self.kept or candidate.start_sample < self.kept[0].start_sample + self._span
        if soon and len(self.kept) < _DETAIL_LIMIT:
            self.kept.append(candidate)

    def window(self, hearing: Hearing) -> tuple[int, int]:
        """First and last sample of what is worth showing in detail: the packets kept, or what came near to one."""
        if hearing.samples <= self._span:
            return 0, hearing.samples
        margin = self._span // 50
        rejected = [candidate for candidate in hearing.rejected if candidate.reason is not Reason.UNCONFIRMED]
        first = next((candidate.start_sample for candidate in (*self.kept, *rejected)), margin) - margin
        last = first + self._span
        if self.kept and self.kept[-1].packet is not None:
            last = min(last, self.kept[-1].packet.end_sample + margin)
        return max(first, 0), min(last, hearing.samples)


def _cut_out(playback: Playback, first: int, last: int) -> Complex64[np.ndarray, "n"]:
    parts, position = [], 0
    for chunk in playback:
        parts.append(chunk[max(first - position, 0) : max(last - position, 0)])
        position += chunk.size
        if position >= last:
            break
    return np.concatenate([np.zeros(0, np.complex64), *parts])


def report(inspection: Inspection) -> dict[str, Any]:
    """All numbers, for JSON; what is not finite is null."""
    hearing = inspection.hearing
    waveform = hearing.waveform
    return {
        **hearing.report(),
        "images": inspection.images,
        "packets": hearing.packet_rows(),
        "rejected_candidates": hearing.rejected_rows(),
        "power": {
            "column_s": inspection.column_s,
            "mean_dbfs": _numbers(_db(inspection.mean_power)),
            "peak_dbfs": _numbers(_db(inspection.peak_power)),
        },
        "carriers_hz": _numbers(carriers_hz(waveform)),
        "tracks": [_track_numbers(tracks, waveform) for tracks in inspection.tracks],
    }


def _track_numbers(tracks: PacketTracks, waveform: Waveform) -> dict[str, Any]:
    delays_s, power = impulse_response(tracks.response, waveform)
    return {
        "session": tracks.heard.session,
        "image_id": tracks.heard.image_id,
        "packet_index": tracks.heard.packet_index,
        **{
            name: _numbers(getattr(tracks, name))
            for name in (
                "time_s",
                "phase_rad",
                "phase_tracked_rad",
                "phase_sd_rad",
                "delay_s",
                "delay_tracked_s",
                "snr_db",
                "snr_told_db",
            )
        },
        "carrier_snr_db": _numbers(_db(np.mean(10 ** (tracks.symbol_snr_db / 10), axis=0))),
        "response_db": _numbers(2 * _db(np.abs(tracks.response))),
        "response_rad": _numbers(np.angle(tracks.response)),
        "noise_db": tracks.noise_db,
        "impulse_delays_s": _numbers(delays_s),
        "impulse_db": _numbers(_db(power)),
    }


def _db(power: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(power))


def _numbers(values: Float64[np.ndarray, "n"]) -> list[float | None]:
    """Six digits are more than was measured."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values.tolist()]
