"""The last picture, earlier ones and counters, as a Qt widget."""

from typing import Any

import pmt
from PyQt5.QtCore import Qt
from PyQt5.QtGui import QImage, QPixmap
from PyQt5.QtWidgets import QGridLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from flowgraphs.display import describe
from flowgraphs.pdu import pdu_to_picture

_LEAST = (360, 240)
"""Pixels of the last picture."""
_FITTED = (Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation)


class PictureFrame(QWidget):
    """title: stands above. earlier, columns: how many earlier pictures, and how many of them side by side."""

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
