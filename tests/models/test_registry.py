"""Models by name: adapters that are somebody else's code, and what is told of one that fails."""

from pathlib import Path

import pytest

from models.errors import ModelError
from models.registry import load_codec
from models.weights import hash_file, verify


def adapter(folder: Path, code: str) -> str:
    (folder / "adapter.py").write_text(code)
    return f"{folder / 'adapter.py'}:load"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def load(device):\n    return 3\n", "returns no codec: it lacks name, parameters, digest"),
        ("x = 1\n", "AttributeError .*has no attribute 'load'"),
        ("def load(device):\n\n    raise OSError('no weights\\nhere')\n", "adapter.py line 3: OSError no weights here"),
        ("def load(:\n", "SyntaxError"),
        ("import nothing_of_that_name\n", "adapter.py line 1: ModuleNotFoundError .*nothing_of_that_name"),
    ],
)
def test_adapters_that_fail_are_told_in_one_line(code: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_codec(adapter(tmp_path, code))
    assert "\n" not in str(caught.value)


def test_device_reaches_the_adapter(tmp_path: Path) -> None:
    code = """
class Codec:
    name, parameters, digest = "x", 1, "0" * 64
    def __init__(self, device): self.device = device
    def encode(self): ...
    def decode(self): ...

def load(device):
    return Codec(device)
"""
    assert load_codec(adapter(tmp_path, code), "cuda:1").device == "cuda:1"


def test_adapters_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"adapter '.*gone\.py' does not exist: write FILE\.py:FUNCTION"):
        load_codec(f"{tmp_path / 'gone.py'}:load")
    with pytest.raises(ModelError, match=r"FILE\.py:FUNCTION"):  # the function is missing
        load_codec(str(tmp_path / "gone.py"))


def test_adapters_are_known_by_their_file_without_being_executed(tmp_path: Path) -> None:
    model = adapter(tmp_path, "raise SystemExit\n")
    card = verify(model)
    assert (card.name, card.sha256) == (model, {"adapter.py": hash_file(tmp_path / "adapter.py")})
