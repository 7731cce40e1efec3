"""The transmitter as a GNU Radio source."""

from functools import partial
from pathlib import Path

import numpy as np
import pmt
from gnuradio import gr

from flowgraphs.bursts import Burst, Bursts, Timing
from flowgraphs.display import thinned
from flowgraphs.encoder import Encoder
from flowgraphs.pdu import make_pdu, picture_to_pdu
from flowgraphs.run import say
from sdr.safety import TransmitGuard
from sdr.station import load_station
from sdr.waveform import DEFAULT, Waveform

_LENGTH, _PICTURES, _SYMBOLS = (pmt.intern(name) for name in ("packet_len", "pictures", "symbols"))
_WAIT_S, _DONE = 0.1, -1
_SHOWN = 1000  # symbols of a picture


class Transmitter(gr.sync_block):  # type: ignore[misc]  # GNU Radio has no type information
    """Pictures as bursts of packets, each tagged with its length as `packet_len`.

    Message ports `pictures` and `symbols` (PDUs) give to displays what is being sent.

    pictures: file or folder; '' (for GNU Radio Companion, which looks at the ports) sends nothing.
    model, cbr, snr_hint_db, seed, repeat: see flowgraphs.encoder.Encoder.
    waveform, timing: None is the default one.
    station: whose duty cycle is kept; '' is none.
    fill: give zeros for ever where there is nothing to send, untagged, instead of waiting for it.

    Raises SdrError: the station does not allow this waveform.
    """

    def __init__(
        self,
        pictures: str = "",
        model: str = "lrisc",
        cbr: str = "1/12",
        snr_hint_db: float = 10.0,
        seed: int | None = None,
        repeat: bool = False,
        waveform: Waveform | None = None,
        station: str = "",
        timing: Timing | None = None,
        fill: bool = False,
    ) -> None:
        gr.sync_block.__init__(self, name="LRISC transmitter", in_sig=None, out_sig=[np.complex64])
        self.message_port_register_out(_PICTURES)
        self.message_port_register_out(_SYMBOLS)
        self._fill, waveform = fill, waveform or DEFAULT
        guard = TransmitGuard(load_station(Path(station)), waveform) if station else None
        self._settings = waveform, timing or Timing(), guard
        self._encode = partial(
            Encoder, pictures, model=model, cbr=cbr, snr_hint_db=snr_hint_db, repeat=repeat, seed=seed
        )
        self.sent, self.over = 0, False  # pictures; whether it cannot send more
        self.problem: str | None = None
        """Why it cannot."""

    def start(self) -> bool:
        """Called as the flowgraph starts: the encoder loads its model in a process of its own."""
        self.bursts = Bursts(self._encode(), *self._settings)
        return True

    def stop(self) -> bool:
        """Called when the flowgraph has ended."""
        self.bursts.close()
        return True

    def work(self, input_items: list[np.ndarray], output_items: list[np.ndarray]) -> int:
        """Copy the next samples into GNU Radio's buffer."""
        out = output_items[0]
        count, burst = self.bursts.fill(out, 0.0 if self._fill else _WAIT_S)
        if burst is not None:
            self._announce(burst)
        if count:
            return count
        if self.bursts.over and self.bursts.problem and not self.over:
            self.problem, self.over = self.bursts.problem, True
            say(self.problem)
        out[:] = 0
        return out.size if self._fill else _DONE if self.bursts.over else 0

    def _announce(self, burst: Burst) -> None:
        if not self._fill:
            self.add_item_tag(0, self.nitems_written(0), _LENGTH, pmt.from_long(burst.samples.size))
        self.sent += 1
        outgoing, numbers = burst.outgoing, {"packets": burst.packets, "air_s": burst.air_s, "sent": self.sent}
        self.message_port_pub(_PICTURES, picture_to_pdu(outgoing.picture, {"name": outgoing.name, **numbers}))
        self.message_port_pub(_SYMBOLS, make_pdu({}, thinned(outgoing.symbols, _SHOWN)))
