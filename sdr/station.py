"""A station: one radio as it stands on the table, with what it may do, as one frozen dataclass and one YAML file."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from sdr.channel import require
from sdr.errors import SdrError
from sdr.settings import read_settings


@dataclass(frozen=True)
class Band:
    """A range of frequencies in which this station may transmit: what law, licence or cable allow."""

    low_hz: float
    high_hz: float
    max_gain_db: float
    """Of all gain elements on the transmitting side together."""
    duty_cycle: float
    """Share of time, in 0…1; after each burst the transmitter is silent for as long as this takes."""
    max_power_dbm: float | None = None
    """Mean power of a burst at the connector; needs `tx_full_scale_dbm`. None: only the gain is looked at."""

    def __post_init__(self) -> None:
        if not 0 < self.low_hz < self.high_hz:
            raise SdrError(f"a band must have 0 < low_hz < high_hz, got {self.low_hz:g}…{self.high_hz:g}")
        if not 0 < self.duty_cycle <= 1:
            raise SdrError(f"duty_cycle must lie in 0…1 and not be 0, got {self.duty_cycle:g}")


@dataclass(frozen=True)
class Side:
    """One direction of a radio."""

    gains: dict[str, float]
    """In dB, by the driver's names; elements that are not named stay at their lowest."""
    antenna: str | None = None
    """None: the driver's first."""


@dataclass(frozen=True)
class Calibration:
    """What was measured of this very radio, and where that stands."""

    reference: str | None = None
    """File, date or person to ask; only printed."""
    oscillator_ppm: float = 0.0
    """How much too high the radio's frequencies are; corrected when it is tuned."""
    tx_full_scale_dbm: float | None = None
    """Power at the connector of a tone at full scale, with the gains of `transmit`."""
    file: str | None = None
    """What `lrisc calibrate` wrote; a path relative to the station file. See `sdr.calibrated.apply_calibration`."""

    def __post_init__(self) -> None:
        require("oscillator_ppm", self.oscillator_ppm, -200.0, 200.0)
        if self.file is not None and self.oscillator_ppm:
            raise SdrError("oscillator_ppm and file both say how far the oscillator is off: leave one of them out")


@dataclass(frozen=True)
class Station:
    """Raises SdrError for numbers that make no sense in themselves; what the radio can do is asked when it is open."""

    name: str
    driver: str
    """SoapySDR's key: hackrf, uhd, lrisc, …"""
    frequency_hz: float
    """Carrier, both ways."""
    receive: Side | None = None
    """None: this station does not receive."""
    transmit: Side | None = None
    """None: this station does not transmit."""
    bands: tuple[Band, ...] = ()
    """Where it may transmit; nowhere else, whatever the radio can do."""
    serial: str | None = None
    """None: the first of its kind."""
    arguments: dict[str, str] = field(default_factory=dict)
    """More of the driver's arguments."""
    rate_hz: float | None = None
    """Sample rate. None: the waveform's; another one can be received and is resampled."""
    bandwidth_hz: float | None = None
    """Analog filter. None: what the driver chooses."""
    tolerance_ppm: float = 20.0
    """How far the oscillator may be off, whatever its calibration says: the allowed band must have room for it."""
    rx_limit_dbm: float | None = None
    """What the receiver's input survives."""
    calibration: Calibration = Calibration()

    def __post_init__(self) -> None:
        require("frequency_hz", self.frequency_hz, 1e3, 1e12)
        require("tolerance_ppm", self.tolerance_ppm, 0.0, 200.0)
        for name in ("rate_hz", "bandwidth_hz"):
            if (value := getattr(self, name)) is not None:
                require(name, value, 1e3, 1e9)

    def device_arguments(self) -> dict[str, str]:
        """What SoapySDR is given to find the radio."""
        serial = {} if self.serial is None else {"serial": self.serial}
        return {"driver": self.driver, **serial, **self.arguments}


def load_station(path: Path) -> Station:
    """Read a station from a YAML file of the fields of `Station`; absent ones keep their defaults.

    Raises SdrError for a file that cannot be read, an unknown or missing key, a value of a wrong type or range.
    """
    values = read_settings(path, Station, "station")
    if missing := [key for key in ("name", "driver", "frequency_hz") if key not in values]:
        raise SdrError(f"station {path} lacks {', '.join(missing)}")
    calibration = values.get("calibration")
    if calibration is not None and calibration.file is not None:
        values["calibration"] = replace(calibration, file=str(Path(path).parent / calibration.file))
    try:
        return Station(**values)
    except SdrError as error:
        raise SdrError(f"station {path}: {error}") from error
