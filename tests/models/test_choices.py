"""What a model does by default at an operating point, chosen on held-out pictures."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.codec import Encoded
from models.errors import ModelError
from models.pipeline import JsccCodec
from models.weights import CARD, Card, Choice, read_card, write_choices
from scripts import choose
from scripts.choose import Outcome, best, sheets
from tests.models.small import picture, small_codec

CHOICES = (Choice(0.0, 1 / 24, 4, 0.4), Choice(20.0, 1 / 24, 1, 1.0), Choice(20.0, 1 / 6, 0, 0.0))


def encode(codec: JsccCodec, image: np.ndarray, cbr: float = 1 / 24, hint: float = 20.0) -> Encoded:
    return codec.encode(image, cbr=cbr, snr_hint_db=hint, mask=None, side_symbols=lambda count: 8 * count)


def test_the_nearest_operating_point_is_taken() -> None:
    card = Card("x", 2, {}, CHOICES)
    assert [card.choice(snr, cbr).steps for snr, cbr in ((-5.0, 1 / 40), (15.0, 1 / 20), (22.0, 1 / 5))] == [4, 1, 0]
    assert card.choice(15.0, 0.0).steps == 1  # no symbols: the lowest rate that there is
    assert Card("x", 2, {}).choice(3.0, 1 / 10) == Choice(3.0, 1 / 10, 2, 1.0)


def test_choices_rule_the_default_steps_and_how_uneven_the_rate_is() -> None:
    codec, image = small_codec(), picture(96, 128)
    plain = encode(codec, image)
    noise_var = np.full(len(plain.symbols), 0.01, np.float32)
    explicit = [codec.decode(plain.symbols, noise_var, 20.0, plain.side, steps=steps) for steps in (1, 2)]
    assert np.array_equal(codec.decode(plain.symbols, noise_var, 20.0, plain.side), explicit[1])  # the card's 2
    codec.card = replace(codec.card, choices=CHOICES)
    assert np.array_equal(codec.decode(plain.symbols, noise_var, 20.0, plain.side), explicit[0])
    assert encode(codec, image).side == plain.side  # exponent 1 is what there was before
    assert encode(codec, image, cbr=1 / 6).side != encode(small_codec(), image, cbr=1 / 6).side


def test_the_chosen_gain_goes_with_the_chosen_steps() -> None:
    codec, image = small_codec(), picture(96, 128)
    plain = encode(codec, image)
    noise_var = np.full(len(plain.symbols), 0.01, np.float32)
    arguments = (plain.symbols, noise_var, 20.0, plain.side)
    codec.card = replace(codec.card, choices=(Choice(20.0, 1 / 24, 1, 1.0),))
    one, two = codec.decode(*arguments), codec.decode(*arguments, steps=2)
    codec.card = replace(codec.card, choices=(Choice(20.0, 1 / 24, 1, 1.0, detail_gain=2.0),))
    stronger = codec.decode(*arguments)
    assert not np.array_equal(stronger, one)
    assert np.array_equal(codec.decode(*arguments, steps=1), stronger)
    assert np.array_equal(codec.decode(*arguments, steps=2), two)


def test_inside_a_region_of_interest_the_gain_is_that_of_the_rate_there() -> None:
    codec, image = small_codec(), picture(256, 384)
    mask = np.zeros((256, 384), np.float32)
    mask[64:128, 64:128] = 1
    low, high = (Choice(20.0, cbr, 1, 1.0, detail_gain=gain) for cbr, gain in ((1 / 24, 2.0), (1 / 6, 0.8)))
    codec.card = replace(codec.card, choices=(low, high))
    gains = []
    for region in (mask, None):
        found = codec.encode(image, cbr=1 / 24, snr_hint_db=20.0, mask=region, side_symbols=lambda count: count)
        noise_var = np.full(len(found.symbols), 0.01, np.float32)
        gains.append(codec.read(found.symbols, noise_var, 20.0, found.side).detail_gain[0, 0])
    assert gains[0].shape == (16, 24)
    assert torch.allclose(gains[0][4:8, 4:8], torch.tensor(0.8)) and gains[0][0, -1] == 2
    assert (gains[1] == 2).all()


def test_choices_are_written_beside_the_hashes_and_change_no_identity(tmp_path: Path) -> None:
    small_codec().save(tmp_path, "tiny", 1)
    before = read_card(tmp_path)
    write_choices(tmp_path, list(CHOICES))
    after = read_card(tmp_path)
    assert after.choices == CHOICES and (after.digest, after.default_steps) == (before.digest, 1)
    values = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps(values | {"choices": [{"snr_db": 0}]}))
    with pytest.raises(ModelError, match="not a weights card"):
        read_card(tmp_path)


def test_six_pictures_of_a_size_become_one_and_others_stay() -> None:
    pictures = [np.full((4, 5, 3), number, np.uint8) for number in range(8)]
    other = np.zeros((9, 9, 3), np.uint8)
    first, *rest = sheets([*pictures[:6], other, *pictures[6:]])
    assert [tuple(block[0, 0]) for block in np.vstack(np.split(first, 3, axis=1)).reshape(6, 4, 5, 3)] == [
        (number,) * 3 for number in (0, 3, 1, 4, 2, 5)
    ]
    assert [len(picture) for picture in rest] == [9, 4, 4] and rest[0] is other and rest[2] is pictures[7]


def test_lowest_lpips_within_the_allowed_psnr_and_the_fewest_steps_of_equals() -> None:
    direct, one = Outcome(0, 1.0, 1.0, 30.0, 0.20), Outcome(1, 2.0, 1.0, 29.5, 0.150)
    two = Outcome(2, 1.0, 1.0, 29.4, 0.1495)
    assert best([direct, one, two]) == one
    assert best([direct, replace(one, psnr_db=28.9)]) == direct
    assert best([direct, Outcome(0, 1.0, 0.4, 29.8, 0.18)]).exponent == 0.4


@pytest.mark.usefixtures("alexnet")
def test_the_script_writes_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pictures").mkdir()
    Image.fromarray(picture(64, 64)).save(tmp_path / "pictures" / "a.png")
    small_codec().save(tmp_path / "model", "tiny", 1)
    monkeypatch.setattr(choose, "SNRS_DB", (10.0,))
    monkeypatch.setattr(choose, "CBRS", ("1/12",))
    choose.main(tmp_path / "model", [tmp_path / "pictures"])
    (chosen,) = read_card(tmp_path / "model").choices
    assert (chosen.snr_db, chosen.cbr) == (10.0, 1 / 12)
    assert chosen.steps in choose.STEPS and chosen.exponent in choose.EXPONENTS
