"""Dataclasses as YAML files: one file per variant, unknown keys and wrong types refused by name."""

from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import yaml

from sdr.errors import SdrError


def read_settings(path: Path, kind: type, what: str) -> dict[str, Any]:
    """Read the fields of the dataclass `kind` that a YAML file gives.

    They are annotated with str, int, float or one of these `| None`. `what` names the kind of file in errors.
    Raises SdrError for a file that cannot be read, an unknown key, a value of a wrong type.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SdrError(f"cannot read {what} {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SdrError(f"{what} {path} is not valid YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise SdrError(f"{what} {path} must be a mapping of keys to values")
    kinds = {field.name: get_args(field.type) or (field.type,) for field in fields(kind)}
    if unknown := [str(key) for key in content if key not in kinds]:
        raise SdrError(f"{what} {path}: unknown key {', '.join(unknown)}; known are {', '.join(kinds)}")
    return {key: _typed(value, kinds[key], f"{what} {path}: {key}") for key, value in content.items()}


def _typed(value: Any, kinds: tuple[Any, ...], name: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    accepted = (int, float) if float in kinds else kinds
    if isinstance(value, bool) or not isinstance(value, accepted):
        text = kinds[0].__name__
        hint = "; YAML wants a point in it, as 1.0e-6" if float in kinds and isinstance(value, str) else ""
        raise SdrError(f"{name} must be {text}, got {value!r}{hint}")
    return float(value) if float in kinds else value
