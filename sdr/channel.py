"""The conditions between two radios as data: one frozen dataclass, one YAML file per variant."""

from dataclasses import dataclass
from pathlib import Path

from sdr.errors import SdrError
from sdr.fading import CHANNELS
from sdr.settings import read_settings

SNR_RANGE_DB = (-10.0, 40.0)
_RANGES: dict[str, tuple[float, float]] = {
    "snr_db": SNR_RANGE_DB,
    "cfo_hz": (-1e9, 1e9),  # and within the sampled band, which the waveform knows
    "sfo_ppm": (-500.0, 500.0),
    "loss": (0.0, 1.0),
    "delay_spread_s": (0.0, 1e-5),
    "doppler_hz": (0.0, 5e3),
    "phase_noise_hz": (0.0, 1e5),
    "iq_gain_db": (-6.0, 6.0),
    "iq_phase_deg": (-45.0, 45.0),
    "dc_dbfs": (-120.0, 0.0),
    "pa_backoff_db": (-10.0, 40.0),
    "pa_smoothness": (0.5, 20.0),
    "adc_bits": (1.0, 24.0),
    "adc_rms_dbfs": (-80.0, 20.0),
    "jammer_db": (-60.0, 60.0),
    "jammer_hz": (-1e9, 1e9),
    "jammer_bandwidth_hz": (0.0, 1e9),
    "burst_db": (-60.0, 60.0),
    "burst_duty": (0.0, 1.0),
    "burst_s": (1e-6, 10.0),
}


@dataclass(frozen=True)
class Channel:
    """Conditions of the software channel; by default, noise alone.

    Powers in dB are relative to the transmitter's nominal one, its `tx_rms` squared. SNR is Es/N0 per occupied data
    subcarrier, of the unfaded signal. Raises SdrError for an unknown kind of fading and for numbers out of range.
    """

    fading: str = "awgn"
    """A name of `sdr.fading.CHANNELS`."""
    snr_db: float = 10.0
    cfo_hz: float = 0.0
    """How far the transmitter's carrier lies above the receiver's."""
    sfo_ppm: float = 0.0
    """How much faster than the receiver's the transmitter's sample clock runs."""
    loss: float = 0.0
    """Share of packets, rounded to a whole number of them, that never come."""
    delay_spread_s: float = 100e-9
    """Rms delay spread of the tdl channels; TR 38.901 calls 30 ns short, 100 ns nominal and 300 ns long."""
    doppler_hz: float = 0.0
    """Largest Doppler shift of the tdl channels: speed ÷ wavelength. 0: they stand still."""
    phase_noise_hz: float = 0.0
    """Linewidth of both oscillators together."""
    iq_gain_db: float = 0.0
    """Gain of the receiver's Q branch over its I branch."""
    iq_phase_deg: float = 0.0
    """By how much the receiver's branches miss their right angle."""
    dc_dbfs: float | None = None
    """Power of the receiver's DC offset relative to the converter's full scale; None: no offset."""
    pa_backoff_db: float | None = None
    """Saturation of the transmitter's amplifier over the nominal rms; None: linear."""
    pa_smoothness: float = 2.0
    """Rapp's p: 2 to 3 for solid-state amplifiers; the larger, the more like a hard limiter."""
    adc_bits: int | None = None
    """Bits of the receiver's converter for each of I and Q; None: no quantisation and no clipping."""
    adc_rms_dbfs: float = -12.0
    """Nominal, unfaded signal at the converter: its rms below full scale. The gain is fixed, there is no AGC."""
    jammer_db: float | None = None
    """Power of a narrow-band interferer; None: none."""
    jammer_hz: float = 0.0
    """Its centre, as the receiver sees it."""
    jammer_bandwidth_hz: float = 0.0
    """Its bandwidth, filled with noise; 0: a tone."""
    burst_db: float | None = None
    """Power of wide-band interference while it is on; None: none."""
    burst_duty: float = 0.1
    """Share of time for which it is on."""
    burst_s: float = 1e-3
    """How long each burst of it lasts."""

    def __post_init__(self) -> None:
        if self.fading not in CHANNELS:
            raise SdrError(f"unknown channel '{self.fading}'; known are {', '.join(CHANNELS)}")
        for name, (low, high) in _RANGES.items():
            if getattr(self, name) is not None:
                require(name, float(getattr(self, name)), low, high)
        if self.doppler_hz and CHANNELS[self.fading].profile is None:
            moving = ", ".join(name for name, model in CHANNELS.items() if model.profile)
            raise SdrError(f"channel '{self.fading}' takes no doppler_hz; {moving} do")


def require(name: str, value: float, low: float, high: float) -> None:
    """Raise SdrError unless `value` lies in low…high."""
    if not low <= value <= high:  # NaN neither
        raise SdrError(f"{name} must lie in {low:g}…{high:g}, got {value:g}")


def load_channel(path: Path) -> Channel:
    """Read conditions from a YAML file of the fields of `Channel`; absent ones keep their defaults.

    Raises SdrError for a file that cannot be read, an unknown key, a value of a wrong type or range.
    """
    values = read_settings(path, Channel, "channel")
    try:
        return Channel(**values)
    except SdrError as error:
        raise SdrError(f"channel {path}: {error}") from error


def parse_channel(text: str) -> Channel:
    """What a command line says: a name of `CHANNELS` or the path of a YAML file.

    Raises SdrError if it is neither, and as `load_channel` does.
    """
    if text in CHANNELS:
        return Channel(text)
    if Path(text).suffix in (".yaml", ".yml"):
        return load_channel(Path(text))
    raise SdrError(f"unknown channel '{text}'; known are {', '.join(CHANNELS)}, or a YAML file NAME.yaml")
