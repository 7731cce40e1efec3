"""The decoder as a GNU Radio message block: it hands images to another process and waits for none of them."""

from pathlib import Path
from typing import Any

import pmt
from gnuradio import gr

from flowgraphs.decoding import Decoding
from flowgraphs.pdu import pdu_to_image, picture_to_pdu
from flowgraphs.pictures import Outcome, open_pictures
from flowgraphs.run import say
from sdr.receive import ReceivedImage

_IMAGES, _PICTURES = pmt.intern("images"), pmt.intern("pictures")


class Decoder(gr.basic_block):  # type: ignore[misc]  # GNU Radio has no type information
    """Decodes what comes as `images` (PDUs) into files, and gives the pictures on as `pictures` (PDUs).

    folder: for pictures; '' (for GNU Radio Companion, which looks at the ports) does nothing.
    decoder, model, steps, seed: see flowgraphs.pictures.open_pictures.
    images: end the flowgraph after so many; 0: never.

    Raises ModelError without that decoder, SdrError for a folder that cannot be written.
    """

    problem: str | None = None
    """Why the flowgraph should end."""

    def __init__(
        self,
        folder: str = "",
        decoder: str = "",
        model: str = "lrisc",
        steps: str = "",
        seed: int = 0,
        images: int = 0,
    ) -> None:
        gr.basic_block.__init__(self, name="LRISC decoder", in_sig=None, out_sig=None)
        self.message_port_register_in(_IMAGES)
        self.message_port_register_out(_PICTURES)
        self.set_msg_handler(_IMAGES, self._handle)
        self.done = self.decoded = self.missed = 0
        """Images; those that became pictures; those that should have and did not."""
        self._images = images
        if folder:
            pictures = open_pictures(Path(folder), decoder, model, steps=steps, seed=seed)
            self._decoding = Decoding(pictures, self._tell, self._fail)

    def take(self, image: ReceivedImage) -> None:
        """An image to decode; returns at once."""
        self._decoding.take(image)

    @property
    def over(self) -> bool:
        """Whether there is nothing more to be done here."""
        return self.problem is not None or 0 < self._images <= self.done

    def finish(self) -> None:
        """Wait for all pictures. Called again while it waits (Ctrl-C twice): keep what is left as it was received."""
        while (pdu := self.delete_head_nowait(_IMAGES)) is not None:
            self._handle(pdu)  # its handler had not seen it when the flowgraph ended
        self._decoding.finish()

    def _handle(self, pdu: Any) -> None:
        self.take(pdu_to_image(pdu))

    def _fail(self, problem: str) -> None:
        self.problem = problem
        say(problem)

    def _tell(self, outcome: Outcome) -> None:
        print(outcome.line(), flush=True)
        self.done += 1
        self.missed += outcome.missed
        if outcome.picture is not None:
            self.decoded += 1
            self.message_port_pub(_PICTURES, picture_to_pdu(outcome.picture, outcome.numbers()))
