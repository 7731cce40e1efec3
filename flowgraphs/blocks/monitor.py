"""What the receiver measured on packets, as streams for GNU Radio's displays."""

import time
from typing import Any

import numpy as np
import pmt
from gnuradio import gr

from flowgraphs import display
from flowgraphs.pdu import read_pdu
from sdr.waveform import DEFAULT, Waveform

_PACKETS = pmt.intern("packets")
_UPDATE_S = 0.2
_TWICE = 2
"""Each item, for GNU Radio 3.10's vector sink shows the second of those that it gets at once, be there one or not."""
_ITEMS = 1024
"""In its buffers, which are then whole pages of memory; other sizes make GNU Radio print a warning."""


class Monitor(gr.sync_block):  # type: ignore[misc]  # GNU Radio has no type information
    """The last of the `packets` (PDUs) five times a second.

    Outputs: as many payload symbols as the header has, those of the header, power of the channel over the band in dB,
    SNR in dB over the last 20 s. waveform: None is the default one.
    """

    def __init__(self, waveform: Waveform | None = None) -> None:
        waveform = waveform or DEFAULT
        self._points = display.header_points(waveform)
        band, steps = display.band_points(waveform), round(display.HISTORY_S / display.STEP_S)
        outputs = [(np.complex64, self._points)] * 2 + [(np.float32, band), (np.float32, steps)]
        gr.sync_block.__init__(self, name="LRISC monitor", in_sig=None, out_sig=outputs)
        self.set_output_multiple(_TWICE)
        self.set_log_level("warn")  # the next line would be told to the user otherwise
        self.set_min_output_buffer(_ITEMS)
        self.message_port_register_in(_PACKETS)
        self.set_msg_handler(_PACKETS, self._note)
        self._last: tuple[dict[str, Any], np.ndarray] | None = None
        self._history = display.History()

    def work(self, input_items: list[np.ndarray], output_items: list[np.ndarray]) -> int:
        """The same item twice on each output, or none while no packet has come; sleeps in this block's own thread."""
        time.sleep(_UPDATE_S)
        if self._last is None:
            return 0
        numbers, symbols = self._last
        output_items[0][:_TWICE] = display.thinned(symbols, self._points)
        output_items[1][:_TWICE] = numbers["header"]
        output_items[2][:_TWICE] = display.response_db(numbers["response"])
        output_items[3][:_TWICE] = self._history.curve(time.monotonic())
        return _TWICE

    def _note(self, pdu: Any) -> None:
        self._last = numbers, _ = read_pdu(pdu)
        self._history.add(time.monotonic(), numbers["snr_db"])
