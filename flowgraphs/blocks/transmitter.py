"""The transmitter as a GNU Radio source."""

from pathlib import Path

import numpy as np
from gnuradio import gr
from jaxtyping import Complex64

from flowgraphs.exchange import Outgoing, read_outgoing
from sdr.transmit import transmit
from sdr.waveform import DEFAULT

_DONE = -1


def modulate(outgoing: Outgoing) -> Complex64[np.ndarray, "n"]:
    """Samples of an encoded picture on the default waveform. Raises SdrError for what no header can express."""
    return transmit(
        outgoing.symbols,
        outgoing.side,
        DEFAULT,
        session=outgoing.session,
        image_id=outgoing.image_id,
        repetition=outgoing.repetition,
    ).samples


class Transmitter(gr.sync_block):  # type: ignore[misc]  # GNU Radio has no type information
    """The packets of one encoded picture, then silence, then the end of the stream.

    input_file: an .npz of flowgraphs.exchange; None, for GNU Radio Companion to look at the ports, sends nothing.
    tail_samples: length of the silence.

    Raises SdrError for a file that cannot be sent: here and not in the threads of the flowgraph, which cannot.
    """

    burst_samples: int
    """Length of the packets without the silence."""

    def __init__(self, input_file: str | None = None, tail_samples: int = 0) -> None:
        gr.sync_block.__init__(self, name="LRISC transmitter", in_sig=None, out_sig=[np.complex64])
        burst = np.empty(0, np.complex64) if input_file is None else modulate(read_outgoing(Path(input_file)))
        self.burst_samples = burst.size
        self._samples = np.concatenate([burst, np.zeros(tail_samples, np.complex64)])
        self._position = 0

    def work(self, input_items: list[np.ndarray], output_items: list[np.ndarray]) -> int:
        """Copy the next samples into GNU Radio's buffer."""
        chunk = self._samples[self._position : self._position + output_items[0].size]
        output_items[0][: chunk.size] = chunk
        self._position += chunk.size
        return chunk.size or _DONE
