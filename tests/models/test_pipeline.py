"""The codecs as the link sees them: budget, power, shapes, regions of interest, refusals."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.codec import LONGEST_SIDE
from models.errors import ModelError
from models.image import is_grey
from models.pipeline import JsccCodec
from models.side import Side, pack, unpack
from tests.models.small import picture, small_codec


def side_symbols(count: int) -> int:
    """As the radio protects them: CRC, rate 1/2 and 4-QAM."""
    return 8 * (count + 4)


@pytest.fixture(scope="module")
def lrisc() -> JsccCodec:
    return small_codec()


@pytest.fixture(scope="module")
def deepjscc() -> JsccCodec:
    return small_codec(adaptive=False)


def encode(codec: JsccCodec, image: np.ndarray, **changes: Any) -> tuple[np.ndarray, bytes]:
    arguments: dict[str, Any] = {"cbr": 1 / 12, "snr_hint_db": 10.0, "mask": None, "side_symbols": side_symbols}
    encoded = codec.encode(image, **arguments | changes)
    return encoded.symbols, encoded.side


def decode(codec: JsccCodec, symbols: np.ndarray, side: bytes, noise: float = 0.1, **changes: Any) -> np.ndarray:
    noise_var = np.full(len(symbols), noise, dtype=np.float32)
    return codec.decode(symbols, changes.pop("noise_var", noise_var), changes.pop("snr_db", 10.0), side, **changes)


@pytest.mark.parametrize("steps", [0, 2])
def test_a_grey_picture_comes_back_as_the_mean_of_the_channels(lrisc: JsccCodec, steps: int) -> None:
    symbols, side = encode(lrisc, np.repeat(picture(64, 80)[:, :, :1], 3, axis=2))
    coloured = decode(lrisc, symbols, pack(replace(unpack(side), grey=False)), steps=steps)
    grey = decode(lrisc, symbols, side, steps=steps)
    assert is_grey(grey) and not is_grey(coloured)
    assert np.abs(grey[..., 0] - coloured.astype(float).mean(axis=2)).max() <= 1
    assert not unpack(encode(lrisc, picture(64, 80))[1]).grey


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 150),
    st.integers(1, 150),
    st.floats(1 / 128, 1 / 5),
    st.floats(-10, 40),
    st.sampled_from(["none", "empty", "box", "all"]),
    st.booleans(),
)
def test_budget_is_met_and_the_picture_comes_back_in_its_size(
    height: int, width: int, cbr: float, snr_db: float, region: str, adaptive: bool
) -> None:
    codec = _codecs()[adaptive]
    mask = None if region == "none" else np.zeros((height, width), dtype=np.float32)
    if mask is not None and region != "empty":
        mask[: height if region == "all" else height // 2 + 1, :] = 1
    total = int(cbr * 3 * height * width)
    positions = -(-height // 16) * -(-width // 16)
    try:
        symbols, side = encode(codec, picture(height, width), cbr=cbr, snr_hint_db=snr_db, mask=mask)
    except ModelError as error:
        assert "larger" in str(error)
        assert total < positions + side_symbols(9) + (side_symbols(30) if region in ("box", "all") else 0)
        return
    used = len(symbols) + side_symbols(len(side))
    assert 0.98 * total <= used <= total
    assert symbols.dtype == np.complex64
    assert np.mean(np.abs(symbols) ** 2) == pytest.approx(1, rel=1e-4)
    received = decode(codec, symbols, side, 10 ** (-snr_db / 10), snr_db=snr_db, steps=1)
    assert received.shape == (height, width, 3)
    assert received.dtype == np.uint8


_CACHE: dict[bool, JsccCodec] = {}


def _codecs() -> dict[bool, JsccCodec]:
    """Hypothesis draws inside one test, to which fixtures of this scope would do no harm, but it warns of them."""
    if not _CACHE:
        _CACHE.update({adaptive: small_codec(adaptive) for adaptive in (True, False)})
    return _CACHE


def test_noiseless_linear_path_shows_the_picture(lrisc: JsccCodec, deepjscc: JsccCodec) -> None:
    """The random networks only correct the picture a little: it must be there, upright and in its place."""
    image = picture(70, 90)[:, :40]  # the smooth part
    for codec in (lrisc, deepjscc):
        symbols, side = encode(codec, image, cbr=1 / 5)
        received = decode(codec, symbols, side, 0.0, steps=0)
        error = np.mean((received.astype(float) - image) ** 2)
        assert error < 0.2 * image.astype(float).var()
        assert error < 0.2 * np.mean((received[::-1].astype(float) - image) ** 2)


def test_busy_positions_get_more_symbols(lrisc: JsccCodec) -> None:
    image = picture(160, 192)
    image[:, :96] = 120
    _, side = encode(lrisc, image, cbr=1 / 12)
    levels = unpack(side).levels
    assert levels is not None
    half = levels.shape[1] // 2
    assert levels[:, half:].mean() > levels[:, :half].mean() + 1


def test_map_is_left_out_where_it_would_cost_too_much(lrisc: JsccCodec) -> None:
    _, side = encode(lrisc, picture(64, 64), cbr=1 / 32, side_symbols=lambda count: 40 * count)
    assert unpack(side).group == 0
    finest = [unpack(encode(lrisc, picture(192, 192), cbr=cbr)[1]).group for cbr in (1 / 6, 1 / 100)]
    assert finest[0] == 2
    assert finest[1] in (0, 4, 8)


def test_empty_mask_is_none_to_the_bit(lrisc: JsccCodec) -> None:
    image = picture(96, 80)
    symbols, side = encode(lrisc, image)
    again, same = encode(lrisc, image, mask=np.zeros((96, 80), dtype=np.float32))
    assert side == same
    assert np.array_equal(symbols, again)


def test_region_of_interest_has_more_symbols_and_travels_in_the_side(lrisc: JsccCodec) -> None:
    image, mask = picture(160, 192), np.zeros((160, 192), dtype=np.float32)
    mask[32:96, 32:96] = 1
    _, side = encode(lrisc, image, mask=mask)
    contents = unpack(side)
    assert contents.roi is not None
    assert contents.levels is not None
    plain = unpack(encode(lrisc, image)[1]).levels
    assert plain is not None
    at = np.zeros(contents.roi.shape, dtype=bool)
    scale = 16 * contents.group
    at[32 // scale : 96 // scale, 32 // scale : 96 // scale] = True
    assert np.array_equal(contents.roi, at)
    assert contents.levels[at].mean() > plain[at].mean()
    assert contents.levels[~at].mean() <= plain[~at].mean()
    # What it reaches into belongs to it.
    wider = mask.copy()
    wider[32:96, 96:99] = 1
    at[32 // scale : 96 // scale, 96 // scale] = True
    roi = unpack(encode(lrisc, image, mask=wider)[1]).roi
    assert roi is not None
    assert np.array_equal(roi, at)
    # A region smaller than a group is still there.
    dot = np.zeros((160, 192), dtype=np.float32)
    dot[40, 50] = 1
    roi = unpack(encode(lrisc, image, mask=dot)[1]).roi
    assert roi is not None
    assert roi.sum() == 1


def test_region_of_interest_weighs_from_nothing_to_strong(lrisc: JsccCodec) -> None:
    """The rate inside grows with the weight without end, the weight in the latent up to that of the training."""
    image, mask = picture(160, 192), np.zeros((160, 192), dtype=np.float32)
    mask[64:128, 64:128] = 1
    plain, side = encode(lrisc, image, cbr=1 / 24)
    inside, eighths = [], []
    for weight in (0.125, 0.25, 0.5, 1, 2.5, 4):
        contents = unpack(encode(lrisc, image, cbr=1 / 24, mask=weight * mask)[1])
        assert contents.levels is not None and contents.roi is not None
        inside.append(float(contents.levels[contents.roi].mean()))
        eighths.append(contents.roi_eighths)
    uniform = unpack(side).levels
    assert uniform is not None and contents.roi is not None
    assert uniform[contents.roi].mean() <= inside[0]
    assert inside == sorted(inside) and inside[-1] > inside[-2] > inside[0]
    assert eighths == [1, 2, 4, 8, 8, 8]
    weightless, same = encode(lrisc, image, cbr=1 / 24, mask=0.05 * mask)
    assert same == side
    assert np.array_equal(weightless, plain)


def test_weight_of_the_region_reaches_both_ends(lrisc: JsccCodec) -> None:
    """What the sender multiplies by, the receiver divides by."""
    side = Side(0, 64, 64, 128, 10.0, 2, np.zeros((2, 2), np.int32), np.eye(2, dtype=bool), roi_eighths=2)
    weights = lrisc._roi(unpack(pack(side)))[0, 0]
    assert weights.unique().tolist() == [0, 0.25]
    assert weights[0, 0] == weights[3, 3] == 0.25


def test_deepjscc_takes_no_notice_of_masks(deepjscc: JsccCodec) -> None:
    image = picture(96, 80)
    symbols, side = encode(deepjscc, image)
    masked, same = encode(deepjscc, image, mask=np.ones((96, 80), dtype=np.float32))
    assert side == same
    assert np.array_equal(symbols, masked)
    assert unpack(side).levels is None


def test_padding_continues_the_picture() -> None:
    """No edge that would cost power: without the convolutions all positions of a flat picture send the same."""
    codec = small_codec(adaptive=False)
    with torch.no_grad():
        for parameter in codec.network.encoder.head.parameters():
            parameter.zero_()
    symbols, side = encode(codec, np.full((50, 70, 3), 200, dtype=np.uint8))
    first = codec.read(symbols, np.full(len(symbols), 0.1, np.float32), 10.0, side).symbols[0, 0]
    assert first.numel() == 4 * 5
    assert np.allclose(first, first[0, 0], atol=1e-4)
    assert abs(first[0, 0]) > 1


def test_steps_and_seed(lrisc: JsccCodec, deepjscc: JsccCodec) -> None:
    symbols, side = encode(lrisc, picture(48, 64))
    direct = decode(lrisc, symbols, side, steps=0)
    refined = decode(lrisc, symbols, side, steps=4)
    assert not np.array_equal(direct, refined)
    assert np.array_equal(decode(lrisc, symbols, side, steps=0, seed=1), direct)
    assert np.array_equal(decode(lrisc, symbols, side, steps=4, seed=0), refined)
    assert not np.array_equal(decode(lrisc, symbols, side, steps=4, seed=1), refined)
    assert np.array_equal(decode(lrisc, symbols, side), decode(lrisc, symbols, side, steps=lrisc.card.default_steps))
    told: list[tuple[int, int]] = []
    decode(lrisc, symbols, side, steps=2, progress=lambda done, steps: told.append((done, steps)))
    assert told == [(1, 2), (2, 2)]
    symbols, side = encode(deepjscc, picture(48, 64))
    assert np.array_equal(decode(deepjscc, symbols, side, steps=4), decode(deepjscc, symbols, side, steps=0))


def test_encoding_does_not_depend_on_the_global_generator(lrisc: JsccCodec) -> None:
    torch.manual_seed(1)
    symbols, side = encode(lrisc, picture(96, 80))
    torch.manual_seed(2)
    again, same = encode(lrisc, picture(96, 80))
    assert side == same
    assert np.array_equal(symbols, again)


def test_hints_beyond_training_are_those_of_its_edge(lrisc: JsccCodec) -> None:
    symbols, side = encode(lrisc, picture(96, 80), snr_hint_db=26.0)
    again, same = encode(lrisc, picture(96, 80), snr_hint_db=40.0)
    assert side == same
    assert np.array_equal(symbols, again)
    assert side != encode(lrisc, picture(96, 80), snr_hint_db=25.0)[1]


def test_nearly_everything_erased_is_nearly_the_mean_colour() -> None:
    codec = small_codec()
    with torch.no_grad():  # what the random convolutions make of nothing is no matter here
        codec.network.synthesis.output.weight.zero_()
        codec.network.synthesis.output.bias.zero_()
    symbols, side = encode(codec, picture(50, 70))
    lost = np.full(len(symbols), np.inf, dtype=np.float32)
    lost[-1] = 1e9
    mean = (codec.network.basis.mean * 255).round().int().tolist()
    flat = decode(codec, np.zeros_like(symbols), side, noise_var=lost, steps=0)
    assert np.unique(flat.reshape(-1, 3), axis=0).tolist() == [mean]


@pytest.mark.parametrize("lossy", ["half", "noise", "ideal"])
def test_odd_channels_are_survived(lossy: str, lrisc: JsccCodec) -> None:
    symbols, side = encode(lrisc, picture(50, 70))
    noise_var = np.full(len(symbols), 0.1, dtype=np.float32)
    if lossy == "half":
        noise_var[::2] = np.inf
    elif lossy == "noise":
        noise_var[:], symbols = 1e30, symbols * 1e10
    else:
        noise_var[:] = 0
    one = decode(lrisc, symbols, side, noise_var=noise_var, snr_db=99.0 if lossy == "ideal" else -30.0)
    assert one.shape == (50, 70, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cbr": 0.3}, "CBR 0.3 is out of range: choose 1/128 to 1/5"),
        ({"cbr": 0.001}, "CBR 0.001 is out of range"),
        ({"cbr": float("nan")}, "CBR nan is out of range"),
        ({"snr_hint_db": 41.0}, "SNR 41 dB is out of range: choose -10 to 40"),
        ({"snr_hint_db": float("nan")}, "SNR nan dB is out of range"),
        ({"mask": np.ones((50, 71), dtype=np.float32)}, "region of interest is 71×50, the picture 70×50"),
        ({"mask": np.full((50, 70), 255, dtype=np.float32)}, "outside 0…4"),
        ({"mask": np.full((50, 70), -1, dtype=np.float32)}, "outside 0…4"),
        ({"mask": np.full((50, 70), np.nan, dtype=np.float32)}, "outside 0…4"),
        ({"side_symbols": lambda count: 10**6}, "side information takes 1000000.* choose a larger CBR"),
    ],
)
def test_impossible_requests(changes: dict[str, Any], message: str, lrisc: JsccCodec) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        encode(lrisc, picture(50, 70), **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (16, 16)])
def test_pictures_too_small_for_their_side_information(height: int, width: int, lrisc: JsccCodec) -> None:
    with pytest.raises(ModelError, match=f"{width}×{height} picture.*a larger CBR or a larger picture"):
        encode(lrisc, picture(height, width), cbr=1 / 12)


def test_pictures_too_long(lrisc: JsccCodec) -> None:
    with pytest.raises(ModelError, match="too long"):
        encode(lrisc, np.zeros((LONGEST_SIDE + 1, 1, 3), dtype=np.uint8))


def test_received_values_that_no_receiver_should_hand_on(lrisc: JsccCodec) -> None:
    symbols, side = encode(lrisc, picture(50, 70))
    noise_var = np.full(len(symbols), 0.1, dtype=np.float32)

    def changed(values: np.ndarray, value: complex) -> np.ndarray:
        result = values.copy()
        result[3] = value
        return result

    bad: list[tuple[str, tuple[Any, ...]]] = [
        ("not finite", (changed(symbols, np.nan), noise_var, 10.0, side)),
        ("not finite", (changed(symbols, np.inf), noise_var, 10.0, side)),
        ("negative", (symbols, changed(noise_var, -0.1), 10.0, side)),
        ("negative", (symbols, changed(noise_var, np.nan), 10.0, side)),
        ("not finite", (symbols, noise_var, float("nan"), side)),
        ("number must agree", (symbols, noise_var[:-1], 10.0, side)),
        ("symbols and side information disagree", (symbols[:10], noise_var[:10], 10.0, side)),
        ("no symbols were received", (symbols[:0], noise_var[:0], 10.0, side)),
        ("side information", (symbols, noise_var, 10.0, b"")),
        ("side information", (symbols, noise_var, 10.0, b"\xff" * 20)),
    ]
    for message, arguments in bad:
        with pytest.raises(ModelError, match=message) as caught:
            lrisc.decode(*arguments)
        assert "\n" not in str(caught.value)
    for steps in (-1, 1001):
        with pytest.raises(ModelError, match=f"{steps} denoising steps are not possible: choose 0 to 1000"):
            lrisc.decode(symbols, noise_var, 10.0, side, steps=steps)


def test_fewer_symbols_than_were_sent_decode(lrisc: JsccCodec) -> None:
    """Their number is part of the code: another number is another allocation, wrong but no crash."""
    symbols, side = encode(lrisc, picture(50, 70))
    assert decode(lrisc, symbols[:-5], side).shape == (50, 70, 3)


def test_side_of_other_weights_is_refused(lrisc: JsccCodec, deepjscc: JsccCodec) -> None:
    symbols, side = encode(deepjscc, picture(50, 70))
    assert side[0] != encode(lrisc, picture(50, 70))[1][0]
    with pytest.raises(ModelError, match="encoded with other weights than 'small-True'"):
        decode(lrisc, symbols, side)


def test_damaged_header_of_a_huge_picture_is_refused_before_any_work(lrisc: JsccCodec) -> None:
    symbols, side = encode(lrisc, picture(50, 70))
    huge = pack(Side(side[0], 8000, 8000, 128, 10.0))
    with pytest.raises(ModelError, match="disagree"):
        decode(lrisc, symbols, huge)


def test_gain_carries_the_scale_of_the_picture() -> None:
    """A brighter contrast sends the same symbols but for their power, which only the gain can restore."""
    codec = small_codec(adaptive=False)
    with torch.no_grad():
        for part in (codec.network.encoder.head, codec.network.synthesis.output):
            for parameter in part.parameters():
                parameter.zero_()
    image = picture(64, 64)
    mean = image.mean(axis=(0, 1))
    flat = np.round(mean + 0.25 * (image - mean)).astype(np.uint8)
    deviations = []
    for pixels in (image, flat):
        symbols, side = encode(codec, pixels, cbr=1 / 5)
        received = decode(codec, symbols, side, 0.0, steps=0)
        deviations.append(float(received.astype(float).std()))
        assert deviations[-1] == pytest.approx(float(pixels.astype(float).std()), rel=0.25)
    assert deviations[0] > 3 * deviations[1]


def test_saved_weights_say_nothing_of_the_folder_they_came_from(lrisc: JsccCodec, tmp_path: Path) -> None:
    copy.deepcopy(lrisc).save(tmp_path / "first", "small", 2)
    JsccCodec.from_pretrained(tmp_path / "first").save(tmp_path / "second", "small", 2)
    for text in [path.read_text() for path in tmp_path.rglob("*.json")]:
        assert str(tmp_path) not in text
    first, second = (JsccCodec.from_pretrained(tmp_path / name) for name in ("first", "second"))
    assert first.card == second.card


def test_pictures_painted_at_once_are_those_painted_alone(lrisc: JsccCodec) -> None:
    received = []
    for seed in range(3):
        symbols, side = encode(lrisc, picture(72, 96, seed))
        received.append((symbols, np.full(len(symbols), 0.1 * (seed + 1), np.float32), 10.0 - seed, side))
    alone = [lrisc.decode(*item, steps=2, seed=seed) for seed, item in enumerate(received)]
    read = [lrisc.read(*item, steps=2, seed=seed) for seed, item in enumerate(received)]
    assert len({item.batch for item in read}) == 1
    together = lrisc.paint(read)
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1  # sums are rounded otherwise
    assert not np.array_equal(together[0], together[1])
