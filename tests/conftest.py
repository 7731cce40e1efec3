"""What all tests share: shape checks of every annotated function, and the data that may lie beside a checkout."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import jaxtyping
import numpy as np
import pytest
import scipy.linalg  # noqa: F401  # brings a BLAS of its own
from jaxtyping import UInt8
from threadpoolctl import threadpool_limits

# Before any of them is imported: from here on every annotation of shape and dtype is checked at run time.
jaxtyping.install_import_hook(["calibration", "flowgraphs", "models", "sdr"], "beartype.beartype")

# Tables of the receiver are computed once per process, in the last bit as the threads of that moment make them. A
# campaign runs in processes of one thread; compared with it bit by bit, this one must have made them alike.
threadpool_limits(1)


def missing(reason: str) -> NoReturn:
    """Something that a stranger's machine may lack is skipped there, but must be there in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def shared_data() -> Path:
    """Folder of pictures too large for the repository: Kodak, masks of salient objects."""
    folder = os.environ.get("LRISC_SHARED_DATA")
    return Path(folder) if folder else missing("LRISC_SHARED_DATA names no folder of test pictures")


@pytest.fixture
def air(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An air of virtual radios that only this test uses; a short name, because paths of sockets are."""
    from sdr.devices import soapy

    if not soapy._OWN_DRIVERS.is_dir():
        missing("the virtual radio is not built: make setup")
    folder = tempfile.mkdtemp(prefix="air-")
    monkeypatch.setenv("LRISC_AIR_DIR", folder)
    yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def alexnet() -> None:
    """The backbone of LPIPS."""
    from models.lpips import lpips_unavailable

    if reason := lpips_unavailable():
        missing(reason)


@pytest.fixture(scope="session")
def photo() -> UInt8[np.ndarray, "h w 3"]:
    """A piece of a photograph: a face, 192x256."""
    from models.image import default_photo

    return np.ascontiguousarray(default_photo()[0][20:212, 100:356])
