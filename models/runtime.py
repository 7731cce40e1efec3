"""A codec as fast as the machine decodes it: bf16 where that is native, or ONNX Runtime.

A runtime replaces how the direct decoder (`JsccNetwork.receive`) and the denoiser are computed; symbols, side
information, sampling and tiles of large pictures are the codec's own. On CUDA nothing here has been run: the machines
this was written on have none.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex64, Float, Int64
from torch import Tensor

from models.codec import Codec
from models.errors import ModelError
from models.export import DENOISER, DETAIL, LATENT, exported
from models.jscc import rate_map
from models.pipeline import JsccCodec
from models.precision import has_fast_bf16
from models.registry import load_codec
from models.tiling import in_tiles
from models.transform import Decoded

RUNTIMES = ("auto", "torch", "bf16", "compile", "onnx")


def load(model: str, device: str = "auto", runtime: str = "auto") -> Codec:
    """A codec on a device, to decode with.

    Args:
        model: as `models.registry.load_codec` takes it.
        device: cpu, cuda, cuda:1, or auto, which is cuda where there is one.
        runtime: "torch" computes in float32 as in training without mixed precision, "bf16" the convolutions in bf16,
            "compile" the same through `torch.compile`, which takes a minute for the first picture, "onnx" with ONNX
            Runtime what `lrisc export` has written; "auto" is bf16 where it is native, then onnx if that was exported
            for these weights, then torch.

    Raises:
        ModelError: no such model, device or runtime, or nothing was exported.
    """
    if runtime not in RUNTIMES:
        raise ModelError(f"no runtime {runtime!r}: choose one of {', '.join(RUNTIMES)}")
    target = _device(device)
    codec = load_codec(model, str(target))
    if not isinstance(codec, JsccCodec):
        if runtime not in ("auto", "torch"):
            raise ModelError(f"{codec.name} runs with --runtime torch only")
        return codec
    if runtime == "auto":
        folder = exported(codec.card) if target.type == "cpu" else None
        runtime = "bf16" if has_fast_bf16(str(target)) else "onnx" if folder is not None and _has_onnx() else "torch"
    if runtime == "onnx":
        _use_onnx(codec, target)
        return codec
    for module in (codec.network, codec.denoiser):
        if module is not None:
            module.to(memory_format=torch.channels_last)
    if runtime in ("bf16", "compile"):
        _use_bf16(codec, target, compiled=runtime == "compile")
    return codec


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"no device {name!r}: choose cpu, cuda, cuda:N or auto") from None
    if device.type not in ("cpu", "cuda"):
        raise ModelError(f"no device {name!r}: choose cpu, cuda, cuda:N or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(f"no device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def _use_bf16(codec: JsccCodec, device: torch.device, compiled: bool) -> None:
    autocast = torch.autocast(device.type, torch.bfloat16)
    network, denoiser = codec.network, codec.denoiser
    if compiled:
        # By part and by the sizes that come; without CUDA graphs, whose outputs live only until the next call.
        network.decoder.compile()
        network.synthesis.compile()
    network.receive = autocast(network.receive)
    if denoiser is not None:
        if compiled:
            denoiser.compile()
        denoiser.forward = autocast(denoiser.forward)
        denoiser.log_sigma = autocast(denoiser.log_sigma)


# ---------------------------------------------------------------- ONNX Runtime


def _has_onnx() -> bool:
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return False
    return True


def _use_onnx(codec: JsccCodec, device: torch.device) -> None:
    if not _has_onnx():
        raise ModelError("ONNX Runtime is not installed: pip install lrisc[cpu], or lrisc[gpu] for CUDA")
    folder = exported(codec.card)
    if folder is None:
        raise ModelError(f"{codec.name} has not been exported for these weights: run `lrisc export` first")
    latent, detail = _session(folder / LATENT, device), _session(folder / DETAIL, device)
    network = codec.network

    def receive(
        symbols: Complex64[Tensor, "b s h w"],
        noise_var: Float[Tensor, "b s h w"],
        power: Float[Tensor, "b"],
        counts: Int64[Tensor, "b h w"],
        mask: Float[Tensor, "b 1 h w"],
        snr_db: Float[Tensor, "b"],
        hint_db: Float[Tensor, "b"],
    ) -> Decoded:
        """See `JsccNetwork.receive`."""
        reals, precision = network.observe(symbols, noise_var, power, counts)
        rate = rate_map(counts)
        linear, features, condition = latent(reals, precision, rate, mask, snr_db, hint_db)
        grid = (counts.shape[-2], counts.shape[-1])

        def synthesise(*window: Tensor) -> tuple[Tensor, ...]:
            return tuple(detail(*window, condition)[:2])

        return Decoded(*in_tiles(synthesise, [features, linear, rate, mask], grid, network.synthesis.reach))

    network.receive = receive
    if codec.denoiser is not None:
        refine = _session(folder / DENOISER, device)

        def forward(
            noisy: Tensor, timestep: Tensor, base: Decoded, log_sigma: Tensor, snr_db: Tensor, rate: Tensor
        ) -> Tensor:
            """See `Denoiser.forward`."""
            return refine(noisy, timestep, base.image, base.features, log_sigma, snr_db, rate)[0]

        codec.denoiser.forward = forward


def _session(path: Path, device: torch.device) -> Callable[..., list[Tensor]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise ModelError("this ONNX Runtime has no CUDA: pip install lrisc[gpu] in place of onnxruntime")
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    names = [found.name for found in session.get_inputs()]

    def run(*inputs: Tensor) -> list[Tensor]:
        feed: dict[str, np.ndarray] = {
            name: value.contiguous().cpu().numpy() for name, value in zip(names, inputs, strict=True)
        }
        return [torch.from_numpy(output).to(device) for output in session.run(None, feed)]

    return run
