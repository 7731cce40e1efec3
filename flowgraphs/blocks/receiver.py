"""The receiver as a GNU Radio sink."""

import numpy as np
from gnuradio import gr

from sdr import receive
from sdr.waveform import DEFAULT


class Receiver(gr.sync_block):  # type: ignore[misc]  # GNU Radio has no type information
    """Finds and demodulates every image in the stream, on the default waveform.

    To be decoded elsewhere: a neural decoder in this thread would stall the samples.
    """

    images: list[receive.ReceivedImage]
    """In the order of their completion; also the incomplete ones once the flowgraph has stopped."""

    def __init__(self) -> None:
        gr.sync_block.__init__(self, name="LRISC receiver", in_sig=[np.complex64], out_sig=None)
        self._receiver = receive.Receiver(DEFAULT)
        self.images = []

    def work(self, input_items: list[np.ndarray], output_items: list[np.ndarray]) -> int:
        """Hand the samples on; the receiver copies them, for the buffer is GNU Radio's."""
        self.images += self._receiver.push(input_items[0])
        return input_items[0].size

    def stop(self) -> bool:
        """Called when the stream has ended: return what is still incomplete."""
        self.images += self._receiver.flush()
        return True
