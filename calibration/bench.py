"""One radio that receives and, where a step needs it, another one that sends: what the steps of a calibration use."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from jaxtyping import Complex64, Float64

from sdr.assemble import Packet
from sdr.candidate import Candidate
from sdr.devices import Opening, open_device
from sdr.devices.base import DeviceError
from sdr.devices.soapy import SoapyDevice
from sdr.devices.tuning import RX, TX, GainRange
from sdr.errors import SdrError
from sdr.receive import Receiver
from sdr.safety import TransmitGuard
from sdr.station import Side, Station
from sdr.transmit import transmit
from sdr.waveform import Waveform

_SETTLE_S = 0.01
"""After a change of gain; the first samples may still be of the old one."""
_AFTER_S = 1.0
"""How long after a burst its packets are waited for, on the stream."""
_WAIT_S = 0.1
_SILENT_S = 5.0
_ATTEMPTS = 3
_LEAST_SNR = 1e-4
_SESSIONS = 1 << 16
_Result = TypeVar("_Result")


@dataclass(frozen=True, eq=False)
class Capture:
    """What was received of one burst."""

    samples: Complex64[np.ndarray, "n"]
    packets: tuple[Packet, ...]
    """Those of that burst only; `header.image_id` is the index of its level."""

    def at_level(self, index: int) -> list[Packet]:
        """Packets that were sent at that level."""
        return [packet for packet in self.packets if packet.header.image_id == index]

    def snr_db(self, index: int) -> Float64[np.ndarray, "packets"]:
        """What the receiver says of each of them."""
        return np.array([10 * np.log10(max(one.signal / one.noise, _LEAST_SNR)) for one in self.at_level(index)])


@dataclass(frozen=True, eq=False)
class LevelBurst:
    """Packets at several amplitudes, one level after the other."""

    samples: Complex64[np.ndarray, "n"]
    session: int
    packets: int
    """Of each level."""
    levels: int


def level_burst(waveform: Waveform, levels_db: Sequence[float], packets: int, rng: np.random.Generator) -> LevelBurst:
    """Packets of random QPSK at amplitudes in dB, 0: as `lrisc send` sends; what is beyond full scale is cut off."""
    session = int(rng.integers(_SESSIONS))
    parts = []
    for index, level_db in enumerate(levels_db):
        # Side information, here none, takes room for its CRC in the first packet.
        points = rng.choice(np.array([1, 1j, -1, -1j], np.complex64), int((packets - 0.5) * waveform.packet_capacity))
        sent = transmit(points, b"", waveform, session=session, image_id=index, repetition=1)
        scaled = sent.samples * np.float32(10 ** (level_db / 20))
        parts.append(scaled / np.maximum(np.abs(scaled) * np.float32(1.0001), 1).astype(np.float32))
    return LevelBurst(np.concatenate(parts).astype(np.complex64), session, packets, len(levels_db))


class Bench:
    """The opened radios. Gains are given for each measurement; those of an element that is not named are the lowest."""

    def __init__(
        self,
        receiver: SoapyDevice,
        station: Station,
        sender: SoapyDevice | None,
        peer: Station | None,
        waveform: Waveform,
        rng: np.random.Generator,
    ) -> None:
        self.receiver, self.station, self.sender, self._peer = receiver, station, sender, peer
        self.waveform, self.rng = waveform, rng

    @property
    def peer(self) -> Station:
        """The sender's station. Raises SdrError if there is none."""
        if self._peer is None:
            raise SdrError("this step needs a second radio that sends: --peer FILE, its station")
        return self._peer

    @property
    def receive_gains(self) -> dict[str, float]:
        """As the station says, with the elements that it does not name."""
        return _gains(self.station.receive, self.receive_ranges())

    @property
    def transmit_gains(self) -> dict[str, float]:
        """As the peer's station says, with the elements that it does not name."""
        return _gains(self.peer.transmit, self.transmit_ranges())

    def receive_ranges(self) -> dict[str, GainRange]:
        """Of the receiver."""
        return self.receiver.gain_ranges(RX)

    def transmit_ranges(self) -> dict[str, GainRange]:
        """Of the sender."""
        return self._sender.gain_ranges(TX)

    def allowed(self, gains: Mapping[str, float], level_db: float = 0.0) -> bool:
        """Whether the peer's station allows to send with those gains, and with an amplitude so much above nominal."""
        try:
            loud = replace(self.waveform, tx_rms=self.waveform.tx_rms * 10 ** (max(level_db, 0.0) / 20))
            TransmitGuard(_sending(self.peer, gains), loud)
        except SdrError:
            return False
        return True

    def listen(self, seconds: float, gains: Mapping[str, float]) -> Complex64[np.ndarray, "n"]:
        """Samples while nobody of ours sends. Raises SdrError, DeviceError."""
        self.receiver.retune(_receiving(self.station, gains))
        rate_hz = self.receiver.rate_hz
        settle, wanted = round(_SETTLE_S * rate_hz), round((_SETTLE_S + seconds) * rate_hz)

        def read() -> Complex64[np.ndarray, "n"]:
            got: list[np.ndarray] = []
            for samples in _stream(self.receiver):
                got.append(samples)
                if sum(map(len, got)) >= wanted:
                    whole: Complex64[np.ndarray, n] = np.concatenate(got)
                    return whole[settle:wanted]
            raise AssertionError("a radio's stream has no end")

        return _whole(read)

    def exchange(
        self, burst: LevelBurst, *, receive_gains: Mapping[str, float], transmit_gains: Mapping[str, float]
    ) -> Capture:
        """Send a burst and receive it. Raises SdrError, DeviceError; nothing is sent that the station forbids."""
        self.receiver.retune(_receiving(self.station, receive_gains))
        self._sender.retune(_sending(self.peer, transmit_gains))

        def read() -> Capture:
            packets: list[Packet] = []

            def note(candidate: Candidate) -> None:
                if candidate.packet is not None and candidate.packet.header.session == burst.session:
                    packets.append(candidate.packet)

            time.sleep(self._sender.silence_s())  # else the receiver would fill its queue meanwhile
            receiver, left = Receiver(self.waveform, observer=note), 0
            got: list[np.ndarray] = []
            for samples in _stream(self.receiver, lambda: self._sender.transmit(burst.samples)):
                got.append(samples)
                left += samples.size
                receiver.push(samples)
                if len(packets) == burst.packets * burst.levels or left > burst.samples.size + self._after_samples:
                    break
            receiver.flush()
            return Capture(np.concatenate(got), tuple(packets))

        return _whole(read)

    @property
    def _after_samples(self) -> float:
        return _AFTER_S * self.receiver.rate_hz

    @property
    def _sender(self) -> SoapyDevice:
        if self.sender is None:
            raise SdrError("this step needs a second radio that sends: --peer FILE, its station")
        return self.sender


def _receiving(station: Station, gains: Mapping[str, float]) -> Station:
    if station.receive is None:
        raise SdrError(f"station '{station.name}' does not receive: its file has no 'receive' section")
    return replace(station, receive=replace(station.receive, gains=dict(gains)))


def _sending(station: Station, gains: Mapping[str, float]) -> Station:
    """With the power that these gains make of what is known of the station's own."""
    if station.transmit is None:
        raise SdrError(f"station '{station.name}' does not transmit: its file has no 'transmit' section")
    calibration = station.calibration
    if calibration.tx_full_scale_dbm is not None:
        more_db = sum(gains.values()) - sum(station.transmit.gains.values())
        calibration = replace(calibration, tx_full_scale_dbm=calibration.tx_full_scale_dbm + more_db)
    return replace(station, transmit=replace(station.transmit, gains=dict(gains)), calibration=calibration)


class _Lost(Exception):
    """Samples are missing in a measurement, which is worth nothing then."""


def _whole(measure: Callable[[], _Result]) -> _Result:
    """The result of a measurement in which no samples were lost. Raises SdrError if none is such."""
    for _ in range(_ATTEMPTS):
        with suppress(_Lost):
            return measure()
    raise SdrError(f"the receiver lost samples in {_ATTEMPTS} attempts: free the computer and its USB of other work")


def _stream(
    receiver: SoapyDevice, meanwhile: Callable[[], None] = lambda: None
) -> Iterator[Complex64[np.ndarray, "n"]]:
    """Samples from now on, those that come during `meanwhile` first. Raises DeviceError if none come any more."""
    receiver.start()
    try:
        meanwhile()
        came = time.monotonic()
        while True:
            chunk = receiver.read(_WAIT_S)
            if chunk is None or time.monotonic() - came > _SILENT_S:
                raise DeviceError(f"{receiver.name} gives no samples: plug it in again")
            if chunk.overflow or chunk.lost_samples:
                raise _Lost
            if chunk.samples.size:
                came = time.monotonic()
                yield chunk.samples
    finally:
        receiver.stop()


def _gains(side: Side | None, ranges: Mapping[str, GainRange]) -> dict[str, float]:
    return {name: span.minimum_db for name, span in ranges.items()} | (side.gains if side is not None else {})


def check_stations(station: Station, peer: Station | None, waveform: Waveform) -> None:
    """Whether the one may receive and the other send for a calibration; no radio is opened.

    Raises SdrError for a sample rate that is not the waveform's, two frequencies, two stations that are one radio, and
    where the peer's station does not allow to send.
    """
    if station.rate_hz not in (None, waveform.sample_rate_hz):
        raise SdrError(
            f"station '{station.name}' has rate_hz {station.rate_hz:g}, and radios are calibrated at the waveform's "
            f"{waveform.sample_rate_hz:g}: leave rate_hz out, or choose another waveform"
        )
    if peer is None:
        return
    TransmitGuard(peer, waveform)
    if peer.frequency_hz != station.frequency_hz:
        raise SdrError(
            f"station '{station.name}' receives at {station.frequency_hz:g} Hz and '{peer.name}' sends at "
            f"{peer.frequency_hz:g}: they must have the same frequency_hz"
        )
    if peer.device_arguments() == station.device_arguments():
        raise SdrError(f"stations '{station.name}' and '{peer.name}' are the same radio: give each its serial")


@contextmanager
def open_bench(station: Station, peer: Station | None, waveform: Waveform, seed: int) -> Iterator[Bench]:
    """Opens the radios as if they had never been calibrated, to receive with one and to send with the other.

    Raises SdrError as `check_stations`, and for a radio that is not there.
    """
    check_stations(station, peer, waveform)
    with ExitStack() as stack:

        def opened(one: Station, transmit: bool) -> tuple[SoapyDevice, Station]:
            bare = replace(one, calibration=replace(one.calibration, oscillator_ppm=0.0, file=None))
            device = open_device("soapy:", Opening(waveform, transmit=transmit, station=bare))
            assert isinstance(device, SoapyDevice)
            stack.callback(device.close)
            return device, bare

        sender, bare_peer = opened(peer, True) if peer is not None else (None, None)
        receiver, bare = opened(station, False)  # closed first: senders wait for those who listen
        yield Bench(receiver, bare, sender, bare_peer, waveform, np.random.default_rng(seed))
