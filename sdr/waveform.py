"""The air interface as data: one frozen dataclass, one YAML file per variant."""

import math
from dataclasses import dataclass
from pathlib import Path

from sdr.errors import SdrError
from sdr.settings import read_settings


@dataclass(frozen=True)
class Waveform:
    """Numerology of the OFDM packet: preamble, two long training symbols, header symbols, payload symbols.

    Subcarriers ±1…±`edge_carrier` are used (DC is null), `pilots` of them carry known symbols throughout.
    Lengths are in samples or OFDM symbols. Raises SdrError if the numbers do not fit each other.
    """

    name: str = "default"
    sample_rate_hz: float = 4e6
    fft_size: int = 256
    cyclic_prefix: int = 32
    edge_carrier: int = 88
    pilots: int = 16
    short_period: int = 16
    """Period of the short training sequence: CFO is unambiguous within ±sample_rate_hz / (2 short_period)."""
    short_repeats: int = 20
    header_symbols: int = 4
    payload_symbols: int = 30
    """OFDM symbols of payload in a full packet."""
    tx_rms: float = 0.25
    """Nominal rms of a transmitted packet relative to full scale (0.25 is -12 dBFS)."""

    def __post_init__(self) -> None:
        def require(condition: bool, message: str) -> None:
            if not condition:
                raise SdrError(f"waveform '{self.name}': {message}")

        require(self.sample_rate_hz > 0, f"sample_rate_hz must be positive, got {self.sample_rate_hz}")
        require(
            self.fft_size >= 32 and self.fft_size & (self.fft_size - 1) == 0, "fft_size must be a power of two ≥ 32"
        )
        require(8 <= self.cyclic_prefix <= self.fft_size // 2, "cyclic_prefix must lie in 8…fft_size/2")
        require(8 <= self.edge_carrier < self.fft_size // 2, "edge_carrier must lie in 8…fft_size/2-1")
        require(
            4 <= self.pilots <= self.edge_carrier and self.pilots % 2 == 0,
            "pilots must be even and lie in 4…edge_carrier",
        )
        require(
            self.short_period >= 8 and self.fft_size % self.short_period == 0,
            "short_period must be ≥ 8 and divide fft_size",
        )
        require(self.edge_carrier * self.short_period >= 2 * self.fft_size, "short_period leaves too few carriers")
        require(8 <= self.short_repeats <= 64, "short_repeats must lie in 8…64")
        require(
            self.short_samples >= self.fft_size,
            "the short sequence must be as long as fft_size: its CFO must be good to half a carrier",
        )
        require(1 <= self.header_symbols <= 32, "header_symbols must lie in 1…32")
        require(
            self.header_symbols * self.data_carriers >= 320,
            f"the header has 320 coded bits, {self.header_symbols} header_symbols hold "
            f"{self.header_symbols * self.data_carriers}",
        )
        require(1 <= self.payload_symbols <= 1000, "payload_symbols must lie in 1…1000")
        require(0 < self.tx_rms <= 0.5, "tx_rms must lie in 0…0.5 of full scale")

    @property
    def used_subcarriers(self) -> int:
        """Carriers with energy: data and pilots."""
        return 2 * self.edge_carrier

    @property
    def data_carriers(self) -> int:
        """Carriers that hold payload."""
        return self.used_subcarriers - self.pilots

    @property
    def packet_capacity(self) -> int:
        """Complex payload symbols in a full packet."""
        return self.payload_symbols * self.data_carriers

    @property
    def symbol_samples(self) -> int:
        """Samples of one OFDM symbol with its cyclic prefix."""
        return self.fft_size + self.cyclic_prefix

    @property
    def short_samples(self) -> int:
        """Samples of the short training sequence."""
        return self.short_period * self.short_repeats

    @property
    def preamble_samples(self) -> int:
        """Samples of the short and the long training sequence."""
        return self.short_samples + 2 * self.cyclic_prefix + 2 * self.fft_size

    @property
    def amplitude(self) -> float:
        """Scale of a unit subcarrier symbol under the unitary FFT, so that a packet has rms `tx_rms`."""
        return self.tx_rms * math.sqrt(self.fft_size / self.used_subcarriers)

    def packet_samples(self, payload_symbols: int) -> int:
        """Samples of a packet with that many payload OFDM symbols."""
        return self.preamble_samples + (self.header_symbols + payload_symbols) * self.symbol_samples

    def channel_uses(self, samples: int) -> int:
        """Complex channel uses that `samples` of air time occupy: time × occupied bandwidth (for `cbr_total`)."""
        return round(samples * self.used_subcarriers / self.fft_size)


DEFAULT = Waveform()


def load_waveform(path: Path) -> Waveform:
    """Read a waveform from a YAML file of the fields of `Waveform`; absent ones keep their defaults.

    Raises SdrError for a file that cannot be read, an unknown key, a value of a wrong type or range.
    """
    return Waveform(**read_settings(path, Waveform, "waveform"))
