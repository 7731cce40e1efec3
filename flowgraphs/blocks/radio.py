"""A radio as one block, whichever it is: the block that runs is gr-soapy's or gr-uhd's own.

GNU Radio Companion looks at the ports of a block that it makes without arguments; only that one is of these classes.
"""

from typing import Any

import numpy as np
from gnuradio import gr

from flowgraphs.radio import open_sink, open_source
from sdr.waveform import DEFAULT, Waveform


class RadioSource(gr.sync_block):  # type: ignore[misc]  # GNU Radio has no type information
    """Samples of a radio.

    device: soapy:driver=NAME[,serial=…] or uhd:[serial=…].
    station: its frequency, gains and antenna, as YAML. waveform: its rate; None is the default one.

    Raises SdrError: see flowgraphs.radio.open_source.
    """

    def __new__(cls, device: str = "", station: str = "", waveform: Waveform | None = None) -> Any:
        """The radio's block."""
        return open_source(device, station, waveform or DEFAULT) if device else super().__new__(cls)

    def __init__(self, device: str = "", station: str = "", waveform: Waveform | None = None) -> None:
        gr.sync_block.__init__(self, name="Radio source", in_sig=None, out_sig=[np.complex64])


class RadioSink(gr.sync_block):  # type: ignore[misc]  # GNU Radio has no type information
    """A radio that sends bursts tagged with their length, and is silent between them.

    device, station, waveform: as of RadioSource. transmit: whether someone told it to.

    Raises SdrError: see flowgraphs.radio.open_sink.
    """

    def __new__(
        cls, device: str = "", station: str = "", waveform: Waveform | None = None, transmit: bool = False
    ) -> Any:
        """The radio's block."""
        if not device:
            return super().__new__(cls)
        return open_sink(device, station, waveform or DEFAULT, transmit=bool(transmit))

    def __init__(
        self, device: str = "", station: str = "", waveform: Waveform | None = None, transmit: bool = False
    ) -> None:
        gr.sync_block.__init__(self, name="Radio sink", in_sig=[np.complex64], out_sig=None)
