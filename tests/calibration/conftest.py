"""What the tests of campaigns share."""

from pathlib import Path

import pytest

from tests.calibration.tiny import make


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures and models of a campaign that takes seconds, see `tests.calibration.tiny`."""
    folder = tmp_path_factory.mktemp("tiny")
    make(folder)
    return folder
