"""Each part of the system can be switched off, and then, and only then, has no effect."""

from typing import Any

import numpy as np
import pytest
import torch

from models.denoiser import Denoiser
from models.network import PARTS, JsccNetwork
from models.pipeline import JsccCodec
from models.side import unpack
from models.transform import Decoded
from tests.models.small import WIDTHS, picture, small_codec

ROWS, COLUMNS, COMPONENTS = 4, 5, 64


def network(*without: str) -> JsccNetwork:
    torch.manual_seed(0)
    built: JsccNetwork = JsccNetwork(WIDTHS, COMPONENTS, 1, 1, condition=16, without=without).eval()
    with torch.no_grad():  # gains that depend on what they are told
        for parameter in built.gains.net[-1].parameters():
            parameter.normal_(std=0.1)
    return built


@torch.no_grad()
def transmit(
    built: JsccNetwork, image_shift: float = 0.0, inside: float = 0.0, hint_db: float = 10.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """(symbols before they are divided by their power, symbols per position)"""
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 3, 16 * ROWS, 16 * COLUMNS, generator=generator) + image_shift
    counts = torch.full((1, ROWS, COLUMNS), COMPONENTS // 2)
    mask = torch.full((1, 1, ROWS, COLUMNS), inside)
    sent = built.transmit(image, counts, mask, torch.tensor([hint_db]))
    return sent.symbols, counts


@torch.no_grad()
def receive(
    built: JsccNetwork,
    inside: float = 0.0,
    hint_db: float = 10.0,
    snr_db: float = 10.0,
    spread: float = 0.0,
) -> Decoded:
    """Of given symbols; `spread` makes their noise variances unequal, and every seventh is lost."""
    generator = torch.Generator().manual_seed(2)
    shape = (1, COMPONENTS // 2, ROWS, COLUMNS)
    symbols = torch.complex(torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))
    noise_var = 0.1 * (spread * torch.randn(shape, generator=generator)).exp()
    noise_var.view(-1)[::7] = torch.inf
    counts = torch.full((1, ROWS, COLUMNS), COMPONENTS // 2)
    mask = torch.full((1, 1, ROWS, COLUMNS), inside)
    scalars = (torch.tensor([snr_db]), torch.tensor([hint_db]))
    return built.receive(symbols, noise_var, torch.ones(1), counts, mask, *scalars)


def test_snr_adaptation_at_both_ends() -> None:
    for built, told in ((network(), True), (network("snr"), False)):
        assert torch.equal(transmit(built, hint_db=0.0)[0], transmit(built, hint_db=20.0)[0]) != told
        for changes in ({"hint_db": 0.0}, {"snr_db": 0.0}):
            assert torch.equal(receive(built, **changes).image, receive(built).image) != told


def test_confidence_of_each_symbol() -> None:
    assert not torch.equal(receive(network(), spread=1.0).image, receive(network()).image)
    blind = network("confidence")
    assert torch.equal(receive(blind, spread=1.0).image, receive(blind).image)
    assert not torch.equal(receive(blind, snr_db=0.0).image, receive(blind).image)  # the scalar is still known
    deaf = network("confidence", "snr")
    assert torch.equal(receive(deaf, spread=1.0, snr_db=0.0).image, receive(deaf).image)


def test_region_of_interest_in_the_latent() -> None:
    for built, weighted in ((network(), True), (network("roi"), False)):
        assert torch.equal(transmit(built, inside=1.0)[0], transmit(built)[0]) != weighted
        assert torch.equal(receive(built, inside=1.0).image, receive(built).image) != weighted


@torch.no_grad()
def test_learned_transform() -> None:
    """Without it, what is sent is linear in the picture, but for the mean colour."""
    for built, learned in ((network(), True), (network("transform"), False)):
        symbols = [transmit(built, image_shift=shift)[0] for shift in (0.0, 2.0, 4.0)]
        linear = torch.allclose(symbols[2] - symbols[1], symbols[1] - symbols[0], atol=1e-4)
        assert linear != learned


@torch.no_grad()
def test_direct_decoder() -> None:
    """Without it, the picture is the linear one, in which a position sees no other."""
    for built, learned in ((network(), True), (network("decoder"), False)):
        changed = network("decoder") if not learned else network()
        for parameter in changed.synthesis.parameters():
            parameter.add_(0.01)
        assert torch.equal(receive(built).image, receive(changed).image) != learned


def test_adaptive_rate() -> None:
    """Without it, the rate is uniform and costs no map, but a region of interest still has more."""
    codec, image = small_codec(), picture(160, 192)
    mask = np.zeros((160, 192), np.float32)
    mask[32:96, 32:96] = 1
    arguments: dict[str, Any] = {"cbr": 1 / 12, "snr_hint_db": 10.0, "side_symbols": lambda count: 8 * count}
    assert unpack(codec.encode(image, mask=None, **arguments).side).levels is not None
    codec.network.without = frozenset({"rate"})
    assert unpack(codec.encode(image, mask=None, **arguments).side).levels is None
    marked = unpack(codec.encode(image, mask=mask, **arguments).side)
    assert marked.levels is not None and marked.roi is not None
    assert len(np.unique(marked.levels[~marked.roi])) <= 2
    assert marked.levels[marked.roi].min() > marked.levels[~marked.roi].max()


def test_diffusion_is_left_out_by_taking_no_steps() -> None:
    codec, image = small_codec(), picture(48, 64)
    direct = JsccCodec(codec.card, codec.network, None)
    encoded = codec.encode(image, cbr=1 / 12, snr_hint_db=10.0, mask=None, side_symbols=lambda count: 8 * count)
    received = (encoded.symbols, np.full(len(encoded.symbols), 0.1, np.float32), 10.0, encoded.side)
    assert np.array_equal(codec.decode(*received, steps=0), direct.decode(*received))
    assert not np.array_equal(codec.decode(*received, steps=1), direct.decode(*received))
    assert isinstance(codec.denoiser, Denoiser)


def test_parts_are_in_the_config_and_no_others_are_known() -> None:
    assert network(*PARTS).config["without"] == PARTS
    with pytest.raises(ValueError, match="a network cannot be without colour, only without transform, roi"):
        network("colour")
