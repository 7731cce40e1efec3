"""The quality benchmark: a real run over two pictures, and the arithmetic of its table."""

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import quality
from models.image import default_photo


def row(snr_db: float, psnr: float | None) -> dict[str, object]:
    values = {"psnr_db": psnr, "ms_ssim": 0.5, "lpips": None}
    return {
        "snr_db": snr_db,
        "cbr": "1/12",
        "steps": None,
        "quality": {"lrisc": values, "direct": values, "deepjscc": None, "digital": values},
    }


def test_means_are_over_the_pictures_that_have_a_value() -> None:
    cells = quality.means([row(10.0, 20.0), row(10.0, 30.0), row(10.0, None), row(0.0, 5.0)])
    by_cell = {(cell["snr_db"], cell["method"]): cell for cell in cells}
    assert by_cell[10.0, "lrisc"]["psnr_db"] == 25.0 and by_cell[0.0, "lrisc"]["psnr_db"] == 5.0
    assert by_cell[10.0, "lrisc"]["lpips"] is None
    assert by_cell[10.0, "deepjscc"]["pictures"] == 0
    assert "| 10 dB | 1/12 | LRISC | 25.00 | 0.5000 | – |" in quality.table(cells)


def test_a_run_over_a_folder_writes_every_result(tmp_path: Path) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    photo = default_photo()[0]
    Image.fromarray(photo[50:178, 150:278]).save(folder / "good.png")
    (folder / "broken.png").write_bytes(b"not a picture")
    quality.main(folder, snr_db=[10.0], cbr=["1/12"], workers=1, out=out)
    report = json.loads((out / "quality.json").read_text())
    assert [entry["picture"] for entry in report["pictures"]] == ["good.png"]
    assert [entry["picture"] for entry in report["failed"]] == ["broken.png"]
    assert report["pictures"][0]["cbr_measured"] <= 1 / 12
    assert (out / "quality_10dB_1-12.jpg").is_file() and "LRISC" in (out / "quality.md").read_text()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no pictures"):
        quality.main(tmp_path, out=tmp_path)
