"""The guard before every transmitter: nothing is radiated but what a station file allows, and only when told to."""

import math
import time

from sdr.errors import SdrError
from sdr.station import Band, Station
from sdr.waveform import Waveform


class TransmitGuard:
    """Leave to transmit with a station, and its duty cycle.

    After each burst of length T the guard asks for T·(1/duty_cycle - 1) of silence, so that no window of time, however
    short, holds more than the allowed share, and a loop of commands obeys as one long command does. Padding of zeros is
    not counted. Raises SdrError, with the reason, if the station does not allow this waveform at its frequency and
    gain.
    """

    def __init__(self, station: Station, waveform: Waveform) -> None:
        self._waveform = waveform
        self.follow(station)
        self._silent_until = -math.inf

    def follow(self, station: Station) -> None:
        """Other settings of the same radio; the silence that is owed stays. Raises SdrError as the constructor does."""
        self.band = _allowed_band(station, self._waveform)

    def wait_s(self) -> float:
        """Silence that is still owed, 0 if none."""
        return max(0.0, self._silent_until - time.monotonic())

    def note(self, burst_s: float) -> None:
        """A burst of that length has just ended."""
        self._silent_until = time.monotonic() + burst_s * (1 / self.band.duty_cycle - 1)


def input_warning(station: Station) -> str | None:
    """What to mind before something is connected to the receiver's input, or None if the station does not say."""
    if station.rx_limit_dbm is None:
        return None
    return (
        f"station '{station.name}': more than {station.rx_limit_dbm:g} dBm at the receiver's input damages it, at any "
        "gain: a cable between two radios needs 30 dB of attenuation or more"
    )


def _allowed_band(station: Station, waveform: Waveform) -> Band:
    name = f"station '{station.name}' does not transmit"
    if station.transmit is None:
        raise SdrError(f"{name}: its file has no 'transmit' section")
    half_hz = (waveform.edge_carrier + 0.5) * waveform.sample_rate_hz / waveform.fft_size
    half_hz += station.frequency_hz * station.tolerance_ppm * 1e-6
    low_hz, high_hz = station.frequency_hz - half_hz, station.frequency_hz + half_hz
    if not station.bands:
        raise SdrError(f"{name}: its file allows no band; list under 'bands' what law and licence allow you")
    inside = [band for band in station.bands if band.low_hz <= low_hz and high_hz <= band.high_hz]
    if not inside:
        allowed = ", ".join(f"{band.low_hz / 1e6:g}…{band.high_hz / 1e6:g}" for band in station.bands)
        raise SdrError(
            f"{name}: the signal would take {low_hz / 1e6:.6g}…{high_hz / 1e6:.6g} MHz, "
            f"oscillator tolerance included, and allowed is {allowed} MHz"
        )
    refusals = [_refusal(station, band, waveform) for band in inside]
    if None not in refusals:
        raise SdrError(f"{name}: {refusals[0]}")
    return inside[refusals.index(None)]


def _refusal(station: Station, band: Band, waveform: Waveform) -> str | None:
    """Why gain or power forbid this band, or None."""
    assert station.transmit is not None
    where = f"in {band.low_hz / 1e6:g}…{band.high_hz / 1e6:g} MHz"
    gain_db = sum(station.transmit.gains.values())
    if gain_db > band.max_gain_db:
        return f"{gain_db:g} dB of gain, and {band.max_gain_db:g} dB are allowed {where}"
    if band.max_power_dbm is None:
        return None
    full_scale_dbm = station.calibration.tx_full_scale_dbm
    if full_scale_dbm is None:
        return f"its power may be {band.max_power_dbm:g} dBm {where}, and its calibration lacks tx_full_scale_dbm"
    power_dbm = full_scale_dbm + 20 * math.log10(waveform.tx_rms)
    if power_dbm > band.max_power_dbm:
        return f"{power_dbm:.1f} dBm, and {band.max_power_dbm:g} dBm are allowed {where}: lower the gains"
    return None
