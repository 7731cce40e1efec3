"""The driver that `make setup` builds, on airs that only one test uses."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.native.radio import DRIVER, Radio, Radios


@pytest.fixture(scope="session")
def driver() -> Path:
    """The built module. SoapySDR looks for modules once, when the first device is opened or searched for."""
    if not DRIVER.exists():
        missing(f"{DRIVER} is not built; run make setup")
    paths = [str(DRIVER.parent), *filter(None, [os.environ.get("SOAPY_SDR_PLUGIN_PATH")])]
    os.environ["SOAPY_SDR_PLUGIN_PATH"] = os.pathsep.join(paths)
    return DRIVER


@pytest.fixture
def air(driver: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for airs; short, because paths of sockets are."""
    folder = Path(tempfile.mkdtemp(prefix="air-"))
    monkeypatch.setenv("LRISC_AIR_DIR", str(folder))
    yield folder / "default"
    shutil.rmtree(folder)


@pytest.fixture
def radios(air: Path) -> Iterator[Radios]:
    """Opens radios on this test's air, and closes all of them at its end, the last one first."""
    opened: list[Radio] = []

    def open_radio(serial: str, profile: str = "ideal", **arguments: object) -> Radio:
        opened.append(Radio(serial, profile, **arguments))
        return opened[-1]

    yield open_radio
    for radio in reversed(opened):  # receivers before senders, which would wait for them to read
        radio.close()
