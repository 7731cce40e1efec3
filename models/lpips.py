"""LPIPS v0.1, the learned perceptual distance, without torchvision.

Zhang, Isola, Efros, Shechtman and Wang, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
CVPR 2018 (arXiv:1801.03924), variant "lin". Backbones are torchvision's ImageNet weights, fetched once through
`torch.hub` (the cache honours `TORCH_HOME`); the linear heads ship inside the torchmetrics package.
"""

import contextlib
import functools
import importlib.util
import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from models.errors import ModelError

_CONNECT_TIMEOUT_S = 15.0


class _Fire(nn.Module):
    """SqueezeNet's fire module (Iandola et al., arXiv:1602.07360); attribute names follow torchvision's weights."""

    def __init__(self, channels_in: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels_in, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.squeeze(x))
        return torch.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1))


def _alexnet_features() -> nn.Sequential:
    """Convolutions of AlexNet (Krizhevsky, arXiv:1404.5997), in torchvision's order."""
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    )


def _squeezenet_features() -> nn.Sequential:
    """Convolutions of SqueezeNet 1.1, in torchvision's order."""

    def pool() -> nn.MaxPool2d:
        return nn.MaxPool2d(3, stride=2, ceil_mode=True)

    return nn.Sequential(
        *(nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), pool()),
        *(_Fire(64, 16, 64), _Fire(128, 16, 64), pool()),
        *(_Fire(128, 32, 128), _Fire(256, 32, 128), pool()),
        *(_Fire(256, 48, 192), _Fire(384, 48, 192), _Fire(384, 64, 256), _Fire(512, 64, 256)),
    )


@dataclass(frozen=True)
class _Backbone:
    features: Callable[[], nn.Sequential]
    url: str
    taps: tuple[int, ...]  # indices in `features` after which the distance is measured
    smallest: int  # shortest side, in pixels, that survives the strides


BACKBONES: dict[str, _Backbone] = {
    "alex": _Backbone(
        _alexnet_features,
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        taps=(1, 4, 7, 9, 11),
        smallest=31,
    ),
    "squeeze": _Backbone(
        _squeezenet_features,
        "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
        taps=(1, 4, 7, 9, 10, 11, 12),
        smallest=17,
    ),
}


@contextlib.contextmanager
def _bounded_download() -> Iterator[None]:
    """A dead network must not hang, and torch.hub's "Downloading" line must not land in `--json` output."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_CONNECT_TIMEOUT_S)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        socket.setdefaulttimeout(before)


@dataclass(frozen=True)
class _Weights:
    features: dict[str, Tensor]
    heads: list[Tensor]  # one float32[channels] per tap


@functools.cache  # failures too: one unreachable server costs one timeout, not one per picture
def _weights(net: str) -> _Weights | str:
    """The published weights, or the reason why they cannot be had."""
    backbone = BACKBONES[net]
    package = importlib.util.find_spec("torchmetrics")
    if package is None or package.origin is None:
        return "the linear heads come with the torchmetrics package, which is not installed"
    heads_path = Path(package.origin).parent / "functional" / "image" / "lpips_models" / f"{net}.pth"
    try:
        with _bounded_download():
            state = torch.hub.load_state_dict_from_url(
                backbone.url, map_location="cpu", check_hash=True, weights_only=True
            )
        features = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
        backbone.features().load_state_dict(features)  # strict: a file that lacks a layer is found here
        state = torch.load(heads_path, map_location="cpu", weights_only=True)
        heads = [state[f"lin{i}.model.1.weight"].flatten() for i in range(len(backbone.taps))]
    except Exception as error:  # network, disk, damaged cache file: whatever it is, it only costs a metric
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        cached = Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(backbone.url)
        return f"no {net} backbone from {backbone.url} or {cached}: {first_line}"
    return _Weights(features, heads)


def lpips_unavailable(net: str = "alex") -> str | None:
    """Why LPIPS cannot be computed here, or None where it can.

    The first call may download the backbone (233 MB for "alex", 5 MB for "squeeze"); the answer is remembered.
    """
    found = _weights(net)
    return found if isinstance(found, str) else None


class LPIPS(nn.Module):
    """Perceptual distance of batches of pictures; frozen, and differentiable in both of them.

    Args:
        net: "alex" (the variant to report) or "squeeze" (for training, so that the reported one stays unseen).

    Raises:
        ModelError: unknown `net`, or no weights (the reason is in the message).
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: str = "alex") -> None:
        super().__init__()
        if net not in BACKBONES:
            raise ModelError(f"no LPIPS backbone {net!r}; there are {', '.join(BACKBONES)}")
        weights = _weights(net)
        if isinstance(weights, str):
            raise ModelError(f"LPIPS cannot be computed: {weights}")
        self.backbone = BACKBONES[net]
        self.features = self.backbone.features()
        self.features.load_state_dict(weights.features)
        self.heads = nn.ParameterList(head.view(1, -1, 1, 1) for head in weights.heads)
        # The published scaling of [-1, 1] pictures to the backbones' ImageNet statistics.
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, x: Float[Tensor, "b 3 h w"], y: Float[Tensor, "b 3 h w"]) -> Float32[Tensor, "b"]:
        """Distances of RGB pictures in [0, 1]; 0 for equal ones.

        Under autocast the convolutions run in the low precision and the distance itself in float32.

        Raises:
            ModelError: a side under 31 ("alex") or 17 ("squeeze") pixels, of which the strides would leave nothing.
        """
        height, width = x.shape[-2:]
        if min(height, width) < self.backbone.smallest:
            raise ModelError(f"LPIPS needs {self.backbone.smallest} pixels a side; the picture has {width}x{height}")
        x, y = ((2.0 * z - 1.0 - self.shift) / self.scale for z in (x, y))
        heads = iter(self.heads)
        distance = torch.zeros(len(x), device=x.device)
        for index, layer in enumerate(self.features):
            x, y = layer(x), layer(y)
            if index in self.backbone.taps:
                difference = (_unit(x) - _unit(y)).square()
                distance = distance + (difference * next(heads)).sum(dim=1).mean(dim=(1, 2))
        return distance


def _unit(features: Float[Tensor, "b c h w"]) -> Float32[Tensor, "b c h w"]:
    """Unit length along the channels; the small constant keeps the gradient finite where nothing fires."""
    features = features.float()
    return features / torch.sqrt(features.square().sum(dim=1, keepdim=True) + 1e-8)
