"""The decoder as a GNU Radio message block: it hands images to another process and waits for none of them."""

import contextlib
import queue
import threading
from pathlib import Path
from typing import Any

import pmt
from gnuradio import gr

from flowgraphs.pdu import pdu_to_image, picture_to_pdu
from flowgraphs.pictures import Outcome, open_pictures
from flowgraphs.run import say
from models.errors import ModelError
from sdr.errors import SdrError
from sdr.receive import ReceivedImage

_IMAGES, _PICTURES = pmt.intern("images"), pmt.intern("pictures")
_IDLE_S, _POLL_S = 0.2, 0.02


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
        self._images, self._finishing, self._hurry = images, False, False
        self._inbox: queue.SimpleQueue[ReceivedImage | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="decoder", daemon=True)
        if folder:
            self._pictures = open_pictures(Path(folder), decoder, model, steps=steps, seed=seed)
            self._thread.start()

    def take(self, image: ReceivedImage) -> None:
        """An image to decode; returns at once."""
        self._inbox.put(image)

    @property
    def over(self) -> bool:
        """Whether there is nothing more to be done here."""
        return self.problem is not None or 0 < self._images <= self.done

    def finish(self) -> None:
        """Wait for all pictures. Called again while it waits (Ctrl-C twice): keep what is left as it was received."""
        self._hurry, self._finishing = self._finishing, True
        while (pdu := self.delete_head_nowait(_IMAGES)) is not None:
            self._handle(pdu)  # its handler had not seen it when the flowgraph ended
        self._inbox.put(None)
        self._thread.join()

    def _handle(self, pdu: Any) -> None:
        self.take(pdu_to_image(pdu))

    def _run(self) -> None:
        """The one thread that talks to the decoder."""
        ended = False
        try:
            with self._pictures as pictures:
                while pictures.waiting or not ended:
                    with contextlib.suppress(queue.Empty):
                        image = self._inbox.get(timeout=1e-3 if pictures.waiting else _IDLE_S)
                        ended = image is None
                        self._tell(pictures.submit(image) if image is not None else [])
                    self._tell(pictures.give_up("not waited for") if self._hurry else pictures.poll(_POLL_S))
        except (ModelError, SdrError) as error:
            self.problem = str(error)
            say(self.problem)

    def _tell(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            print(outcome.line(), flush=True)
            self.done += 1
            self.missed += outcome.missed
            if outcome.picture is not None:
                self.decoded += 1
                self.message_port_pub(_PICTURES, picture_to_pdu(outcome.picture, outcome.numbers()))
