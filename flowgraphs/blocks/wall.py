"""The pictures as they come, and counters, as a Qt widget."""

from typing import Any

import pmt
from gnuradio import gr
from PyQt5.QtCore import QObject, pyqtSignal
from PyQt5.QtWidgets import QWidget

from flowgraphs.picture_frame import PictureFrame

_PICTURES, _COUNTERS = pmt.intern("pictures"), pmt.intern("counters")


class Wall(gr.basic_block):  # type: ignore[misc]  # GNU Radio has no type information
    """The last of the `pictures` (PDUs), some earlier ones, and `counters` (a dictionary).

    title: stands above them. earlier, columns: how many earlier ones, and how many of them side by side.
    `widget` makes what is shown, in Qt's thread.
    """

    def __init__(self, title: str = "", earlier: int = 4, columns: int = 4) -> None:
        gr.basic_block.__init__(self, name="Picture wall", in_sig=None, out_sig=None)
        self._shape, self._signals = (title, earlier, columns), _Signals()
        for port, handler in ((_PICTURES, self._take_picture), (_COUNTERS, self._take_counters)):
            self.message_port_register_in(port)
            self.set_msg_handler(port, handler)

    def widget(self) -> QWidget:
        """What is shown."""
        frame = PictureFrame(*self._shape)
        self._signals.picture.connect(frame.show_picture)
        self._signals.counters.connect(frame.show_counters)
        return frame

    def _take_picture(self, pdu: Any) -> None:
        self._signals.picture.emit(pdu)

    def _take_counters(self, counters: Any) -> None:
        self._signals.counters.emit(counters)


class _Signals(QObject):
    """From GNU Radio's threads to Qt's."""

    picture = pyqtSignal(object)
    counters = pyqtSignal(object)
