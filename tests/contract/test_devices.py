"""What every device does alike, whatever it is: the rows that a new one has to pass."""

import dataclasses
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdr.channel import Channel
from sdr.devices import Opening, open_device
from sdr.devices import soapy as soapy_module
from sdr.devices.base import Chunk, Device
from sdr.devices.file import RecorderDevice, RecordingDevice
from sdr.devices.loopback import LoopbackDevice
from sdr.errors import SdrError
from sdr.playback import Playback
from sdr.receive import ReceivedImage, Receiver
from sdr.recording import open_recording, write_recording
from sdr.station import Band, Side, Station
from sdr.waveform import DEFAULT
from tests.conftest import missing
from tests.sdr.devices.fake_soapy import Module, Radio
from tests.sdr.helpers import mean_error, passage

SENT = passage(1, count=12_000, name="ideal", repetition=4)
Heard = Callable[..., list[Chunk]]
BURST, SPANS = SENT.transmission.samples, SENT.transmission.packets
STATION = Station(
    name="table",
    driver="fake",
    frequency_hz=2.45e9,
    receive=Side({"VGA": 20.0}),
    transmit=Side({"VGA": 20.0}),
    bands=(Band(2.4e9, 2.5e9, max_gain_db=20.0, duty_cycle=1.0),),
)

VIRTUAL_BAND = Band(2.4e9, 2.5e9, max_gain_db=60.0, duty_cycle=1.0)


@dataclass(frozen=True)
class Row:
    """One kind of device."""

    open: Callable[[Path, pytest.MonkeyPatch], Device]
    receives: bool = True
    transmits: bool = True
    listener: Callable[[], Device] | None = None
    """Who hears what it transmits; None: it hears itself."""


def recording(folder: Path, patch: pytest.MonkeyPatch) -> Device:
    path = folder / "air.sigmf-meta"
    write_recording(path, BURST, DEFAULT, (), {})
    return RecordingDevice(open_recording(path))


def recorder(folder: Path, patch: pytest.MonkeyPatch) -> Device:
    return RecorderDevice(folder / "new.sigmf-meta", DEFAULT, {"model": "none"})


def loopback(folder: Path, patch: pytest.MonkeyPatch) -> Device:
    return LoopbackDevice(Channel(snr_db=25.0), DEFAULT, np.random.default_rng(0))


def radio(**traits: Any) -> Callable[[Path, pytest.MonkeyPatch], Device]:
    def open_radio(folder: Path, patch: pytest.MonkeyPatch) -> Device:
        patch.setattr(soapy_module, "_soapy", lambda: Module(Radio(**traits)))
        return open_device("soapy:driver=fake", Opening(DEFAULT, transmit=True, station=STATION))

    return open_radio


def virtual(profile: str, serial: str) -> Device:
    """A virtual radio on an air of this process alone, without noise or errors of its oscillator."""
    if not soapy_module._OWN_DRIVERS.is_dir():
        missing("the virtual radio is not built: make setup")
    gains, loss_db = ({"PGA": 60.0}, 45) if profile == "b210" else ({"VGA": 30.0}, 10)  # 12…15 dB below full scale
    exact = f"pace=free,ppm=0,noise_figure_db=-inf,path_loss_db={loss_db},serial={serial},air=test-{os.getpid()}"
    both = Side(gains)
    station = dataclasses.replace(STATION, driver="lrisc", receive=both, transmit=both, bands=(VIRTUAL_BAND,))
    return open_device(f"soapy:profile={profile},{exact}", Opening(DEFAULT, transmit=True, station=station))


ROWS = {
    "recording": Row(recording, transmits=False),
    "recorder": Row(recorder, receives=False),
    "loopback": Row(loopback),
    "half-duplex radio": Row(radio()),
    "full-duplex radio with a clock": Row(radio(timed=True, full_duplex=True)),
    "virtual HackRF": Row(lambda *_: virtual("hackrf", "a"), listener=lambda: virtual("hackrf", "b")),
    "virtual B210": Row(lambda *_: virtual("b210", "a"), listener=lambda: virtual("b210", "b")),
}


@pytest.fixture(params=ROWS)
def row(request: pytest.FixtureRequest) -> Row:
    return ROWS[request.param]


@pytest.fixture
def device(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    with closing(row.open(tmp_path, monkeypatch)) as opened:
        yield opened


@pytest.fixture
def heard(row: Row, device: Device) -> Iterator[Heard]:
    """Transmits, and gives what is received of it and of so much more."""
    with ExitStack() as stack:
        listener = device if row.listener is None else stack.enter_context(closing(row.listener()))

        def through_air(more: int, **options: Any) -> list[Chunk]:
            if listener is device:
                device.transmit(BURST, SPANS, **options)
                return listen(listener, BURST.size + more)
            sending = threading.Thread(target=lambda: device.transmit(BURST, SPANS, **options))
            listener.start()
            sending.start()
            chunks = []
            while sending.is_alive():
                chunks.append(listener.read(0.1))
            sending.join()
            listener.stop()
            return [chunk for chunk in chunks if chunk is not None]

        yield through_air


def listen(device: Device, samples: int) -> list[Chunk]:
    """What comes until that many samples have, or the stream ends."""
    chunks: list[Chunk] = []
    device.start()
    while sum(chunk.samples.size for chunk in chunks) < samples and (chunk := device.read(1.0)) is not None:
        chunks.append(chunk)
    device.stop()
    return chunks


def found(chunks: list[Chunk]) -> list[ReceivedImage]:
    receiver = Receiver(DEFAULT)
    return [image for chunk in chunks for image in receiver.push(chunk.samples)] + receiver.flush()


def test_chunks_are_samples_with_a_time_each(row: Row, device: Device) -> None:
    if not row.receives:
        with pytest.raises(SdrError, match="nothing can be received"):
            device.start()
        return
    for _ in range(2):  # a receiver can be started again
        chunks = [chunk for chunk in listen(device, 38_000) if chunk.samples.size]
        assert sum(chunk.samples.size for chunk in chunks) >= 38_000
        assert all(chunk.samples.dtype == np.complex64 and np.isfinite(chunk.samples).all() for chunk in chunks)
        assert all((chunk.time_s is not None) == device.timed for chunk in chunks)
        if device.timed:
            for one, other in itertools.pairwise(chunks):
                assert one.time_s is not None and other.time_s is not None
                gap = (other.time_s - one.time_s) * device.rate_hz - one.samples.size
                assert gap == pytest.approx(other.lost_samples, abs=0.01)
    assert device.counters.overflows == sum(chunk.overflow for chunk in chunks) == 0


def test_what_is_transmitted_arrives(row: Row, device: Device, heard: Heard, tmp_path: Path) -> None:
    if not row.transmits:
        with pytest.raises(SdrError, match="nothing can be sent"):
            device.transmit(BURST, SPANS)
        return
    if row.receives:
        (image,) = found(heard(500_000))
    else:
        device.transmit(BURST, SPANS)
        device.close()
        (image,) = found([Chunk(s) for s in open_recording(tmp_path / "new.sigmf-meta").chunks()])
    assert image.packets_received == image.packets_expected and image.side == SENT.side
    assert 10 * np.log10(mean_error(SENT.symbols, image)) < -20
    assert device.counters.underflows == device.counters.late == 0


def test_a_half_duplex_device_does_not_send_while_it_receives(row: Row, device: Device) -> None:
    if not (row.receives and row.transmits):
        return
    device.start()
    if device.full_duplex:
        device.transmit(BURST[:1000])
    else:
        with pytest.raises(SdrError, match="half-duplex: stop receiving first"):
            device.transmit(BURST[:1000])
    assert device.read(1.0) is not None  # and goes on receiving
    device.stop()
    device.transmit(BURST[:1000])


def test_a_burst_begins_at_its_time_where_there_is_a_clock(row: Row, device: Device, heard: Heard) -> None:
    if not row.transmits:
        return
    if not device.timed:
        with pytest.raises(SdrError, match="has no clock"):
            device.transmit(BURST, at_s=1.0)
        with pytest.raises(SdrError, match="has no clock"):
            device.now_s()
        return
    at_s = device.now_s() + (0.02 if row.listener is None else 0.5)
    chunks = [chunk for chunk in heard(500_000, at_s=at_s) if chunk.samples.size]
    (image,) = found(chunks)
    assert chunks[0].time_s is not None
    begun_s = chunks[0].time_s + image.start_sample / device.rate_hz
    assert begun_s == pytest.approx(at_s, abs=1.5 / device.rate_hz)
    device.transmit(BURST, at_s=at_s)  # that time is over
    assert device.counters.late == 1 and any("too late" in note for note in device.notes())


@pytest.mark.parametrize(
    ("samples", "words"),
    [(BURST[:0], "no samples"), (2 * np.ones(8, np.complex64), "magnitude 2"), (BURST[:8] * np.nan, "magnitude nan")],
)
def test_what_no_converter_can_send_is_refused(device: Device, samples: np.ndarray, words: str) -> None:
    with pytest.raises(SdrError, match=words):
        device.transmit(samples)


def test_order_of_calls_is_watched_and_close_is_final(row: Row, device: Device) -> None:
    with pytest.raises(SdrError, match="start it first"):
        device.read(0.1)
    device.stop()  # of what does not run, is nothing
    if row.receives:
        device.start()
        with pytest.raises(SdrError, match="receives already"):
            device.start()
    device.close()
    device.close()
    with pytest.raises(SdrError, match="is closed"):
        device.start()
    with pytest.raises(SdrError, match="is closed"):
        device.read(0.1)
    with pytest.raises(SdrError, match="is closed"):
        device.transmit(BURST)


def test_it_describes_itself(device: Device) -> None:
    described = json.loads(json.dumps(device.describe()))
    assert described["sample_rate_hz"] == device.rate_hz == 4e6
    assert device.notes() == [] and device.kind in ("recording", "loopback", "radio")


def test_a_receiver_plays_it(row: Row, device: Device) -> None:
    """Every device that receives is a stream for the receiver, which may be stopped at any time."""
    if not row.receives:
        return
    playback = Playback(device, DEFAULT)
    samples = 0
    for chunk in playback:
        samples += chunk.size
        if samples > 20_000:
            playback.stop()
    assert samples == playback.samples and playback.failure is None and playback.missing_samples == 0
    device.start()  # it had been stopped
    device.stop()


def test_an_unknown_scheme_is_a_file(tmp_path: Path) -> None:
    with ExitStack() as stack, pytest.raises(SdrError, match="no SigMF recording"):
        stack.enter_context(closing(open_device("soapi:driver=hackrf", Opening(DEFAULT))))
