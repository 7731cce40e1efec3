"""DeepJSCC of 2019: what its paper fixes, and its behaviour as a codec."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from models.classic import ClassicCodec, ClassicNetwork, draw_awgn, merge
from models.errors import ModelError
from models.registry import load_codec
from models.weights import Card
from tests.models.small import picture


def codec(channels: int = 8, seed: int = 0) -> ClassicCodec:
    torch.manual_seed(seed)
    card = Card("classic", 0, {"classic": hashlib.sha256(bytes([channels, seed])).hexdigest()})
    return ClassicCodec(card, ClassicNetwork(channels))


@pytest.mark.parametrize(("channels", "cbr"), [(4, 1 / 24), (8, 1 / 12), (16, 1 / 6)])
def test_channels_set_the_bandwidth_ratio(channels: int, cbr: float) -> None:
    image = picture(64, 96)
    encoded = codec(channels).encode(image, cbr=cbr, snr_hint_db=10.0, mask=None, side_symbols=lambda _: 0)
    assert len(encoded.symbols) == round(cbr * image.size)
    assert np.mean(np.abs(encoded.symbols) ** 2) == pytest.approx(1, abs=1e-4)


def test_layers_are_those_of_the_paper() -> None:
    network = ClassicNetwork(16)
    shapes = [tuple(layer.weight.shape) for layer in network.encoder if isinstance(layer, torch.nn.Conv2d)]
    assert shapes == [(16, 3, 5, 5), (32, 16, 5, 5), (32, 32, 5, 5), (32, 32, 5, 5), (16, 32, 5, 5)]
    assert isinstance(network.decoder[-1], torch.nn.Sigmoid)
    image = torch.rand(2, 3, 24, 40)
    assert network.transmit(image).shape == (2, 8, 6, 10)
    assert network.receive(network.transmit(image)).shape == image.shape


@pytest.mark.parametrize("size", [(64, 96), (61, 43), (1, 1)])
def test_pictures_of_any_size_come_back_in_their_size(size: tuple[int, int]) -> None:
    image = picture(*size)
    encoded = codec().encode(image, cbr=1 / 12, snr_hint_db=3.0, mask=None, side_symbols=lambda _: 0)
    noise_var = np.full(len(encoded.symbols), 0.1, np.float32)
    assert codec().decode(encoded.symbols, noise_var, 10.0, encoded.side).shape == image.shape


def test_what_is_lost_is_not_looked_at() -> None:
    image = picture(32, 32)
    encoded = codec().encode(image, cbr=1 / 12, snr_hint_db=3.0, mask=None, side_symbols=lambda _: 0)
    noise_var = np.full(len(encoded.symbols), 0.1, np.float32)
    noise_var[::3] = np.inf
    garbled = encoded.symbols.copy()
    garbled[::3] = 1e6
    first, second = (codec().decode(s, noise_var, 10.0, encoded.side) for s in (encoded.symbols, garbled))
    assert np.array_equal(first, second)


def test_wrong_requests_are_refused() -> None:
    image = picture(32, 32)
    with pytest.raises(ModelError, match="CBR 1/12 only"):
        codec().encode(image, cbr=1 / 24, snr_hint_db=3.0, mask=None, side_symbols=lambda _: 0)
    encoded = codec().encode(image, cbr=1 / 12, snr_hint_db=3.0, mask=None, side_symbols=lambda _: 0)
    noise_var = np.full(len(encoded.symbols), 0.1, np.float32)
    with pytest.raises(ModelError, match="symbols, not"):
        codec().decode(encoded.symbols[:-1], noise_var[:-1], 3.0, encoded.side)
    with pytest.raises(ModelError, match="other weights"):
        codec(seed=1).decode(encoded.symbols, noise_var, 3.0, encoded.side)


def test_noise_has_the_power_that_the_snr_says() -> None:
    symbols = torch.zeros(4, 8, 50, 50, dtype=torch.complex64)
    noise = draw_awgn(symbols, 7.0, torch.Generator().manual_seed(0))
    assert 10 * noise.abs().square().mean().log10().item() == pytest.approx(-7, abs=0.05)


def test_saved_weights_load_by_their_kind(tmp_path: Path) -> None:
    original = codec()
    original.save(tmp_path, "classic-test")
    loaded = load_codec(str(tmp_path))
    assert isinstance(loaded, ClassicCodec) and loaded.name == "classic-test"


CELLS = [(channels, snr_db) for channels in (4, 8) for snr_db in (0.0, 10.0, 20.0)]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> ClassicCodec:
    folder = tmp_path_factory.mktemp("family")
    for index, (channels, snr_db) in enumerate(CELLS):
        torch.manual_seed(index)
        network = ClassicNetwork(channels, snr_db)
        ClassicCodec(Card("", 0, {}), network).save(folder / str(index), "cell")
    merge([folder / str(index) for index in range(len(CELLS))], folder / "all", "deepjscc-2019")
    loaded = load_codec(str(folder / "all"))
    assert isinstance(loaded, ClassicCodec)
    return loaded


def test_merged_cells_are_one_codec(family: ClassicCodec, tmp_path: Path) -> None:
    assert family.name == "deepjscc-2019"
    assert sorted((n.config.channels, n.config.snr_db) for n in family.networks) == CELLS
    codec().save(tmp_path / "one", "one")
    with pytest.raises(ModelError, match="two networks for one SNR and CBR"):
        merge([tmp_path / "one", tmp_path / "one"], tmp_path / "twice", "twice")


@pytest.mark.parametrize(
    ("hint_db", "nearest_db"), [(-10.0, 0), (4.9, 0), (5.0, 0), (5.5, 10), (14.0, 10), (16.0, 20), (40.0, 20)]
)
@pytest.mark.parametrize(("channels", "cbr"), [(4, 1 / 24), (8, 1 / 12)])
def test_both_ends_take_the_network_of_the_nearest_cell(
    channels: int, cbr: float, hint_db: float, nearest_db: float, family: ClassicCodec
) -> None:
    """What comes out is what the network of that cell makes alone, whatever SNR the receiver measured."""
    image = picture(32, 48)
    encoded = family.encode(image, cbr=cbr, snr_hint_db=hint_db, mask=None, side_symbols=lambda _: 0)
    (network,) = [n for n in family.networks if (n.config.channels, n.config.snr_db) == (channels, nearest_db)]
    alone = ClassicCodec(family.card, network)
    expected = alone.encode(image, cbr=cbr, snr_hint_db=hint_db, mask=None, side_symbols=lambda _: 0)
    assert np.array_equal(encoded.symbols, expected.symbols)
    noise_var = np.full(len(encoded.symbols), 0.1, np.float32)
    received = family.decode(encoded.symbols, noise_var, 3.0, encoded.side)
    assert np.array_equal(received, alone.decode(encoded.symbols, noise_var, 3.0, encoded.side))


def test_a_rate_that_no_cell_has_is_refused(family: ClassicCodec) -> None:
    with pytest.raises(ModelError, match=r"deepjscc-2019 sends at CBR 1/24 and 1/12 only, not at 0\.166"):
        family.encode(picture(32, 32), cbr=1 / 6, snr_hint_db=3.0, mask=None, side_symbols=lambda _: 0)
