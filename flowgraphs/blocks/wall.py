"""The pictures as they come, and counters, as a Qt widget."""

from typing import Any

import pmt
from gnuradio import gr
from PyQt5.QtCore import QObject, Qt, pyqtSignal
from PyQt5.QtGui import QImage, QPixmap
from PyQt5.QtWidgets import QGridLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from flowgraphs.display import describe
from flowgraphs.pdu import pdu_to_picture

_PICTURES, _COUNTERS = pmt.intern("pictures"), pmt.intern("counters")
_LEAST = (360, 240)
"""Pixels of the last picture."""
_FITTED = (Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation)


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
        frame = _Frame(*self._shape)
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


class _Frame(QWidget):
    def __init__(self, title: str, earlier: int, columns: int) -> None:
        QWidget.__init__(self)
        self._picture, self._caption, self._counters = QLabel("waiting for a picture"), QLabel(), QLabel()
        self._picture.setMinimumSize(*_LEAST)
        self._picture.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Expanding)
        self._earlier = [QLabel() for _ in range(earlier)]
        self._small = (_LEAST[0] // columns - 12, _LEAST[1] // columns)
        self._pixmap: QPixmap | None = None
        layout, grid = QVBoxLayout(self), QGridLayout()
        heading = QLabel(title)
        for label, name in ((heading, "title"), (self._picture, "picture"), (self._counters, "counters")):
            label.setObjectName(name)  # for displays.qss
        layout.addWidget(heading)
        layout.addWidget(self._picture, stretch=1)
        layout.addWidget(self._caption)
        for number, label in enumerate(self._earlier):
            label.setFixedHeight(self._small[1])
            grid.addWidget(label, number // columns, number % columns)
        layout.addLayout(grid)
        layout.addWidget(self._counters)
        for label in (heading, self._picture, self._caption, self._counters, *self._earlier):
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)

    def show_picture(self, pdu: Any) -> None:
        """A new picture; the one before it joins the row of earlier ones."""
        picture, numbers = pdu_to_picture(pdu)
        height, width, _ = picture.shape
        if self._pixmap is not None:
            for later, earlier in zip(self._earlier[::-1], self._earlier[-2::-1], strict=False):
                later.setPixmap(earlier.pixmap() or QPixmap())
            self._earlier[0].setPixmap(self._pixmap.scaled(*self._small, *_FITTED))
        self._pixmap = QPixmap.fromImage(QImage(picture.tobytes(), width, height, 3 * width, QImage.Format_RGB888))
        self._caption.setText(describe(numbers))
        self._fit()

    def show_counters(self, counters: Any) -> None:
        """What the receiver has counted."""
        numbers = pmt.to_python(counters)
        told = [f"{numbers[name]} {name}" for name in ("packets", "rejected", "cut", "foreign")]
        self._counters.setText(" · ".join([*told, f"{numbers['samples'] / 1e6:.1f} M samples"]))

    def resizeEvent(self, event: Any) -> None:
        """Qt's."""
        self._fit()

    def _fit(self) -> None:
        if self._pixmap is not None:
            self._picture.setPixmap(self._pixmap.scaled(self._picture.size(), *_FITTED))
