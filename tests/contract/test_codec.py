"""What every codec must do, whichever it is: one row each.

LRISC with and without diffusion, DeepJSCC, the DeepJSCC of 2019 and the adapter of docs/foreign-model.md have small
networks with random weights; of the shipped weights it is asked that photographs come back. `digital` is no codec, see
models/digital.py, and `digital-real` loses pictures, which none here may: tests/flowgraphs/test_digital.py.
`LRISC_CODEC` and `LRISC_CODEC_CBR` in the environment add a row of one's own.
"""

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.classic import ClassicCodec, ClassicNetwork, merge
from models.codec import GREY, Codec, parse_cbr
from models.errors import ModelError
from models.image import default_photo, is_grey
from models.metrics import psnr_db
from models.pipeline import JsccCodec
from models.registry import load_codec
from models.weights import CARD, SHIPPED, Card
from tests.models.foreign import write_foreign
from tests.models.small import picture, small_codec


@dataclass(frozen=True)
class Row:
    """`make` writes the codec into an empty folder and says what --model takes.

    `fixed`: it has numbers of symbols that it can send, at `cbrs`, and side information comes on top.
    """

    make: Callable[[Path], str]
    cbrs: tuple[float, ...] = (1 / 48, 1 / 24, 1 / 12, 1 / 6)
    fixed: bool = False


def small(adaptive: bool, denoised: bool, seed: int) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        codec = small_codec(adaptive, seed)
        JsccCodec(codec.card, codec.network, codec.denoiser if denoised else None).save(folder, "small", int(denoised))
        return str(folder)

    return make


def classic(folder: Path) -> str:
    cells = [(channels, snr_db) for channels in (4, 8) for snr_db in (0.0, 10.0, 20.0)]
    for index, (channels, snr_db) in enumerate(cells):
        torch.manual_seed(index)
        ClassicCodec(Card("cell", 0, {}), ClassicNetwork(channels, snr_db)).save(folder / f"cell{index}", "cell")
    merge([folder / f"cell{index}" for index in range(len(cells))], folder / "all", "deepjscc-2019")
    return str(folder / "all")


ROWS = {
    "lrisc": Row(small(adaptive=True, denoised=True, seed=0)),
    "direct": Row(small(adaptive=True, denoised=False, seed=1)),
    "deepjscc": Row(small(adaptive=False, denoised=False, seed=2)),
    "deepjscc-lpips": Row(small(adaptive=False, denoised=False, seed=3)),
    "deepjscc-2019": Row(classic, (1 / 24, 1 / 12), fixed=True),
    "somebody's": Row(write_foreign, (1 / 6,), fixed=True),
}
if "LRISC_CODEC" in os.environ:
    own_cbr = parse_cbr(os.environ.get("LRISC_CODEC_CBR", "1/12"))
    ROWS["yours"] = Row(lambda folder: os.environ["LRISC_CODEC"], (own_cbr,), fixed=True)


@pytest.fixture(scope="module", params=ROWS)
def row(request: pytest.FixtureRequest) -> Row:
    return ROWS[request.param]


@pytest.fixture(scope="module")
def codec(row: Row, tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return load_codec(row.make(tmp_path_factory.mktemp("codec")))


def cost(side_bytes: int) -> int:
    """Channel symbols of side information as the radio protects it above 6 dB."""
    return 16 * (side_bytes + 4) + 12


def free(side_bytes: int) -> int:
    """For pictures smaller than their side information."""
    return 0


def encode(codec: Codec, image: np.ndarray, cbr: float, **changes: Any) -> tuple[np.ndarray, bytes]:
    arguments: dict[str, Any] = {"snr_hint_db": 10.0, "mask": None, "side_symbols": cost}
    encoded = codec.encode(image, cbr=cbr, **arguments | changes)
    return encoded.symbols, encoded.side


def through_air(symbols: np.ndarray, snr_db: float) -> tuple[np.ndarray, np.ndarray]:
    rng, variance = np.random.default_rng(0), 10 ** (-snr_db / 10)
    noise = rng.standard_normal((2, len(symbols))) * (variance / 2) ** 0.5
    received = (symbols + noise[0] + 1j * noise[1]).astype(np.complex64)
    return received, np.full(len(symbols), variance, np.float32)


def test_callers_find_what_they_use(codec: Codec) -> None:
    assert isinstance(codec, Codec)
    assert codec.name and codec.parameters > 0 and codec.device == "cpu"
    assert re.fullmatch("[0-9a-f]{64}", codec.digest)


@pytest.mark.parametrize("size", [(128, 152), (132, 100)])
def test_the_budget_is_met_at_unit_power(codec: Codec, row: Row, size: tuple[int, int]) -> None:
    image = picture(*size)
    for cbr in row.cbrs:
        symbols, side = encode(codec, image, cbr)
        total = int(cbr * image.size)
        used = len(symbols) + (0 if row.fixed else cost(len(side)))
        assert 0.98 * total <= used <= total
        assert symbols.dtype == np.complex64 and isinstance(side, bytes)
        assert np.mean(np.abs(symbols) ** 2) == pytest.approx(1, abs=1e-3)


def test_the_same_arguments_give_the_same_picture(codec: Codec, row: Row) -> None:
    image, cbr = picture(64, 80), row.cbrs[-1]
    torch.manual_seed(1)  # global generators have no part in it
    symbols, side = encode(codec, image, cbr)
    received, noise_var = through_air(symbols, 10.0)
    one = codec.decode(received, noise_var, 10.0, side, steps=2, seed=5)
    torch.manual_seed(2)
    again, same = encode(codec, image, cbr)
    assert np.array_equal(again, symbols) and same == side
    assert np.array_equal(codec.decode(received, noise_var, 10.0, side, steps=2, seed=5), one)


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (17, 23), (61, 43), (512, 768)])
def test_pictures_of_any_size(codec: Codec, row: Row, size: tuple[int, int]) -> None:
    image = picture(*size)
    try:
        symbols, side = encode(codec, image, row.cbrs[-1], side_symbols=free)
    except ModelError as error:  # one symbol per position of the latent is the least
        assert int(row.cbrs[-1] * image.size) < -(-size[0] // 16) * -(-size[1] // 16) and "larger" in str(error)
        return
    received = codec.decode(*through_air(symbols, 10.0), 10.0, side, steps=0)
    assert received.shape == image.shape and received.dtype == np.uint8


def test_grey_pictures(codec: Codec, row: Row) -> None:
    grey = np.repeat(picture(64, 80)[:, :, :1], 3, axis=2)
    symbols, side = encode(codec, grey, row.cbrs[-1])
    decoded = codec.decode(*through_air(symbols, 10.0), 10.0, side)
    assert decoded.shape == grey.shape
    assert is_grey(decoded) or not isinstance(codec, JsccCodec | ClassicCodec)  # what others do is theirs


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 25.0, 40.0])
def test_any_snr(codec: Codec, row: Row, snr_db: float) -> None:
    image = picture(64, 80)
    symbols, side = encode(codec, image, row.cbrs[-1], snr_hint_db=snr_db)
    assert codec.decode(*through_air(symbols, snr_db), snr_db, side).shape == image.shape
    silence = np.zeros(len(symbols), np.float32)
    assert codec.decode(symbols, silence, 99.0, side, steps=1).shape == image.shape


def test_lost_symbols_are_not_looked_at(codec: Codec, row: Row) -> None:
    symbols, side = encode(codec, picture(64, 80), row.cbrs[-1])
    received, noise_var = through_air(symbols, 10.0)
    noise_var[::3] = np.inf
    garbled = received.copy()
    garbled[::3] = 1e6
    one, other = (codec.decode(heard, noise_var, 10.0, side, steps=1) for heard in (received, garbled))
    assert np.array_equal(one, other)


def test_nothing_received_is_a_grey_picture_and_a_warning(
    codec: Codec, row: Row, caplog: pytest.LogCaptureFixture
) -> None:
    symbols, side = encode(codec, picture(64, 80), row.cbrs[-1])
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        lost = codec.decode(np.zeros_like(symbols), np.full(len(symbols), np.inf, np.float32), -10.0, side)
    assert lost.shape == (64, 80, 3) and (lost == GREY).all()
    assert "no symbol of a 80×64 picture arrived" in caplog.text


def test_regions_of_interest(codec: Codec, row: Row) -> None:
    """Codecs without them take no notice; an empty one is none to the bit; one of another size is a mistake."""
    image, cbr = picture(128, 152), row.cbrs[-1]
    symbols, side = encode(codec, image, cbr)
    mask = np.zeros((128, 152), np.float32)
    again, same = encode(codec, image, cbr, mask=mask)
    assert np.array_equal(again, symbols) and same == side
    mask[30:90, 20:70] = 1
    for weight in (0.3, 1, 4):
        marked, side = encode(codec, image, cbr, mask=weight * mask)
        assert codec.decode(*through_air(marked, 10.0), 10.0, side, steps=0).shape == image.shape
    for wrong in (mask[:, :-1], mask.T.copy(), 5 * mask, -mask, np.full_like(mask, np.nan)):
        with pytest.raises(ModelError, match="region of interest"):
            encode(codec, image, cbr, mask=wrong)


def test_nonsense_is_refused_in_one_line(codec: Codec, row: Row) -> None:
    image, cbr = picture(64, 80), row.cbrs[-1]
    symbols, side = encode(codec, image, cbr)
    noise_var = np.full(len(symbols), 0.1, np.float32)

    def with_one(values: np.ndarray, value: complex) -> np.ndarray:
        result = values.copy()
        result[3] = value
        return result

    for message, arguments in [
        ("must agree", (symbols, noise_var[:-1], 10.0, side)),
        ("no symbols", (symbols[:0], noise_var[:0], 10.0, side)),
        ("not finite", (with_one(symbols, np.nan), noise_var, 10.0, side)),
        ("not finite", (with_one(symbols, np.inf), noise_var, 10.0, side)),
        ("not finite", (symbols, noise_var, np.nan, side)),
        ("negative", (symbols, with_one(noise_var, -0.1), 10.0, side)),
        ("negative", (symbols, with_one(noise_var, np.nan), 10.0, side)),
        ("side information", (symbols, noise_var, 10.0, b"")),
        ("side information", (symbols, noise_var, 10.0, side[:3])),
        ("encoded with", (symbols, noise_var, 10.0, bytes((side[0] ^ 1, *side[1:])))),
    ]:
        with pytest.raises(ModelError, match=message) as caught:
            codec.decode(*arguments)
        assert "\n" not in str(caught.value)
    for changes in ({"cbr": 0.5}, {"cbr": np.nan}, {"snr_hint_db": 41.0}, {"snr_hint_db": np.nan}):
        with pytest.raises(ModelError) as caught:
            encode(codec, image, **{"cbr": cbr, **changes})
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="too long"):
        encode(codec, np.zeros((70_000, 1, 3), np.uint8), cbr)


@pytest.fixture(scope="module")
def sent(codec: Codec, row: Row) -> tuple[np.ndarray, bytes]:
    return encode(codec, picture(32, 48), row.cbrs[-1], side_symbols=free)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_side_information_of_any_kind_is_an_error_or_a_picture(
    codec: Codec, sent: tuple[np.ndarray, bytes], data: st.DataObject
) -> None:
    """What the picture can cost is bounded by the number of symbols that came, whatever the bytes say."""
    symbols, side = sent
    if data.draw(st.booleans()):
        side = bytes((side[0], *data.draw(st.binary(max_size=60))))
    else:
        changed = bytearray(side)
        for place, value in data.draw(st.dictionaries(st.integers(1, len(side) - 1), st.integers(0, 255))).items():
            changed[place] = value
        side = bytes(changed)
    try:
        received = codec.decode(symbols, np.full(len(symbols), 0.1, np.float32), 10.0, side, steps=0)
    except ModelError as error:
        assert "\n" not in str(error)
    else:
        assert received.ndim == 3 and received.size <= 3 * 16**2 * len(symbols)


@pytest.fixture(scope="module", params=sorted(card.parent.name for card in SHIPPED.glob(f"*/{CARD}")))
def trained(request: pytest.FixtureRequest) -> Codec:
    return load_codec(request.param)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return default_photo()[0][60:188, 140:292]


def received_psnr(
    codec: Codec, photo: np.ndarray, told_db: float, snr_db: float = 10.0, hint_db: float = 10.0
) -> float:
    symbols, side = encode(codec, photo, 1 / 12, snr_hint_db=hint_db)
    return psnr_db(photo, codec.decode(*through_air(symbols, snr_db), told_db, side, steps=0))


def test_a_photograph_comes_back_the_better_the_channel_is(trained: Codec, photo: np.ndarray) -> None:
    quality = [received_psnr(trained, photo, snr, snr, snr) for snr in (0.0, 10.0, 20.0)]
    assert quality[0] > 18 and quality[1] > quality[0] + 1 and quality[2] > quality[1] + 1


def test_wrong_knowledge_of_the_snr_costs_little_by_little(trained: Codec, photo: np.ndarray) -> None:
    """The sender's hint wrong by up to 10 dB, the receiver told 3 dB too much or too little."""
    right = received_psnr(trained, photo, 10.0)
    # networks for one SNR each: with a hint of 5 dB both ends take the one for 0 dB, as with 0
    near = 4.0 if isinstance(trained, ClassicCodec) else 1.5
    for hint_db, most in ((0.0, 4.0), (5.0, near), (15.0, near), (20.0, 4.0)):
        assert received_psnr(trained, photo, 10.0, hint_db=hint_db) > right - most
    for told_db in (7.0, 13.0):
        assert received_psnr(trained, photo, told_db) > right - 0.5
