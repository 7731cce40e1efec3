"""Dataclasses as YAML files: one file per variant, unknown keys and wrong types refused by name."""

from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import yaml

from sdr.errors import SdrError


def read_settings(path: Path, kind: type, what: str) -> dict[str, Any]:
    """Read the fields of the dataclass `kind` that a YAML file gives.

    They are annotated with str, int, float, bool, unions of these, another such dataclass, a tuple of any length of
    these, dict[str, str or float], or one of these `| None`. A single scalar may stand for a list of one. `what` names
    the kind of file in errors. Raises SdrError for a file that cannot be read, an unknown key, a value of a wrong type,
    a key that is missing within an inner mapping.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SdrError(f"cannot read {what} {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SdrError(f"{what} {path} is not valid YAML: {str(error).splitlines()[0]}") from error
    return _fields(content, kind, f"{what} {path}", f"{what} {path}: ")


def _fields(content: Any, kind: type, name: str, prefix: str) -> dict[str, Any]:
    """The fields of a dataclass that a mapping gives; `name` and `prefix` say where in errors."""
    if not isinstance(content, dict):
        raise SdrError(f"{name} must be a mapping of keys to values")
    kinds = {field.name: field.type for field in fields(kind)}
    if unknown := [str(key) for key in content if key not in kinds]:
        raise SdrError(f"{name}: unknown key {', '.join(unknown)}; known are {', '.join(kinds)}")
    return {key: _typed(value, kinds[key], prefix + key) for key, value in content.items()}


def _typed(value: Any, kind: Any, name: str) -> Any:
    if isinstance(kind, UnionType):
        if value is None and NoneType in get_args(kind):
            return None
        kinds = [option for option in get_args(kind) if option is not NoneType]
        kind = next((option for option in kinds if type(value) is option), kinds[0])
    if is_dataclass(kind):
        return _inner(value, kind, name)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is tuple:
        if not isinstance(value, list):
            if is_dataclass(inner[0]) or isinstance(value, dict):
                raise SdrError(f"{name} must be a list, got {value!r}")
            return (_typed(value, inner[0], name),)
        return tuple(_typed(entry, inner[0], f"{name}[{index}]") for index, entry in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise SdrError(f"{name} must be a mapping of names to values, got {value!r}")
        return {key: _scalar(entry, inner[1], f"{name}.{key}") for key, entry in value.items()}
    return _scalar(value, kind, name)


def _inner(value: Any, kind: Any, name: str) -> Any:
    """A dataclass within another."""
    given = _fields(value, kind, name, f"{name}.")
    needed = [field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING]
    if missing := [key for key in needed if key not in given]:
        raise SdrError(f"{name} lacks {', '.join(missing)}")
    try:
        return kind(**given)
    except SdrError as error:
        raise SdrError(f"{name}: {error}") from error


def _scalar(value: Any, kind: Any, name: str) -> Any:
    accepted = (int, float) if kind is float else (kind,)
    if (isinstance(value, bool) and kind is not bool) or not isinstance(value, accepted):
        hint = "; YAML wants a point in it, as 1.0e-6" if kind is float and isinstance(value, str) else ""
        raise SdrError(f"{name} must be {kind.__name__}, got {value!r}{hint}")
    return float(value) if kind is float else value
