"""What every codec must do, whichever it is: one row each."""

import numpy as np
import pytest

from models.codec import Codec
from models.errors import ModelError
from models.image import default_photo
from models.metrics import psnr_db
from models.pipeline import JsccCodec

CODECS = ["lrisc", "deepjscc"]


def cost(side_bytes: int) -> int:
    return 16 * (side_bytes + 4) + 12


@pytest.fixture(scope="module", params=CODECS)
def codec(request: pytest.FixtureRequest) -> JsccCodec:
    return JsccCodec.from_pretrained(request.param)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return default_photo()[0][60:189, 140:290]


def sent(codec: Codec, photo: np.ndarray, snr_db: float, cbr: float = 1 / 12) -> tuple[np.ndarray, np.ndarray, bytes]:
    encoded = codec.encode(photo, cbr=cbr, snr_hint_db=snr_db, mask=None, side_symbols=cost)
    rng, variance = np.random.default_rng(0), 10 ** (-snr_db / 10)
    noise = rng.standard_normal((2, len(encoded.symbols))) * (variance / 2) ** 0.5
    received = (encoded.symbols + noise[0] + 1j * noise[1]).astype(np.complex64)
    return received, np.full(len(received), variance, np.float32), encoded.side


@pytest.mark.parametrize("cbr", [1 / 48, 1 / 24, 1 / 12, 1 / 6])
def test_the_budget_is_met_at_unit_power(codec: Codec, photo: np.ndarray, cbr: float) -> None:
    encoded = codec.encode(photo, cbr=cbr, snr_hint_db=10.0, mask=None, side_symbols=cost)
    total = int(cbr * photo.size)
    assert 0.98 * total <= len(encoded.symbols) + cost(len(encoded.side)) <= total
    assert np.mean(np.abs(encoded.symbols) ** 2) == pytest.approx(1, abs=1e-3)


def test_a_photograph_comes_back(codec: Codec, photo: np.ndarray) -> None:
    quality = [psnr_db(photo, codec.decode(*_arguments(codec, photo, snr), steps=0)) for snr in (0.0, 10.0, 20.0)]
    assert quality[0] > 18 and quality[1] > quality[0] + 1 and quality[2] > quality[1] + 1


def _arguments(codec: Codec, photo: np.ndarray, snr_db: float) -> tuple[np.ndarray, np.ndarray, float, bytes]:
    symbols, noise_var, side = sent(codec, photo, snr_db)
    return symbols, noise_var, snr_db, side


def test_nothing_received_is_a_flat_picture(codec: Codec, photo: np.ndarray) -> None:
    symbols, noise_var, side = sent(codec, photo, 10.0)
    picture = codec.decode(np.zeros_like(symbols), np.full_like(noise_var, np.inf), 10.0, side, steps=0)
    assert picture.shape == photo.shape and picture.std() < photo.std() / 2


def test_nonsense_is_refused(codec: Codec, photo: np.ndarray) -> None:
    symbols, noise_var, side = sent(codec, photo, 10.0)
    with pytest.raises(ModelError, match="agree"):
        codec.decode(symbols, noise_var[:-1], 10.0, side)
    with pytest.raises(ModelError, match="finite"):
        codec.decode(np.full_like(symbols, np.nan), noise_var, 10.0, side)
    with pytest.raises(ModelError, match="negative"):
        codec.decode(symbols, -noise_var, 10.0, side)
    with pytest.raises(ModelError):
        codec.decode(symbols, noise_var, 10.0, side[:3])
    with pytest.raises(ModelError, match="other weights"):
        codec.decode(symbols, noise_var, 10.0, bytes((side[0] ^ 1, *side[1:])))
    with pytest.raises(ModelError, match="CBR"):
        codec.encode(photo, cbr=0.5, snr_hint_db=10.0, mask=None, side_symbols=cost)
