"""Makes docs/flowgraph_*.jpg: the windows of the flowgraphs while pictures come through.

Usage: xvfb-run -a -s "-screen 0 1600x1100x24" python scripts/flowgraph_pictures.py docs

transmit_gui and receive_gui use two virtual HackRFs.
"""

import importlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PyQt5.QtWidgets import QApplication

GRAPHS = Path(__file__).parents[1] / "flowgraphs"
STATION = GRAPHS.parent / "configs" / "radio_virtual.yaml"
SETS = (("loopback_gui",), ("transmit_gui", "receive_gui"))
"""Flowgraphs that run at the same time."""
PICTURES = 15
SHOWN_S, PATIENCE_S = 15.0, 300.0
"""A waterfall fills in 5 s."""
_QUALITY = 90


def photographs() -> dict[str, UInt8[np.ndarray, "h w 3"]]:
    """What is sent: scikit-image's, three by two."""
    from skimage import data

    pieces = {"astronaut": (40, 60), "chelsea": (10, 20), "coffee": (60, 110)}
    loaders: dict[str, Callable[[], np.ndarray]] = {name: getattr(data, name) for name in pieces}
    return {name: loaders[name]()[top : top + 280, left : left + 420] for name, (top, left) in pieces.items()}


def compile_graphs(folder: Path) -> None:
    """All of them as Python modules."""
    grcc = shutil.which("grcc")
    assert grcc, "grcc is missing: make setup"
    files = [str(GRAPHS / f"{name}.grc") for names in SETS for name in names]
    subprocess.run([sys.executable, grcc, "-o", str(folder), *files], check=True, stdout=subprocess.DEVNULL)
    sys.path.insert(0, str(folder))


def open_window(name: str, folder: Path) -> Any:
    """A flowgraph that runs, in its window, as its own main function does it."""
    air, options = f"air={folder.name}", {}
    if name != "receive_gui":
        options["pictures"] = str(folder / "pictures")
    if name != "transmit_gui":
        options["out"] = str(folder / "received")
    if name != "loopback_gui":
        options |= {"station": str(STATION), "device": f"soapy:driver=lrisc,serial={name},{air}"}
    module = importlib.import_module(name)
    window = getattr(module, name)(**options | ({"allow_transmit": 1} if name == "transmit_gui" else {}))
    module.snippets_main_after_init(window)
    window.start()
    module.snippets_main_after_start(window)
    window.show()
    return window


def picture_of(names: tuple[str, ...], folder: Path, out: Path) -> None:
    """Run flowgraphs together until enough pictures have come, write what their windows show, and end them."""
    windows = [open_window(name, folder) for name in names]
    begun_s = time.monotonic()
    enough_s = None
    while enough_s is None or time.monotonic() < enough_s:
        QApplication.processEvents()
        time.sleep(0.01)
        if enough_s is None and windows[-1].decode.decoded >= PICTURES:
            enough_s = max(time.monotonic() + 1, begun_s + SHOWN_S)
        assert time.monotonic() < begun_s + PATIENCE_S, f"{names}: too few pictures came"
    for name, window in zip(names, windows, strict=True):
        window.grab().save(str(out / f"flowgraph_{name.removesuffix('_gui')}.jpg"), quality=_QUALITY)
        window.close()


def main() -> None:
    """Write the pictures into the folder given."""
    out = Path(sys.argv[1])
    application = QApplication(sys.argv[:1])
    with tempfile.TemporaryDirectory(prefix="lrisc-") as name:
        folder = Path(name)
        compile_graphs(folder)
        (folder / "pictures").mkdir()
        for subject, picture in photographs().items():
            Image.fromarray(picture).save(folder / "pictures" / f"{subject}.png")
        for names in SETS:
            picture_of(names, folder, out)
    application.quit()


if __name__ == "__main__":
    main()
