"""Another JSCC network under a denoiser: it decodes as before, and the denoiser sees what it knew."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from models import channel
from models.data import EncodedPicture
from models.denoiser import Denoiser
from models.errors import ModelError
from models.network import JsccNetwork
from models.objectives import no_mask, simulate
from models.transform import CONTEXT, Decoded
from scripts.graft import FeatureMap, adaptive_network, fit, seen_through
from tests.models.small import FEATURES, WIDTHS, picture, small_codec, small_network

ROOT = Path(__file__).parents[2]


def deep_network() -> JsccNetwork:
    torch.manual_seed(3)
    network: JsccNetwork = JsccNetwork(WIDTHS, 64, 1, 3, condition=16, adaptive=False)
    network.eval()
    return network


def encoded(number: int) -> EncodedPicture:
    file = io.BytesIO()
    Image.fromarray(picture(192, 208, number)).save(file, "PNG")
    return EncodedPicture(f"{number}.png", file.getvalue())


def received(network: JsccNetwork, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    counts = torch.full((1, 4, 4), 12)
    state = channel.draw((1, 32, 4, 4), torch.Generator().manual_seed(0), torch.tensor([10.0]))
    return simulate(network, image, counts, mask, state, torch.Generator().manual_seed(1)).image


@torch.no_grad()
@pytest.mark.parametrize("block", [0, 1, 2])
def test_without_a_block_that_does_nothing_it_decodes_as_before_whatever_the_region(block: int) -> None:
    uniform, prior = deep_network(), small_network()
    block_of: Any = uniform.decoder.stack.blocks[block]
    for parameter in block_of.second.parameters():
        parameter.zero_()
    result = adaptive_network(uniform, prior, [block])
    assert result.prior is not None and len(result.decoder.stack.blocks) == 2
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    assert torch.equal(received(result, image, no_mask(image)), received(uniform, image, no_mask(image)))
    prior.roi.weight.fill_(-100)  # weighs nothing: only what the networks make of a region is left, and that is nothing
    result = adaptive_network(uniform, prior, [block])
    region = torch.ones(1, 1, 4, 4)
    assert torch.allclose(received(result, image, region), received(uniform, image, no_mask(image)), atol=1e-6)


def test_networks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match="blocks 0 to 2, none of number 3"):
        adaptive_network(deep_network(), small_network(), [1, 3])
    with pytest.raises(ModelError, match="needs a prior"):
        adaptive_network(small_network(), deep_network(), [])
    with pytest.raises(ModelError, match="as many components"):
        adaptive_network(small_network(32, adaptive=False), small_network(), [])


def test_a_network_with_a_prior_keeps_its_own() -> None:
    taken, kept = small_network(seed=1), small_network()
    result = adaptive_network(taken, kept, [0])
    assert result.prior is not None and taken.prior is not None and len(result.decoder.stack.blocks) == 0
    assert all(torch.equal(value, taken.prior.state_dict()[name]) for name, value in result.prior.state_dict().items())


@torch.no_grad()
def test_a_network_s_own_features_map_to_themselves_and_another_s_less_well() -> None:
    known = small_network(320)
    found = fit(known, known, [encoded(number) for number in range(3)], 4)
    assert found.explained > 0.99
    assert torch.allclose(found.matrix, torch.eye(WIDTHS[0]), atol=0.1)
    other = fit(known, small_network(320, seed=1), [encoded(number) for number in range(3)], 4)
    assert other.explained < found.explained


@torch.no_grad()
def test_the_denoiser_does_with_new_features_what_it_did_with_their_image() -> None:
    torch.manual_seed(0)
    denoiser: Denoiser = Denoiser(WIDTHS, features=FEATURES, condition=16)
    denoiser.scale.weight.normal_(std=0.1)
    matrix, offset = torch.randn(WIDTHS[0], WIDTHS[0]), torch.randn(WIDTHS[0])
    features = torch.randn(1, FEATURES, 64, 64)
    mapped = features.clone()
    mapped[:, :-CONTEXT] = torch.einsum("ij,bjhw->bihw", matrix, features[:, :-CONTEXT]) + offset[:, None, None]
    image, noisy, one = torch.rand(1, 3, 256, 256), torch.randn(1, 3, 256, 256), torch.ones(1)

    def answers(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        base = Decoded(image, features)
        log_sigma = denoiser.log_sigma(base)
        return log_sigma[..., 1:-1, 1:-1], denoiser(noisy, one, base, log_sigma, one, one)

    before = answers(mapped)
    seen_through(denoiser, FeatureMap(matrix, offset, 1.0))
    after = answers(features)
    assert torch.allclose(before[0], after[0], atol=1e-4)
    middle = (..., slice(120, 136), slice(120, 136))  # the padding's part in the rim spreads with the depth
    assert torch.allclose(before[1][middle], after[1][middle], rtol=1e-2, atol=1e-2)
    changed = answers(features + 1)
    assert not torch.allclose(changed[1][middle], after[1][middle], rtol=1e-2, atol=1e-2)


def test_command(tmp_path: Path) -> None:
    small_codec(adaptive=False).save(tmp_path / "uniform", "uniform", 0)
    small_codec().save(tmp_path / "model", "model", 1)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "0.png").write_bytes(encoded(0).data)
    command = [sys.executable, "scripts/graft.py", str(tmp_path / "uniform"), str(tmp_path / "model")]
    command += [str(tmp_path / "out"), "--data", str(tmp_path / "pictures"), "--batches", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "explains" in done.stdout, done.stderr
    refused = subprocess.run([*command, "--without-block", "7"], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stderr.startswith("graft: f_d has blocks 0 to 0")
