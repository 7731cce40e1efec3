"""Codecs by name."""

import importlib.util
import sys
import traceback
from pathlib import Path

from models.classic import ClassicCodec
from models.codec import Codec
from models.errors import ModelError
from models.pipeline import JsccCodec
from models.weights import find, split_adapter

_MEMBERS = ("name", "parameters", "digest", "device", "encode", "decode")


def load_codec(model: str, device: str = "cpu") -> Codec:
    """Loads a shipped model by name, a folder of weights, a hub id, or somebody else's model by its adapter.

    Which kind of codec weights are for follows from the folder's contents. An adapter is FILE.py:FUNCTION: the file is
    executed, and its function called with `device` to return a `Codec` (docs/foreign-model.md).

    Raises:
        ModelError: not found, altered, or of another architecture; an adapter that fails or returns something else.
    """
    adapter = split_adapter(model)
    if adapter is not None:
        return _load_adapter(*adapter, device)
    kind = ClassicCodec if (find(model) / "classic").is_dir() else JsccCodec
    codec: Codec = kind.from_pretrained(model, device)
    return codec


def _load_adapter(file: Path, function: str, device: str) -> Codec:
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # what lies beside the file can be imported, and hides nothing
    spec = importlib.util.spec_from_file_location(f"adapter_{file.stem}", file)
    assert spec is not None and spec.loader is not None  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        codec = getattr(module, function)(device)
    except Exception as error:  # somebody else's code can fail in every way
        frame = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split())
        raise ModelError(
            f"adapter {file}:{function} fails at {Path(frame.filename).name} line {frame.lineno}: "
            f"{type(error).__name__} {text}"
        ) from error
    missing = [member for member in _MEMBERS if not hasattr(codec, member)]
    if missing:
        raise ModelError(f"adapter {file}:{function} returns no codec: it lacks {', '.join(missing)}")
    result: Codec = codec
    return result
