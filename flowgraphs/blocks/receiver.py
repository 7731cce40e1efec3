"""The receiver as a GNU Radio sink."""

import time

import numpy as np
import pmt
from gnuradio import gr

from flowgraphs.display import packet_numbers
from flowgraphs.pdu import image_to_pdu, make_pdu
from flowgraphs.run import say
from sdr import receive
from sdr.candidate import Candidate
from sdr.waveform import DEFAULT, Waveform

_IMAGES, _PACKETS, _COUNTERS = (pmt.intern(name) for name in ("images", "packets", "counters"))
_COUNTERS_S = 0.5


class Receiver(gr.sync_block):  # type: ignore[misc]  # GNU Radio has no type information
    """Finds and demodulates every image in the stream.

    Message ports: `images` for the decoder, see flowgraphs.pdu; `packets` and `counters` for displays.

    waveform: None is the default one.
    silence_s: without a sample for so long the radio has vanished; 0: samples may stay away as long as they like.
    """

    problem: str | None = None
    """Why the flowgraph should end."""

    def __init__(self, waveform: Waveform | None = None, silence_s: float = 0.0) -> None:
        gr.sync_block.__init__(self, name="LRISC receiver", in_sig=[np.complex64], out_sig=None)
        for port in (_IMAGES, _PACKETS, _COUNTERS):
            self.message_port_register_out(port)
        self._waveform, self._silence_s = waveform or DEFAULT, silence_s
        self._receiver = receive.Receiver(self._waveform, observer=self._note)
        self._heard_s = self._told_s = float("inf")
        self.samples = self.packets = 0

    def start(self) -> bool:
        """Called as the flowgraph starts."""
        self._heard_s = self._told_s = time.monotonic()
        return True

    def work(self, input_items: list[np.ndarray], output_items: list[np.ndarray]) -> int:
        """Hand the samples on; the receiver copies them, for the buffer is GNU Radio's."""
        for image in self._receiver.push(input_items[0]):
            if not pmt.is_null(self.message_subscribers(_IMAGES)):  # GNU Radio is slow at making vectors
                self.message_port_pub(_IMAGES, image_to_pdu(image))
        self.samples += input_items[0].size
        self._heard_s = now = time.monotonic()
        if now - self._told_s > _COUNTERS_S:
            self._told_s = now
            self.message_port_pub(_COUNTERS, pmt.to_pmt(self.counters()))
        return input_items[0].size

    def rest(self) -> list[receive.ReceivedImage]:
        """Images that were still incomplete when the stream had ended."""
        return self._receiver.flush()

    def counters(self) -> dict[str, int]:
        """Packets, what led to none, and samples."""
        receiver = self._receiver
        return {
            "packets": self.packets,
            "rejected": receiver.packets_rejected,
            "cut": receiver.packets_cut,
            "foreign": receiver.packets_foreign,
            "bad samples": receiver.bad_samples,
            "samples": self.samples,
        }

    @property
    def over(self) -> bool:
        """Whether the radio has vanished."""
        if self.problem is None and self._silence_s and time.monotonic() - self._heard_s > self._silence_s:
            self.problem = f"the radio has given no samples for {self._silence_s:g} s"
            say(self.problem)
        return self.problem is not None

    def _note(self, candidate: Candidate) -> None:
        if candidate.reason is not None or candidate.packet is None:
            return
        self.packets += 1
        if not pmt.is_null(self.message_subscribers(_PACKETS)):
            numbers = packet_numbers(candidate, self._waveform)
            self.message_port_pub(_PACKETS, make_pdu(numbers, candidate.packet.symbols))
