"""What `lrisc calibrate` measured of a pair of radios: the file that it writes, read and checked before it is used."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Complex64

from sdr.errors import SdrError
from sdr.settings import read_settings
from sdr.station import Station

VERSION = 1
MAX_AGE_DAYS = 30.0
"""Older ones are warned about: crystals age and are as warm as the room, cables are changed."""
_SAME = 1e-9
Role = Literal["sender", "receiver"]


@dataclass(frozen=True)
class GainCurve:
    """Received SNR against a setting of the transmitter, never falling.

    Raises SdrError for lists of different lengths, gains that do not rise, an SNR that falls, a usable range that was
    not measured.
    """

    gain_db: tuple[float, ...]
    snr_db: tuple[float, ...]
    """Es/N0, as the receiver measures it."""
    sd_db: tuple[float, ...]
    """Standard deviation of each `snr_db`."""
    usable_db: tuple[float, ...]
    """Lowest and highest gain between which SNR rises with it: packets are found, and nothing clips."""
    limit: str = ""
    """What ends it above, for people."""

    def __post_init__(self) -> None:
        if not len(self.gain_db) == len(self.snr_db) == len(self.sd_db) or len(self.gain_db) < 2:
            raise SdrError("gain_db, snr_db and sd_db must be lists of the same length, 2 or more")
        if not np.all(np.isfinite([self.gain_db, self.snr_db, self.sd_db])):
            raise SdrError("gain_db, snr_db and sd_db must be finite numbers")
        if np.any(np.diff(self.gain_db) <= 0):
            raise SdrError("gain_db must rise from entry to entry")
        if np.any(np.diff(self.snr_db) < 0):
            raise SdrError("snr_db must not fall from entry to entry")
        if len(self.usable_db) != 2 or not self.gain_db[0] <= self.usable_db[0] < self.usable_db[1] <= self.gain_db[-1]:
            raise SdrError(
                f"usable_db must be a lower and an upper gain within {self.gain_db[0]:g}…{self.gain_db[-1]:g} dB"
            )

    def snr_at(self, gain_db: float) -> float:
        """SNR in dB at a gain, linear between those measured. Raises SdrError for a gain beyond them."""
        if not self.gain_db[0] <= gain_db <= self.gain_db[-1]:
            raise SdrError(f"no SNR is known at {gain_db:g} dB, only at {self.gain_db[0]:g}…{self.gain_db[-1]:g} dB")
        return float(np.interp(gain_db, self.gain_db, self.snr_db))

    def gain_for(self, snr_db: float) -> float:
        """The lowest usable gain that gives that SNR. Raises SdrError if none does, naming the SNRs that can be had."""
        low_db, high_db = self.usable_db
        gains = [low_db, *(gain for gain in self.gain_db if low_db < gain < high_db), high_db]
        snrs = [self.snr_at(gain) for gain in gains]
        if not snrs[0] <= snr_db <= snrs[-1]:
            raise SdrError(
                f"an SNR of {snr_db:g} dB is out of reach: {snrs[0]:.1f}…{snrs[-1]:.1f} dB are received with "
                f"{low_db:g}…{high_db:g} dB"
            )
        above = int(np.searchsorted(snrs, snr_db))  # the first that suffices; the one before it does not
        if above == 0:
            return low_db
        share = (snr_db - snrs[above - 1]) / (snrs[above] - snrs[above - 1])
        return min(gains[above - 1] + share * (gains[above] - gains[above - 1]), gains[above])


@dataclass(frozen=True)
class FrequencyOffset:
    """Of the sender's carrier against the receiver's, at equal settings."""

    ppm: float
    """Positive: the sender's is higher. The `oscillator_ppm` that corrects it at the receiver is −ppm."""
    sd_ppm: float


@dataclass(frozen=True)
class NoiseFloor:
    """Power that a receiver sees when nobody sends, against its total gain. Raises SdrError for unequal lengths."""

    gain_db: tuple[float, ...]
    """All elements together."""
    gains: tuple[dict[str, float], ...]
    """By element."""
    power_dbfs: tuple[float, ...]
    """Mean power of complex samples, without DC; a full-scale carrier has 0."""
    sd_db: tuple[float, ...]
    usable_db: tuple[float, ...]
    """Lowest and highest total gain between which the noise rises with it: it is above the converter's steps, and does
    not fill it. Empty: there is no such range."""

    def __post_init__(self) -> None:
        if not len(self.gain_db) == len(self.gains) == len(self.power_dbfs) == len(self.sd_db):
            raise SdrError("gain_db, gains, power_dbfs and sd_db must be lists of the same length")


@dataclass(frozen=True)
class IqError:
    """DC and quadrature of one side: y = x_I + j·g·(x_Q·cos φ + x_I·sin φ) + dc, g = 10^(gain_db/20), φ = phase_deg."""

    dc_i: float
    """Full scale 1, as dc_q."""
    dc_q: float
    dc_sd: float
    gain_db: float
    gain_sd_db: float
    phase_deg: float
    phase_sd_deg: float


@dataclass(frozen=True)
class SnrBias:
    """How much more the receiver's estimate says than the level steps that it was compared with."""

    bias_db: float
    """Subtract it from an estimate."""
    sd_db: float
    snr_db: tuple[float, ...]
    """Lowest and highest reference SNR that was looked at."""


@dataclass(frozen=True)
class Clip:
    """Where the receiver's converter ends."""

    full_scale: float
    """Largest magnitude of I or Q that it gives."""
    safe_level_dbfs: float
    """Mean power of the packets, received with `safe_gain_db`."""
    safe_gain_db: float
    """Highest total receiving gain that was tried at which fewer than 1 in 10,000 values of this sender's packets clip,
    at `transmit_gains`."""


@dataclass(frozen=True)
class CalibrationFile:
    """One run of `lrisc calibrate`; steps that were not run are None."""

    version: int
    date: str
    """ISO 8601, with time zone."""
    frequency_hz: float
    rate_hz: float
    sender: str | None = None
    """Serial number, None: no step needed one."""
    receiver: str | None = None
    receive_gains: dict[str, float] = field(default_factory=dict)
    """Of the receiver, in dB by element, unless a step says otherwise."""
    transmit_gains: dict[str, float] = field(default_factory=dict)
    """Of the sender, in dB by element, but for the one that a step moves."""
    transmit_element: str | None = None
    """The gain element that `tx_gain` moves."""
    tx_gain: GainCurve | None = None
    tx_amplitude: GainCurve | None = None
    """`gain_db` is the amplitude in dB, 0: as `lrisc send` sends."""
    frequency: FrequencyOffset | None = None
    noise_floor: NoiseFloor | None = None
    transmit_iq: IqError | None = None
    receive_iq: IqError | None = None
    snr_bias: SnrBias | None = None
    clip: Clip | None = None

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise SdrError(f"version {self.version} is not {VERSION}: calibrate again with this version of lrisc")
        try:
            if self._measured().tzinfo is None:
                raise ValueError
        except ValueError:
            raise SdrError(f"date must be ISO 8601 with a time zone, got '{self.date}'") from None
        if self.tx_gain is not None and self.transmit_element is None:
            raise SdrError("tx_gain needs transmit_element, the gain element that it is about")

    def age_days(self, now: datetime | None = None) -> float:
        """Days since it was measured; `now` needs a time zone, None: the clock's."""
        return ((now or datetime.now(UTC)) - self._measured()).total_seconds() / 86_400

    def _measured(self) -> datetime:
        return datetime.fromisoformat(self.date)


def balance(samples: Complex64[np.ndarray, "n"], error: IqError) -> Complex64[np.ndarray, "n"]:
    """Samples as a receiver without that imbalance would give them; its DC stays, turned likewise."""
    phase = np.deg2rad(error.phase_deg)
    along = 1 / (10 ** (error.gain_db / 20) * np.cos(phase))
    balanced = np.empty_like(samples)
    balanced.real = samples.real
    balanced.imag = np.float32(along) * samples.imag - np.float32(np.tan(phase)) * samples.real
    return balanced


def load_calibration(path: Path) -> CalibrationFile:
    """Read what `lrisc calibrate` wrote.

    Raises SdrError for a file that cannot be read, an unknown or missing key, a wrong type, another version.
    """
    values = read_settings(path, CalibrationFile, "calibration")
    if missing := [key for key in ("version", "date", "frequency_hz", "rate_hz") if key not in values]:
        raise SdrError(f"calibration {path} lacks {', '.join(missing)}")
    try:
        return CalibrationFile(**values)
    except SdrError as error:
        raise SdrError(f"calibration {path}: {error}") from error


def check_calibration(
    calibration: CalibrationFile,
    *,
    frequency_hz: float,
    rate_hz: float,
    serial: str | None,
    role: Role,
    max_age_days: float = MAX_AGE_DAYS,
    now: datetime | None = None,
) -> list[str]:
    """Whether a calibration is about this radio as it is tuned; gives warnings for people.

    Args:
        calibration: to be checked.
        frequency_hz: carrier.
        rate_hz: sample rate.
        serial: of the radio; None: not known, which is warned about.
        role: which of the two radios of the file this one is.
        max_age_days: older ones are warned about.
        now: with a time zone; None: the clock's.

    Raises:
        SdrError: it is about another radio, frequency or rate.
    """
    measured = getattr(calibration, role)
    if serial is not None and measured is not None and serial != measured:
        raise SdrError(f"the calibration is for {role} {measured}, and this is {serial}: calibrate this one")
    for name, was, now_is in (
        ("frequency_hz", calibration.frequency_hz, frequency_hz),
        ("rate_hz", calibration.rate_hz, rate_hz),
    ):
        if abs(was - now_is) > _SAME * was:
            raise SdrError(f"the calibration is for {name} {was:.10g}, and this is {now_is:.10g}: calibrate at it")
    warnings = []
    if serial is None and measured is not None:
        warnings.append(f"the calibration is for {role} {measured}; which radio this is nobody said: give its serial")
    if (age := calibration.age_days(now)) > max_age_days:
        warnings.append(f"the calibration is {age:.0f} days old, and more than {max_age_days:g} is too old to trust")
    return warnings


@dataclass(frozen=True)
class Applied:
    """A station as its calibration file asks for, and what else follows from the file."""

    station: Station
    imbalance: IqError | None = None
    """Of the receiver, to be undone with `balance`."""
    warnings: tuple[str, ...] = ()


def apply_calibration(station: Station, *, rate_hz: float, serial: str | None, role: Role) -> Applied:
    """What the file that `station.calibration` names means for this radio; nothing if it names none.

    A receiver is tuned to the sender's carrier, its imbalance is handed on, and a gain above the safe one warned about.
    A sender is only checked, and so is a receiver that is the sender of its file, or the other way round: the file is
    then about its other direction. Arguments are those of `check_calibration`. Raises SdrError as that and
    `load_calibration`.
    """
    if station.calibration.file is None:
        return Applied(station)
    calibration = load_calibration(Path(station.calibration.file))
    other: Role = "receiver" if role == "sender" else "sender"
    about = other if serial is not None and serial == getattr(calibration, other) else role
    try:
        warnings = check_calibration(
            calibration, frequency_hz=station.frequency_hz, rate_hz=rate_hz, serial=serial, role=about
        )
    except SdrError as error:
        raise SdrError(f"station '{station.name}', {station.calibration.file}: {error}") from error
    if role == "sender" or about == "sender":
        return Applied(station, None, tuple(warnings))
    if calibration.frequency is not None:
        tuned = replace(station.calibration, file=None, oscillator_ppm=-calibration.frequency.ppm)
        station = replace(station, calibration=tuned)
    gain_db = sum(station.receive.gains.values()) if station.receive is not None else 0.0
    if calibration.clip is not None and gain_db > calibration.clip.safe_gain_db:
        warnings.append(
            f"{gain_db:g} dB of receiving gain, and with sender {calibration.sender} at its calibrated gains more than "
            f"{calibration.clip.safe_gain_db:g} dB clip"
        )
    return Applied(station, calibration.receive_iq, tuple(warnings))
