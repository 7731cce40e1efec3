"""A thread between a flowgraph and a decoder in another process, so that neither waits for the other."""

import contextlib
import queue
import threading
from collections.abc import Callable

from flowgraphs.pictures import Outcome, Pictures
from models.errors import ModelError
from sdr.errors import SdrError
from sdr.receive import ReceivedImage

_IDLE_S, _POLL_S = 0.2, 0.02


class Decoding:
    """Hands received images to `pictures`, and what became of each to `tell`, both in a thread of its own.

    `fail` is called with the reason where nothing more can be decoded or kept.
    """

    def __init__(self, pictures: Pictures, tell: Callable[[Outcome], None], fail: Callable[[str], None]) -> None:
        self._pictures, self._tell, self._fail = pictures, tell, fail
        self._finishing = self._hurry = False
        self._inbox: queue.SimpleQueue[ReceivedImage | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="decoding", daemon=True)
        self._thread.start()

    def take(self, image: ReceivedImage) -> None:
        """An image to decode; returns at once."""
        self._inbox.put(image)

    def finish(self) -> None:
        """Wait for all pictures. Called again while it waits (Ctrl-C twice): keep what is left as it was received."""
        self._hurry, self._finishing = self._finishing, True
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        ended = False
        try:
            with self._pictures as pictures:
                while pictures.waiting or not ended:
                    with contextlib.suppress(queue.Empty):
                        image = self._inbox.get(timeout=1e-3 if pictures.waiting else _IDLE_S)
                        ended = image is None
                        self._tell_all(pictures.submit(image) if image is not None else [])
                    self._tell_all(pictures.give_up("not waited for") if self._hurry else pictures.poll(_POLL_S))
        except (ModelError, SdrError) as error:
            self._fail(str(error))

    def _tell_all(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self._tell(outcome)
