"""The training channel against its statistics, and the JSCC network against linear coding theory."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from models import channel
from models.channel import ChannelState
from models.jscc import rate_map
from models.network import JsccNetwork
from models.objectives import JsccObjective, adaptive_counts, random_masks, simulate, weighted_mse
from models.rate import LEVELS
from models.transform import CONTEXT
from tests.models.small import FEATURES, WIDTHS, picture, small_network

SHAPE = (4000, 4, 3, 3)


@pytest.fixture(scope="module")
def state() -> ChannelState:
    return channel.draw(SHAPE, torch.Generator().manual_seed(0))


def test_half_of_the_channels_are_plain_awgn_over_the_whole_range(state: ChannelState) -> None:
    flat = state.noise_var.flatten(1)
    awgn = (flat == flat[:, :1]).all(dim=1)
    assert awgn.float().mean().item() == pytest.approx(0.5, abs=0.03)
    snr = -10 * flat[awgn, 0].log10()
    assert -2 - 1e-3 <= snr.min() < -1.8
    assert 21.8 < snr.max() <= 22 + 1e-3
    assert snr.mean().item() == pytest.approx(10, abs=0.5)
    assert snr.std().item() == pytest.approx(24 / math.sqrt(12), rel=0.03)  # uniform
    # The receiver is wrong by 0.7 dB.
    assert (state.snr_db[awgn] - snr).std().item() == pytest.approx(0.7, rel=0.1)
    hint = (state.hint_db[awgn] - snr).abs()
    assert (hint < 1e-3).float().mean().item() == pytest.approx(0.4, abs=0.05)
    assert (hint > 3).float().mean().item() == pytest.approx(0.4 * 0.046 + 0.2 * 0.55, abs=0.04)


def test_erasures(state: ChannelState) -> None:
    erased = state.noise_var.isinf().flatten(1).float().mean(dim=1)
    assert (erased > 0).float().mean().item() == pytest.approx(0.25, abs=0.04)
    assert erased.mean().item() == pytest.approx(0.25 * 0.2, abs=0.01)
    assert not state.noise_var.isnan().any()
    assert (state.noise_var > 0).all()


def test_fading_has_mean_power_one(state: ChannelState) -> None:
    flat = state.noise_var.flatten(1)
    faded = (flat != flat[:, :1]).any(dim=1) & flat.isfinite().all(dim=1)
    assert faded.float().mean().item() == pytest.approx(0.25, abs=0.04)
    power = 10 ** (-state.snr_db[faded] / 10) / flat[faded].T  # |h|², but for the receiver's 0.7 dB
    assert power.mean().item() == pytest.approx(1.013, rel=0.05)
    # Between AWGN and Rayleigh: E|h|⁴ = 1 + E(1−flat)² = 1.33.
    assert power.square().mean().item() == pytest.approx(4 / 3 * 1.053, rel=0.1)


def test_channel_follows_from_its_generator() -> None:
    one, two, other = (channel.draw((3, 2, 2, 2), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.noise_var, two.noise_var)
    assert torch.equal(one.hint_db, two.hint_db)
    assert not torch.equal(one.noise_var, other.noise_var)


def test_channel_of_known_snr() -> None:
    snr_db = torch.tensor([0.0, 10.0])
    state = channel.draw((2, 2, 2, 2), torch.Generator(), snr_db)
    torch.testing.assert_close(state.noise_var.flatten(1), torch.tensor([[1.0] * 8, [0.1] * 8]))
    assert torch.equal(state.hint_db, snr_db)


def batch(height: int = 96, width: int = 128) -> torch.Tensor:
    return torch.from_numpy(picture(height, width)).permute(2, 0, 1)[None].float() / 255


class Link:
    """One picture over one network; `receive` runs again with other symbols or noise."""

    def __init__(self, network: JsccNetwork, count: int = 16, mask: torch.Tensor | None = None) -> None:
        self.network, self.image = network, batch()
        self.counts = torch.full((1, 6, 8), count)
        self.mask = torch.zeros(1, 1, 6, 8) if mask is None else mask
        self.snr = torch.tensor([10.0])
        self.sent = network.transmit(self.image, self.counts, self.mask, self.snr)
        self.symbols = self.sent.symbols / self.sent.power.sqrt()
        self.noise_var = torch.full(self.symbols.shape, 0.1)

    def receive(self, symbols: torch.Tensor, noise_var: torch.Tensor) -> torch.Tensor:
        args = (symbols, noise_var, self.sent.power, self.counts, self.mask, self.snr, self.snr)
        return self.network.receive(*args).image


@torch.no_grad()
def test_power_is_that_of_what_is_sent() -> None:
    link = Link(small_network(), 10)
    assert link.symbols[:, :10].abs().square().mean().item() == pytest.approx(1, rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("value", [0, 1e6, 1e30, math.nan, math.inf])
def test_what_was_lost_or_never_sent_has_no_influence(value: float) -> None:
    link = Link(small_network())
    erased = torch.rand(link.symbols.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    noise_var = link.noise_var.masked_fill(erased, math.inf)
    expected = link.receive(link.symbols, noise_var)
    changed = link.symbols.masked_fill(erased, value)
    changed[:, 16:] = value
    assert torch.equal(link.receive(changed, noise_var), expected)
    assert expected.isfinite().all()
    # And the test would notice if they had.
    assert not torch.equal(link.receive(link.symbols.masked_fill(erased, 1e6), link.noise_var), expected)


@torch.no_grad()
def test_erasure_is_the_limit_of_noise() -> None:
    link = Link(small_network())
    erased = torch.rand(link.symbols.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    lost = link.receive(link.symbols, link.noise_var.masked_fill(erased, math.inf))
    previous = math.inf
    for noise in (1.0, 100.0, 1e4, 1e6, 1e9):
        distance = (link.receive(link.symbols, link.noise_var.masked_fill(erased, noise)) - lost).abs().max().item()
        assert distance < previous
        previous = distance
    assert previous < 1e-5


@torch.no_grad()
def test_features_for_the_denoiser_end_with_rate_and_region_of_every_place() -> None:
    counts = torch.arange(1, 49).view(1, 6, 8)
    mask = (counts % 5 == 0).float()[None]
    network, one = small_network(320), torch.ones(1)
    symbols = torch.zeros(1, network.symbol_limit, 6, 8, dtype=torch.complex64)
    features = network.receive(symbols, torch.ones(symbols.shape), one, counts, mask, one, one).features
    assert features.shape == (1, FEATURES, 24, 32)
    for row, column in ((0, 0), (9, 14), (23, 31)):
        place = (0, 0, row // 4, column // 4)
        expected = torch.stack((rate_map(counts)[place], mask[place]))
        assert torch.equal(features[0, -CONTEXT:, row, column], expected)


@torch.no_grad()
def test_no_noise_is_bounded() -> None:
    link = Link(small_network())
    clean = link.receive(link.symbols, torch.zeros_like(link.noise_var))
    assert clean.isfinite().all()
    assert torch.equal(clean, link.receive(link.symbols, torch.full_like(link.noise_var, 1e-6)))


def linear_network(components: int = 64) -> JsccNetwork:
    """Only the linear path: what the convolutions add is set to zero."""
    network = small_network(components)
    with torch.no_grad():
        for part in (network.encoder.head, network.synthesis.output):
            for parameter in part.parameters():
                parameter.zero_()
    return network


@torch.no_grad()
@pytest.mark.parametrize(
    ("snr_db", "count", "region"), [(0.0, 8, 0.0), (0.0, 32, 0.0), (10.0, 32, 0.0), (20.0, 32, 0.0), (0.0, 32, 1.0)]
)
def test_linear_path_reaches_the_closed_form_of_linear_coding(snr_db: float, count: int, region: float) -> None:
    """Coefficients of variance λ with power g² ∝ √λ (Lee and Petersen 1976), and a Wiener estimate of each.

    A region of interest that is the whole picture changes nothing.
    """
    rng = np.random.default_rng(0)
    network, rows = linear_network(), 32
    deviations = 0.15 * 0.96 ** np.arange(768)
    rotation = np.linalg.qr(rng.standard_normal((768, 768)))[0]
    blocks = (0.5 + (rng.standard_normal((rows * rows, 768)) * deviations) @ rotation.T).astype(np.float32)
    network.initialise(blocks)
    image = functional.pixel_shuffle(torch.from_numpy(blocks).T.reshape(1, 768, rows, rows), 16)
    counts, mask = torch.full((1, rows, rows), count), torch.full((1, 1, rows, rows), region)
    generator = torch.Generator().manual_seed(0)
    state = channel.draw((1, 32, rows, rows), generator, torch.tensor([snr_db]))
    error = (simulate(network, image, counts, mask, state, generator).image - image).square().mean().item()

    colours = blocks.reshape(len(blocks), 3, -1)
    centred = (colours - colours.mean(axis=(0, 2), keepdims=True)).reshape(len(blocks), -1).astype(np.float64)
    eigenvalues = np.linalg.eigvalsh(centred.T @ centred / len(blocks))[::-1]
    sent = eigenvalues[: 2 * count]
    power = np.sqrt(sent) / np.sqrt(sent).mean() * 10 ** (snr_db / 10)
    theory = ((sent / (1 + power)).sum() + eigenvalues[2 * count :].sum()) / 768
    assert error == pytest.approx(theory, rel=0.02)


@torch.no_grad()
def test_region_of_interest_has_more_power_and_less_error_inside() -> None:
    network, generator = linear_network(), torch.Generator()
    mask = torch.zeros(1, 1, 6, 8)
    mask[..., 5:] = 1
    plain, focused = Link(network), Link(network, mask=mask)
    inside = (slice(None), slice(16), slice(None), slice(5, None))
    gain = focused.sent.symbols[inside].abs().square() / plain.sent.symbols[inside].abs().square()
    assert (10 * gain.log10()).min() > 3  # before normalisation
    outside = (slice(None), slice(16), slice(None), slice(5))
    assert torch.equal(focused.sent.symbols[outside], plain.sent.symbols[outside])
    errors = {}
    for name, link in (("plain", plain), ("focused", focused)):
        generator.manual_seed(0)
        noise = torch.randn((20, *link.symbols.shape[1:]), dtype=torch.complex64, generator=generator) * 0.1**0.5
        results = torch.cat([link.receive(link.symbols + one, link.noise_var) for one in noise[:, None]])
        # The noise's part of the error: each against the same picture without noise.
        clean = link.receive(link.symbols, link.noise_var)
        errors[name] = (results - clean).square().mean(dim=(0, 1))
    assert errors["focused"][:, 80:].mean() < 0.8 * errors["plain"][:, 80:].mean()
    assert errors["focused"][:, :80].mean() > errors["plain"][:, :80].mean()


@torch.no_grad()
def test_receiver_undoes_the_weighting() -> None:
    network = linear_network()
    mask = torch.zeros(1, 1, 6, 8)
    mask[..., 2:4, 3:] = 1
    images = []
    for link in (Link(network, 32), Link(network, 32, mask)):
        images.append(link.receive(link.symbols, torch.zeros_like(link.noise_var)))
    torch.testing.assert_close(images[0], images[1], atol=2e-3, rtol=0)


@pytest.mark.parametrize("adaptive", [True, False])
def test_gradients_are_finite_and_reach_every_parameter(adaptive: bool) -> None:
    torch.manual_seed(0)
    network = JsccNetwork(WIDTHS, 64, 1, 1, condition=16, adaptive=adaptive)
    with torch.no_grad():  # off the zeros that some layers start from
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    objective = JsccObjective(network).train()
    crops = torch.from_numpy(np.stack([picture(64, 64, seed) for seed in range(16)])).permute(0, 3, 1, 2)
    losses = objective(crops, torch.Generator().manual_seed(3))
    losses["loss"].backward()
    for name, parameter in network.named_parameters():
        if not adaptive and name == "roi.weight":
            continue  # no region of interest in DeepJSCC
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    assert ("bits" in losses) == adaptive


def test_objective_follows_from_its_generator() -> None:
    objective = JsccObjective(small_network()).train()
    crops = torch.from_numpy(np.stack([picture(64, 64, seed) for seed in range(4)])).permute(0, 3, 1, 2)
    one, two, other = (objective(crops, torch.Generator().manual_seed(s))["loss"].item() for s in (1, 1, 2))
    assert one == two
    assert one != other


def test_masks_of_training_are_boxes_on_groups() -> None:
    masks = random_masks(400, 8, 8, torch.Generator().manual_seed(0))
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert masks.flatten(1).any(dim=1).float().mean().item() == pytest.approx(0.3, abs=0.07)
    groups = functional.avg_pool2d(masks, 2)
    assert set(groups.unique().tolist()) == {0.0, 1.0}


def test_training_rates_favour_the_region_of_interest() -> None:
    bits, mask = torch.full((2, 4, 4), 100.0), torch.zeros(2, 1, 4, 4)
    mask[1, :, :2, :2] = 1
    counts = adaptive_counts(bits, mask, torch.tensor([20.0, 20.0]))
    assert (counts.float().mean(dim=(1, 2)) <= 20).all()
    assert set(counts.unique().tolist()) <= set(LEVELS)
    assert len(counts[0].unique()) == 1
    assert counts[1, :2, :2].min() > counts[1, 2:].max()


def test_crops_that_share_a_budget_differ_in_rate_as_parts_of_a_picture_do() -> None:
    bits = torch.stack((torch.full((4, 4), 50.0), torch.full((4, 4), 400.0)))
    mask = torch.zeros(2, 1, 4, 4)
    counts = adaptive_counts(bits, mask, torch.tensor([40.0])).float().mean(dim=(1, 2))
    assert counts[1] >= 4 * counts[0]
    assert counts.mean() <= 40
    softer = adaptive_counts(bits, mask, torch.tensor([40.0]), exponent=0.4).float().mean(dim=(1, 2))
    assert 1.5 < softer[1] / softer[0] < 4
    uniform = adaptive_counts(bits, mask, torch.tensor([40.0]), exponent=0.0)
    assert uniform.unique().tolist() == [32]


def test_error_inside_counts_three_times() -> None:
    target, mask = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 2, 2)
    mask[..., 0, 0] = 1
    inside, outside = target.clone(), target.clone()
    inside[..., :16, :16] = 1
    outside[..., 16:, 16:] = 1
    ratio = weighted_mse(inside, target, mask) / weighted_mse(outside, target, mask)
    assert ratio.item() == pytest.approx(3)
    assert weighted_mse(target + 0.5, target, mask).item() == pytest.approx(0.25)  # a mean all the same
