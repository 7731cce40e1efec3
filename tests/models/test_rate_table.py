"""The table of quality that a sender with feedback chooses its rate from."""

from pathlib import Path

import pytest
from PIL import Image

from models.errors import ModelError
from models.weights import Quality, read_card, write_quality
from scripts import rate_table
from tests.models.small import picture, small_codec


def test_the_table_travels_in_the_card_and_changes_no_identity(tmp_path: Path) -> None:
    small_codec().save(tmp_path, "tiny", 1)
    before = read_card(tmp_path)
    table = [Quality(0.0, 1 / 12, 0.5), Quality(10.0, 1 / 12, 0.2)]
    write_quality(tmp_path, table, 400.0)
    after = read_card(tmp_path)
    assert after.quality == tuple(table) and after.bits == 400.0 and after.digest == before.digest
    (tmp_path / "codec.json").write_text((tmp_path / "codec.json").read_text().replace('"lpips"', '"psnr"'))
    with pytest.raises(ModelError, match="not a weights card"):
        read_card(tmp_path)


@pytest.mark.usefixtures("alexnet")
def test_the_script_measures_every_operating_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pictures").mkdir()
    Image.fromarray(picture(64, 64)).save(tmp_path / "pictures" / "a.png")
    small_codec().save(tmp_path / "model", "tiny", 1)
    monkeypatch.setattr(rate_table, "SNRS_DB", (0.0, 20.0))
    monkeypatch.setattr(rate_table, "CBRS", ("1/12", "1/8"))
    rate_table.main(tmp_path / "model", [tmp_path / "pictures"])
    card, codec = read_card(tmp_path / "model"), small_codec()
    table = card.quality
    assert card.bits == pytest.approx(codec.bits(picture(64, 64)), rel=0.01)  # weights in fp16
    assert [(entry.snr_db, entry.cbr) for entry in table] == [(s, c) for s in (0.0, 20.0) for c in (1 / 12, 1 / 8)]
    assert all(0 < entry.lpips < 2 for entry in table)
