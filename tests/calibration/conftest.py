"""What the tests of campaigns and calibrations share."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from calibration.bench import Bench
from sdr.devices import soapy as soapy_module
from tests.calibration import simulated
from tests.calibration.tiny import make
from tests.conftest import missing


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures and models of a campaign that takes seconds, see `tests.calibration.tiny`."""
    folder = tmp_path_factory.mktemp("tiny")
    make(folder)
    return folder


@pytest.fixture(scope="module")
def air() -> Iterator[None]:
    """An air that only one module's tests use; a short name, because paths of sockets are."""
    if not soapy_module._OWN_DRIVERS.is_dir():
        missing("the virtual radio is not built: make setup")
    folder = tempfile.mkdtemp(prefix="air-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRISC_AIR_DIR", folder)
        yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def bench(air: None) -> Iterator[Bench]:
    """A receiver, bob, and a sender, alice, each with faults of its own."""
    with simulated.bench(simulated.station("bob"), simulated.station("alice")) as opened:
        yield opened
