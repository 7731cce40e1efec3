"""The codecs LRISC and DeepJSCC: numpy pictures in and out around the trained networks."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler
from jaxtyping import Bool, Complex64, Float32, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from models.channel import HINT_RANGE_DB
from models.codec import Encoded, check_received, check_request, grey_picture
from models.denoiser import Denoiser
from models.diversity import rotate, rotate_back
from models.errors import ModelError
from models.image import is_grey
from models.jscc import rate_map
from models.modulation import byte_to_gain, from_stream, gain_to_byte, sent_mask, to_stream
from models.network import JsccNetwork
from models.noise import correction
from models.rate import LEVELS, ROI_GAIN, allocate, spread_remainder
from models.sampler import TRAIN_STEPS, amplified, make_scheduler, sample
from models.side import GROUP_SIZES, Side, group_grid, pack, round_hint, unpack
from models.tensors import from_tensor, to_tensor
from models.transform import BLOCK, PATCH
from models.weights import Card, Choice, load_module, opened, save_module, write_card

MAP_SHARE = 0.08  # the rate map may cost this share of the symbols; coarser groups, then a uniform rate, otherwise
ROI_SHARE = 0.15  # the same with a region of interest, for which there is no map-free way
ROI_LEAST = 1 / 16  # a region of interest that weighs less is none: weights travel in eighths


@dataclass(frozen=True, eq=False)
class Received:
    """A received picture as `JsccCodec.read` makes it: symbols and noise variances on the grid of latent positions."""

    symbols: Complex64[Tensor, "1 s h w"]
    noise_var: Float32[Tensor, "1 s h w"]
    counts: Int64[Tensor, "1 h w"]
    contents: Side
    snr_db: float
    steps: int
    seed: int
    detail_gain: Float32[Tensor, "1 1 h w"]

    @property
    def batch(self) -> tuple[int, int, int]:
        """Pictures for which it is equal can be painted at once."""
        return (*self.contents.grid, self.steps)


class JsccCodec:
    """A trained `JsccNetwork`, with or without a denoiser, as a `Codec`.

    Args:
        card: of the weights; its hash gives the id that travels in the side information.
        network: the JSCC network.
        denoiser: refines the direct picture; without one, `steps` has no effect.
        scheduler: noise schedule that the denoiser was trained with.
    """

    def __init__(
        self, card: Card, network: JsccNetwork, denoiser: Denoiser | None, scheduler: DDIMScheduler | None = None
    ) -> None:
        self.card, self.name = card, card.name
        self.network = network.eval().requires_grad_(False)
        self.denoiser = denoiser.eval().requires_grad_(False) if denoiser is not None else None
        self.scheduler: DDIMScheduler = scheduler or make_scheduler()

    @classmethod
    def from_pretrained(cls, model: str | Path, device: str = "cpu") -> "JsccCodec":
        """Loads a shipped model by name, a folder, or a hub id; weights are fp16 safetensors, run in float32.

        Raises:
            ModelError: not found, altered, or of another architecture.
        """
        with opened(str(model)) as (folder, card):
            network = load_module(JsccNetwork, folder / "jscc")
            denoiser, scheduler = None, None
            if (folder / "denoiser").is_dir():
                denoiser = load_module(Denoiser, folder / "denoiser").to(device)
                scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
        return cls(card, network.to(device), denoiser, scheduler)

    def save(self, folder: Path, name: str, default_steps: int) -> Card:
        """Writes a folder for `from_pretrained`; converts this codec's own weights to fp16 on the way."""
        save_module(self.network, folder / "jscc")
        if self.denoiser is not None:
            save_module(self.denoiser, folder / "denoiser")
            self.scheduler.save_pretrained(folder / "scheduler")
        return write_card(folder, name, default_steps)

    @property
    def digest(self) -> str:
        """Hash of the weights."""
        return self.card.digest

    @property
    def device(self) -> str:
        """That the networks are on."""
        return str(self.network.device)

    @property
    def parameters(self) -> int:
        """Trained parameters of all parts."""
        modules = [self.network] + ([self.denoiser] if self.denoiser is not None else [])
        return sum(p.numel() for module in modules for p in module.parameters())

    @torch.inference_mode()
    def bits(self, image: UInt8[np.ndarray, "h w 3"]) -> float:
        """−log2 p(z_i) of a latent position under the learned prior, in the mean; 0 without a prior."""
        if self.network.prior is None:
            return 0.0
        return float(self.network.demand(to_tensor(image, PATCH, self.network.device)).mean())

    def information(self, image: UInt8[np.ndarray, "h w 3"]) -> float:
        """How much a picture holds, the average one of `Card.quality` being 1, within 1/4…4; 1 if it is not known."""
        if self.network.prior is None or not self.card.bits:
            return 1.0
        return min(max(self.bits(image) / self.card.bits, 1 / 4), 4.0)

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
        """See `Codec.encode`. DeepJSCC's uniform rate takes no notice of `mask`, and an empty one changes nothing."""
        check_request(image, mask, cbr, snr_hint_db)
        height, width = image.shape[:2]
        if mask is not None and (self.network.prior is None or mask.max() < ROI_LEAST):
            mask = None
        pixels = to_tensor(image, PATCH, self.network.device)
        total = int(cbr * 3 * height * width)
        hint_db = min(snr_hint_db, HINT_RANGE_DB[1])  # above what the networks were trained on they get worse
        side = Side(self.card.model_id, height, width, 0, round_hint(hint_db), grey=is_grey(image))
        side = self._with_maps(side, pixels, mask, total, side_symbols)
        left = total - side_symbols(len(pack(side)))
        positions = side.grid[0] * side.grid[1]
        if not positions <= left <= self.network.symbol_limit * positions:
            raise ModelError(
                f"CBR {cbr:g} is {total} symbols for this {width}×{height} picture; its side information takes "
                f"{total - left}, and {positions} to {self.network.symbol_limit * positions} must be left: choose "
                + ("a larger CBR or a larger picture" if left < positions else "a smaller CBR")
            )
        counts = self._counts(side, left)
        hint = torch.tensor([side.hint_db], device=pixels.device)
        sent = self.network.transmit(pixels, counts, self._roi(side), hint)
        mixed = rotate(sent.symbols, counts)[0]
        stream = to_stream(mixed, sent_mask(counts, self.network.symbol_limit)[0])
        gain = gain_to_byte(sent.power.item())
        symbols = (stream / sent.power.sqrt()).cpu().numpy().astype(np.complex64)
        return Encoded(symbols, pack(replace(side, gain=gain)))

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
        """See `Codec.decode`."""
        return self.paint([self.read(symbols, noise_var, snr_db, side, steps=steps, seed=seed)], progress)[0]

    @torch.inference_mode()
    def read(
        self,
        symbols: Complex64[np.ndarray, "n"],
        noise_var: Float32[np.ndarray, "m"],
        snr_db: float,
        side: bytes,
        *,
        steps: int | None = None,
        seed: int = 0,
    ) -> Received:
        """What was received of a picture as the network takes it; everything wrong with it is found here.

        Raises:
            ModelError: see `Codec.decode`.
        """
        check_received(symbols, noise_var, snr_db)
        contents = unpack(side)
        if contents.model_id != self.card.model_id:
            raise ModelError(f"the picture was encoded with other weights than {self.name!r}; both ends need the same")
        noisier = correction(symbols, noise_var)
        snr_db -= 10 * math.log10(noisier)
        choice = self.card.choice(snr_db, len(symbols) / (3 * contents.height * contents.width))
        if steps is None:
            steps = choice.steps
        if not 0 <= steps <= TRAIN_STEPS:
            raise ModelError(f"{steps} denoising steps are not possible: choose 0 to {TRAIN_STEPS}")
        try:
            counts = self._counts(contents, len(symbols))
        except ValueError as error:
            raise ModelError(f"symbols and side information disagree: {error}") from error
        device = self.network.device
        sent = sent_mask(counts, self.network.symbol_limit)[0]
        grid, variances = rotate_back(
            from_stream(torch.from_numpy(symbols).to(device), sent, 0.0)[None],
            from_stream(torch.from_numpy(noise_var * np.float32(noisier)).to(device), sent, torch.inf)[None],
            counts,
        )
        return Received(
            symbols=grid,
            noise_var=variances,
            counts=counts,
            contents=contents,
            snr_db=snr_db,
            steps=steps,
            seed=seed,
            detail_gain=self._detail_gain(choice, steps, contents, counts),
        )

    @torch.inference_mode()
    def paint(
        self, batch: list[Received], progress: Callable[[int, int], None] | None = None
    ) -> list[UInt8[np.ndarray, "h w 3"]]:
        """Pictures of one `batch` key, at once; empties the list, of whose large arrays it makes room for the picture.

        Args:
            progress: called with (steps done, steps).
        """
        sides, silent = [item.contents for item in batch], [bool(item.noise_var.isinf().all()) for item in batch]
        gain = _joined([item.detail_gain for item in batch])
        image, change = self.refine(batch, progress)
        if change is not None:
            image = amplified(change, gain).add_(image)
        return [
            grey_picture(side.height, side.width)
            if nothing
            else from_tensor(pixels[None], side.height, side.width, side.grey)
            for pixels, side, nothing in zip(image, sides, silent, strict=True)
        ]

    @torch.inference_mode()
    def refine(
        self, batch: list[Received], progress: Callable[[int, int], None] | None = None
    ) -> tuple[Float32[Tensor, "b 3 h w"], Float32[Tensor, "b 3 h w"] | None]:
        """Direct pictures, and what diffusion adds to them if there are any steps; empties the list as `paint` does."""
        sides, seeds, steps = [item.contents for item in batch], [item.seed for item in batch], batch[0].steps
        device = self.network.device
        power = torch.tensor([byte_to_gain(side.gain) for side in sides], device=device)
        snr = torch.tensor([item.snr_db for item in batch], dtype=torch.float32, device=device)
        hint = torch.tensor([side.hint_db for side in sides], dtype=torch.float32, device=device)
        roi = torch.cat([self._roi(side) for side in sides])
        counts = _joined([item.counts for item in batch])
        received = [_joined([item.symbols for item in batch]), _joined([item.noise_var for item in batch])]
        batch.clear()
        base = self.network.receive(*received, power, counts, roi, snr, hint)
        received.clear()  # of a large picture, a hundred megabytes that the denoiser can use
        if self.denoiser is None or steps == 0:
            return base.image, None
        rate = rate_map(counts).mean(dim=(1, 2, 3))
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return base.image, sample(self.denoiser, self.scheduler, base, snr, rate, steps, generators, progress)

    def _with_maps(
        self,
        side: Side,
        pixels: Tensor,
        mask: Float32[np.ndarray, "h w"] | None,
        total: int,
        side_symbols: Callable[[int], int],
    ) -> Side:
        """The finest rate map (and region of interest) that stays within its share of `total` symbols."""
        if self.network.prior is None or (mask is None and "rate" in self.network.without):
            return side
        choice = self.card.choice(side.hint_db, total / (3 * side.height * side.width))
        bits = self.network.demand(pixels)[0].pow(choice.exponent)
        share = MAP_SHARE if mask is None else ROI_SHARE
        for group in GROUP_SIZES[1:]:
            candidate = self._allocate(side, bits, mask, group, total - int(share / 2 * total))
            if side_symbols(len(pack(candidate))) <= share * total:
                return candidate
        return side if mask is None else candidate

    def _allocate(
        self, side: Side, bits: Tensor, mask: Float32[np.ndarray, "h w"] | None, group: int, budget: int
    ) -> Side:
        rows, columns = group_grid(side.grid, group)
        pad = (0, columns * group - side.grid[1], 0, rows * group - side.grid[0])
        # Groups at the border hold fewer positions: average over those that there are.
        positions = _group_sums(functional.pad(torch.ones_like(bits), pad), group)
        demand = _group_sums(functional.pad(bits, pad), group) / positions
        roi, eighths = None, 8
        if mask is not None:
            strongest = float(mask.max())
            roi = _reduce_mask(mask / strongest, rows, columns, group * PATCH)
            demand = demand * (1 + ROI_GAIN * strongest * torch.from_numpy(roi).to(demand))
            eighths = min(max(round(8 * strongest), 1), 8)  # what is stronger than in training only asks for more rate
        index = allocate(demand.reshape(1, -1), positions.reshape(1, -1), torch.tensor([float(budget)]).to(demand))
        levels = index.view(rows, columns).cpu().numpy().astype(np.int32)
        return replace(side, group=group, levels=levels, roi=roi, roi_eighths=eighths)

    def _counts(self, side: Side, total: int) -> Int64[Tensor, "1 h w"]:
        """Symbols of every position, from the side information and the number of symbols alone."""
        rows, columns = side.grid
        if side.levels is None:
            counts = np.ones((rows, columns), dtype=np.int64)
        else:
            counts = np.array(LEVELS)[_ungroup(side.levels, side.group, side.grid)]
        flat = torch.from_numpy(counts).reshape(1, -1)
        spread = spread_remainder(flat, torch.tensor([total]), self.network.symbol_limit)
        return spread.view(1, rows, columns).to(self.network.device)

    def _detail_gain(self, choice: Choice, steps: int, contents: Side, counts: Tensor) -> Float32[Tensor, "1 1 h w"]:
        """The gain chosen for a picture, and inside a region of interest that for the rate which there is there.

        With other steps than were chosen, the detail is left as it is.
        """
        gain = torch.full(counts.shape, choice.detail_gain if steps == choice.steps else 1.0, device=counts.device)
        inside = self._roi(contents)[:, 0] > 0
        if inside.any():
            choice = self.card.choice(choice.snr_db, counts[inside].float().mean().item() / BLOCK)
            gain[inside] = choice.detail_gain if steps == choice.steps else 1.0
        return gain[:, None]

    def _roi(self, side: Side) -> Tensor:
        mask = np.zeros(side.grid) if side.roi is None else _ungroup(side.roi, side.group, side.grid)
        return torch.from_numpy((mask * (side.roi_eighths / 8)).astype(np.float32))[None, None].to(self.network.device)


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _group_sums(values: Tensor, group: int) -> Tensor:
    return functional.avg_pool2d(values[None, None], group)[0, 0] * group**2


def _ungroup(values: np.ndarray, group: int, grid: tuple[int, int]) -> np.ndarray:
    return values.repeat(group, axis=0).repeat(group, axis=1)[: grid[0], : grid[1]]


def _reduce_mask(mask: Float32[np.ndarray, "h w"], rows: int, columns: int, side: int) -> Bool[np.ndarray, "r c"]:
    """True for groups a fiftieth of which is inside, for edges tell most; of a tiny region, for the group with most."""
    padded = np.pad(mask, ((0, rows * side - mask.shape[0]), (0, columns * side - mask.shape[1])))
    inside = padded.reshape(rows, side, columns, side).mean(axis=(1, 3))
    return np.asarray(inside >= min(0.02, inside.max()))
