"""Codecs by name."""

from models.classic import ClassicCodec
from models.codec import Codec
from models.pipeline import JsccCodec
from models.weights import find


def load_codec(model: str, device: str = "cpu") -> Codec:
    """Loads a shipped model by name, a folder of weights, or a hub id; which kind it is follows from its contents.

    Raises:
        ModelError: not found, altered, or of another architecture.
    """
    kind = ClassicCodec if (find(model) / "classic").is_dir() else JsccCodec
    return kind.from_pretrained(model, device)
