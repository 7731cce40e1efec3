"""digital-real in a campaign: beside the others over the same channel, and the cliff where its hint is too high."""

from pathlib import Path

import numpy as np
import pytest

from calibration.campaign import carry_out
from calibration.ledger import Records
from calibration.measure import LOST, OK, measure
from calibration.plan import DIGITAL, DIGITAL_REAL, Plan, resolve
from flowgraphs.digital import DigitalLink
from models.digital import digital_reference
from models.image import load_image, save_image
from models.metrics import psnr_db

SNRS_DB = (5.0, 10.0, 25.0)

pytestmark = pytest.mark.usefixtures("alexnet")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[float, dict]]:
    """By model and SNR, of one picture sent with a hint of 10 dB."""
    from models.image import default_photo

    folder = tmp_path_factory.mktemp("digital")
    save_image(folder / "photo.png", np.ascontiguousarray(default_photo()[0][20:180, 100:292]))
    images, models = (str(folder / "photo.png"),), (DIGITAL, DIGITAL_REAL)
    design = resolve(Plan("cliff", images, SNRS_DB, ("1/12",), models, hint_db=10.0))
    carry_out(design, folder / "run", lambda work: map(measure, work), plan_text="", notes={})
    found: dict[str, dict[float, dict]] = {}
    with Records(folder / "run") as records:
        for row in records.rows():
            found.setdefault(row["model"], {})[row["snr_db"]] = {**row, "path": folder / "photo.png"}
    return found


def test_the_cliff_is_seen(rows: dict[str, dict[float, dict]]) -> None:
    real = rows[DIGITAL_REAL]
    assert real[5.0]["status"] == LOST and "could not correct" in real[5.0]["reason"]
    assert real[10.0]["status"] == real[25.0]["status"] == OK
    assert real[10.0]["psnr_db"] == real[25.0]["psnr_db"] > real[5.0]["psnr_db"] + 8
    assert 0.98 / 12 < real[10.0]["cbr"] <= 1 / 12 and real[10.0]["cbr_payload"] < real[10.0]["cbr"]


def test_the_ideal_code_is_an_upper_bound_and_knows_no_hint(rows: dict[str, dict[float, dict]]) -> None:
    for snr_db in SNRS_DB:
        ideal = rows[DIGITAL][snr_db]
        assert ideal["psnr_db"] > rows[DIGITAL_REAL][snr_db]["psnr_db"]
        image = load_image(ideal["path"])
        expected = digital_reference(image, 1 / 12, snr_db)
        assert ideal["psnr_db"] == pytest.approx(psnr_db(image, expected.image), abs=1e-6)


def test_results_know_the_codes_they_were_made_with(tmp_path: Path) -> None:
    design = resolve(Plan("a", ("skimage.data.astronaut",), (10.0,), ("1/12",), (DIGITAL_REAL,)))
    assert design.document()["models"][DIGITAL_REAL][DIGITAL_REAL]["weights"] == DigitalLink().digest
