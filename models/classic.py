"""DeepJSCC of 2019: five convolutions each way, one network for one SNR and one channel bandwidth ratio.

Bourtsoulatze, Kurka and Gündüz, "Deep Joint Source-Channel Coding for Wireless Image Transmission", IEEE Trans. Cogn.
Commun. Netw. 5, 2019 (arXiv 1809.01733), figure 2: 5×5 kernels, PReLU, strides 2, 2, 1, 1, 1 and back. It is the
baseline that later papers call "DeepJSCC".
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Complex64, Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn import functional

from models.codec import Encoded, check_received, check_request, grey_picture
from models.errors import ModelError
from models.image import is_grey
from models.modulation import to_complex, to_reals
from models.side import Side, pack, round_hint, unpack
from models.tensors import from_tensor, to_tensor
from models.weights import Card, load_module, opened, save_module, write_card

STRIDE = 4  # of the latent grid, pixels


class ClassicNetwork(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers has no type information
    """The network; pictures b×3×h×w in 0…1 with h, w multiples of 4.

    Args:
        channels: real channel inputs per 4×4 pixels, twice that many symbols per 16 pixels: CBR channels/96.
        snr_db: Es/N0 that it is trained for.
        widths: of the first and of the other layers.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, channels: int = 8, snr_db: float = 10.0, widths: Sequence[int] = (16, 32)) -> None:
        super().__init__()
        first, rest = widths
        sizes = ((3, first, 2), (first, rest, 2), (rest, rest, 1), (rest, rest, 1), (rest, channels, 1))
        down: list[nn.Module] = []
        for inputs, outputs, stride in sizes:
            down += [nn.Conv2d(inputs, outputs, 5, stride, padding=2), nn.PReLU(outputs)]
        up: list[nn.Module] = []
        for inputs, outputs, stride in sizes[::-1]:
            up += [nn.ConvTranspose2d(outputs, inputs, 5, stride, padding=2, output_padding=stride - 1)]
            up += [nn.PReLU(inputs) if inputs != 3 else nn.Sigmoid()]
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up)

    @property
    def cbr(self) -> float:
        """Channel symbols per picture value."""
        return float(self.config.channels) / (2 * 3 * STRIDE**2)

    def transmit(self, image: Float[Tensor, "b 3 h w"]) -> Complex64[Tensor, "b s h4 w4"]:
        """Symbols of mean power 1 per picture."""
        symbols = to_complex(self.encoder(image).float())
        power = (symbols.real.square() + symbols.imag.square()).mean(dim=(1, 2, 3), keepdim=True)
        return symbols / power.clamp_min(1e-8).sqrt()

    def receive(self, symbols: Complex64[Tensor, "b s h4 w4"]) -> Float[Tensor, "b 3 h w"]:
        """Picture of received symbols."""
        result: Tensor = self.decoder(to_reals(symbols))
        return result.float()


class ClassicCodec:
    """Trained `ClassicNetwork`s as a `Codec`, each for one cell of SNR and CBR.

    The sender takes the network of the asked CBR whose SNR is nearest to its hint, which the receiver knows as well.
    The payload alone meets the CBR, and side information comes on top: there is no smaller number of symbols that a
    network could send, and the fraction of a percent is in its favour. Sides that are no multiples of 4 are filled up.

    Args:
        card: of the weights; its hash gives the id that travels in the side information.
        networks: at least one, no two of one cell.

    Raises:
        ModelError: two of one cell.
    """

    def __init__(self, card: Card, *networks: ClassicNetwork) -> None:
        self.card, self.name = card, card.name
        self.networks = tuple(network.eval().requires_grad_(False) for network in networks)
        cells = {(network.config.snr_db, network.config.channels) for network in networks}
        if len(cells) < len(networks):
            raise ModelError(f"{card.name or 'this codec'} has two networks for one SNR and CBR: keep one of them")

    @classmethod
    def from_pretrained(cls, model: str | Path, device: str = "cpu") -> "ClassicCodec":
        """Loads a shipped model by name, a folder, or a hub id.

        Raises:
            ModelError: not found, altered, or of another architecture.
        """
        with opened(str(model)) as (folder, card):
            configs = sorted((folder / "classic").rglob("config.json"))
            networks = [load_module(ClassicNetwork, config.parent).to(device) for config in configs]
        if not networks:
            raise ModelError(f"{folder / 'classic'} holds no network: fetch the folder again")
        return cls(card, *networks)

    def save(self, folder: Path, name: str) -> Card:
        """Writes a folder for `from_pretrained`; converts this codec's own weights to fp16 on the way."""
        for network in self.networks:
            cell = f"{network.config.snr_db:g}dB_1-{1 / network.cbr:g}"
            save_module(network, folder / "classic" / cell)
        return write_card(folder, name, default_steps=0)

    @property
    def network(self) -> ClassicNetwork:
        """The only one of a single cell, the first of several."""
        first: ClassicNetwork = self.networks[0]
        return first

    @property
    def parameters(self) -> int:
        """Of one network: no picture meets more than one."""
        return sum(p.numel() for p in self.network.parameters())

    @property
    def digest(self) -> str:
        """Hash of the weights."""
        return self.card.digest

    @property
    def device(self) -> str:
        """That the networks are on."""
        return str(self.network.device)

    @torch.inference_mode()
    def encode(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        *,
        cbr: float,
        snr_hint_db: float,
        mask: Float32[np.ndarray, "h2 w2"] | None,
        side_symbols: Callable[[int], int],
    ) -> Encoded:
        """See `Codec.encode`; takes no notice of `mask`, and knows the CBRs of its networks only."""
        check_request(image, mask, cbr, snr_hint_db)
        able = [network for network in self.networks if abs(cbr / network.cbr - 1) < 0.01]
        if not able:
            known = " and ".join(f"1/{1 / cbr:g}" for cbr in sorted({network.cbr for network in self.networks}))
            raise ModelError(f"{self.name} sends at CBR {known} only, not at {cbr:g}")
        height, width = image.shape[:2]
        hint_db = round_hint(snr_hint_db)
        network = _nearest(able, hint_db)
        symbols = network.transmit(to_tensor(image, STRIDE, network.device))
        side = pack(Side(self.card.model_id, height, width, 0, hint_db, grey=is_grey(image)))
        return Encoded(symbols.flatten().cpu().numpy().astype(np.complex64), side)

    @torch.inference_mode()
    def decode(
        self,
        symbols: Complex64[np.ndarray, "n"],
        noise_var: Float32[np.ndarray, "m"],
        snr_db: float,
        side: bytes,
        *,
        steps: int | None = None,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """See `Codec.decode`; erased symbols count as 0."""
        check_received(symbols, noise_var, snr_db)
        contents = unpack(side)
        if contents.model_id != self.card.model_id:
            raise ModelError(f"the picture was encoded with other weights than {self.name!r}; both ends need the same")
        rows, columns = -(-contents.height // STRIDE), -(-contents.width // STRIDE)
        counts = {network: network.config.channels // 2 * rows * columns for network in self.networks}
        able = [network for network, count in counts.items() if count == len(symbols)]
        if not able:
            known = " or ".join(str(count) for count in sorted(set(counts.values())))
            raise ModelError(f"a {contents.width}×{contents.height} picture has {known} symbols, not {len(symbols)}")
        if np.isinf(noise_var).all():
            return grey_picture(contents.height, contents.width)
        network = _nearest(able, contents.hint_db)
        heard = np.where(np.isinf(noise_var), 0, symbols).astype(np.complex64)
        received = torch.from_numpy(heard).view(1, -1, rows, columns).to(network.device)
        return from_tensor(network.receive(received), contents.height, contents.width, contents.grey)


def _nearest(networks: Sequence[ClassicNetwork], hint_db: float) -> ClassicNetwork:
    """The network for the hint; of two that are equally near, the one for the lower SNR."""
    return min(networks, key=lambda network: (abs(network.config.snr_db - hint_db), network.config.snr_db))


def merge(folders: Sequence[Path], out: Path, name: str) -> None:
    """Writes one codec folder of several that were trained for a cell each.

    Raises:
        ModelError: a folder that cannot be loaded, two of one cell.
    """
    networks = [network for folder in folders for network in ClassicCodec.from_pretrained(folder).networks]
    ClassicCodec(Card(name, 0, {}), *networks).save(out, name)


def draw_awgn(
    symbols: Complex64[Tensor, "b s h w"], snr_db: float, generator: torch.Generator
) -> Complex64[Tensor, "b s h w"]:
    """Symbols of unit power with white noise."""
    spread = (10 ** (-snr_db / 10) / 2) ** 0.5
    randn = partial(torch.randn, symbols.shape, generator=generator, device=generator.device)
    noise = torch.complex(*(spread * randn() for _ in range(2)))
    return symbols + noise.to(symbols.device)


class ClassicObjective(nn.Module):
    """Mean squared error at the network's own SNR, as published."""

    def __init__(self, network: ClassicNetwork) -> None:
        super().__init__()
        self.network = network

    @property
    def trained(self) -> nn.Module:
        """What is checkpointed, averaged and exported."""
        return self.network

    def forward(self, crops: UInt8[Tensor, "b 3 h w"], generator: torch.Generator) -> dict[str, Tensor]:
        """`loss` to minimise and parts of it for the log."""
        image = crops.float() / 255
        received = draw_awgn(self.network.transmit(image), self.network.config.snr_db, generator)
        mse = functional.mse_loss(self.network.receive(received), image)
        return {"loss": mse, "log_mse": mse.detach().log()}

    def held_out(self, result: Float[Tensor, "b 3 h w"], image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
        """Loss of pictures received from elsewhere."""
        return functional.mse_loss(result, image)
