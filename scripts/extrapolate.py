"""Moves the denoiser of a model further in the direction in which its last training moved it.

    python scripts/extrapolate.py BEFORE models/weights/lrisc --by 1.3

The denoiser becomes BEFORE's + 1.3·(its own − BEFORE's): of a training with more weight on the perceptual loss, more of
the same (task arithmetic, arXiv 2212.04089). How far is to be chosen on held-out pictures; choices and rate table are
to be made anew afterwards.
"""

import sys
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script sees its own folder only

import typer
from torch import Tensor, nn

from models.errors import ModelError
from models.pipeline import JsccCodec


def extrapolated(before: nn.Module, after: nn.Module, by: float) -> dict[str, Tensor]:
    """Weights at before + by·(after − before). Raises ModelError for two networks of different shape."""
    old, new = before.state_dict(), after.state_dict()
    if {name: value.shape for name, value in old.items()} != {name: value.shape for name, value in new.items()}:
        raise ModelError("the two denoisers are of different shape")
    return {name: value.lerp(new[name], by) if value.is_floating_point() else new[name] for name, value in old.items()}


def main(
    before: Annotated[str, typer.Argument(help="Weights from which the last training started.")],
    model: Annotated[Path, typer.Argument(help="Folder of the weights that it ended in; changed.")],
    by: Annotated[float, typer.Option(help="1 changes nothing.")],
) -> None:
    """Extrapolate the denoiser of MODEL from BEFORE."""
    try:
        start, codec = JsccCodec.from_pretrained(before), JsccCodec.from_pretrained(model)
        if start.denoiser is None or codec.denoiser is None:
            raise ModelError("both models need a denoiser")
        codec.denoiser.load_state_dict(extrapolated(start.denoiser, codec.denoiser, by))
        codec.save(model, codec.card.name, codec.card.default_steps)
    except ModelError as error:
        print(f"extrapolate: {error}", file=sys.stderr)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
