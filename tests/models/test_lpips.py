import dataclasses
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import UInt8

import models.lpips
from models.errors import ModelError
from models.image import load_image
from models.lpips import BACKBONES, LPIPS, lpips_unavailable
from models.metrics import lpips, quality
from tests.conftest import missing

Rgb = UInt8[np.ndarray, "h w 3"]
GOLDEN = Path(__file__).parent.parent / "golden" / "lpips"


@pytest.fixture
def forgetful() -> Iterator[None]:
    """Weights are looked for anew, and again after the test."""
    models.lpips._weights.cache_clear()
    yield
    models.lpips._weights.cache_clear()


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgetful: None) -> Path:
    """An empty cache, and a network on which nobody answers. Gives the folder of the cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.usefixtures("alexnet")
@pytest.mark.parametrize(("test", "published"), [("p0", 0.7219), ("p1", 0.1376)])
def test_values_of_the_lpips_repository(test: str, published: float) -> None:
    measured = lpips(load_image(GOLDEN / "ex_ref.png"), load_image(GOLDEN / f"ex_{test}.png"))
    assert measured == pytest.approx(published, abs=5e-5)


@pytest.mark.usefixtures("alexnet")
def test_identical_is_zero_and_order_does_not_matter(photo: Rgb) -> None:
    other = photo[:, ::-1].copy()
    assert lpips(photo, photo) == 0
    assert lpips(photo, other) == pytest.approx(lpips(other, photo), rel=1e-5)


@pytest.fixture(params=list(BACKBONES))
def loss(request: pytest.FixtureRequest) -> LPIPS:
    if reason := lpips_unavailable(request.param):
        missing(reason)
    return LPIPS(request.param)


def test_its_gradient_leads_towards_the_target(loss: LPIPS, photo: Rgb) -> None:
    target = (torch.from_numpy(photo[:64, :128]).float() / 255).permute(2, 0, 1)[None]
    x = (target.flip(3) * 0.8).requires_grad_()
    before = loss(x, target)
    assert before.shape == (1,) and before > 0
    before.sum().backward()
    assert x.grad is not None
    assert all(parameter.grad is None for parameter in loss.parameters())
    step = 0.01 * before.item() / x.grad.square().sum()  # to first order, one per cent of the distance
    after = loss((x - step * x.grad).detach(), target)
    assert 0.98 < after.item() / before.item() < 1


def test_its_gradient_is_finite_on_black(loss: LPIPS) -> None:
    x = torch.zeros(2, 3, 48, 64, requires_grad=True)
    loss(x, torch.zeros(2, 3, 48, 64)).sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


def test_under_autocast_the_distance_stays_float32(loss: LPIPS, photo: Rgb) -> None:
    x = (torch.from_numpy(photo[:64, :128]).float() / 255).permute(2, 0, 1)[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = loss(x, x.flip(3))
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(loss(x, x.flip(3)).item(), rel=0.03)


@pytest.mark.parametrize("net", BACKBONES)
def test_the_smallest_picture(net: str) -> None:
    features, side = BACKBONES[net].features(), BACKBONES[net].smallest
    assert features(torch.zeros(1, 3, side, side)).numel() > 0
    with pytest.raises(RuntimeError):
        features(torch.zeros(1, 3, side - 1, 64))


@pytest.mark.usefixtures("alexnet")
def test_a_picture_that_is_too_small_is_named() -> None:
    with pytest.raises(ModelError, match="31 pixels a side; the picture has 64x30"):
        LPIPS("alex")(torch.zeros(1, 3, 30, 64), torch.zeros(1, 3, 30, 64))


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(ModelError, match="'vgg'; there are alex, squeeze"):
        LPIPS("vgg")


@pytest.mark.usefixtures("offline")
def test_without_a_backbone_only_lpips_is_missing(photo: Rgb, capsys: pytest.CaptureFixture[str]) -> None:
    found = quality(photo, 255 - photo)
    assert found.lpips is None and "alexnet-owt-7be5be79.pth" in str(found.lpips_missing)
    assert "\n" not in str(found.lpips_missing)
    assert found.psnr_db > 0 and found.ms_ssim >= 0
    assert capsys.readouterr().out == ""  # stdout belongs to --json
    with pytest.raises(ModelError, match="LPIPS cannot be computed"):
        LPIPS("alex")


def test_a_damaged_cache_is_named(offline: Path) -> None:
    offline.mkdir(parents=True)
    (offline / "squeezenet1_1-b8a52dc0.pth").write_bytes(b"half a downl")
    assert str(offline) in str(lpips_unavailable("squeeze"))
    models.lpips._weights.cache_clear()
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, offline / "squeezenet1_1-b8a52dc0.pth")
    assert "Missing key" in str(lpips_unavailable("squeeze")) or "Error(s)" in str(lpips_unavailable("squeeze"))


def test_a_server_that_never_answers_costs_one_timeout(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.lpips, "_CONNECT_TIMEOUT_S", 0.2)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/alexnet-owt-7be5be79.pth"
        monkeypatch.setitem(BACKBONES, "alex", dataclasses.replace(BACKBONES["alex"], url=url))
        started = time.monotonic()
        assert "timed out" in str(lpips_unavailable("alex"))
        assert "timed out" in str(lpips_unavailable("alex"))
        assert time.monotonic() - started < 5
    assert socket.getdefaulttimeout() is None
    assert not list(offline.glob("*"))
