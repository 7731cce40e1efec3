"""Somebody else's model: the adapter that docs/foreign-model.md prints, beside a stand-in for the model it is for."""

import re
from pathlib import Path
from typing import Any

import torch

PAGE = Path(__file__).parents[2] / "docs" / "foreign-model.md"
CBR = "1/6"  # the only one that it knows

STAND_IN = """
import torch
from torch import nn


class JSCC(nn.Module):  # as somebody might write it: knows nothing of this project

    def __init__(self, channels):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 24, 5, 2, 2), nn.ReLU(), nn.Conv2d(24, channels, 5, 2, 2))
        self.up = nn.Sequential(nn.Conv2d(channels + 1, 24, 3, 1, 1), nn.ReLU(), nn.Conv2d(24, 48, 3, 1, 1))

    def encoder(self, image):
        return self.down(image)

    def decoder(self, received, snr_db):
        snr = torch.full_like(received[:, :1], snr_db / 20)
        return torch.sigmoid(nn.functional.pixel_shuffle(self.up(torch.cat((received, snr), dim=1)), 4))
"""


def write_foreign(folder: Path) -> str:
    """Writes adapter, model and weights; gives what `--model` takes."""
    (adapter,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    (folder / "their_jscc.py").write_text(STAND_IN)
    (folder / "my_adapter.py").write_text(adapter)
    module: dict[str, Any] = {}
    exec(compile(STAND_IN, "their_jscc.py", "exec"), module)
    torch.manual_seed(0)
    torch.save(module["JSCC"](16).state_dict(), folder / "their_jscc.pt")
    return f"{folder / 'my_adapter.py'}:load"
