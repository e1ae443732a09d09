"""Dataclasses as plain JSON values and back: one codec for what is stored and for what goes to a worker.

Standard library only, since a worker reads its requests with it.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from calibration.errors import UsageError

Type = TypeVar("Type")

LEAST = "least"
"""Key of a field's metadata: the least number that the field takes, or the least length of its list; 0 without it."""


def to_plain(value: Any) -> Any:
    """A value as JSON knows it: dataclasses and mappings become dicts, sets sorted lists, paths texts.

    Raises:
        TypeError: the value holds something that `from_plain` could not read again.
    """
    match value:
        case StrEnum():
            return str(value)
        case None | bool() | int() | float() | str():
            return value
        case Path():
            return str(value)
        case Mapping():
            return {key: to_plain(item) for key, item in value.items()}
        case AbstractSet():
            return sorted(map(to_plain, value))
        case Sequence():
            return [to_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    raise TypeError(f"{type(value).__name__} has no plain form: {value!r:.40}")


def from_plain(kind: type[Type], plain: Any) -> Type:
    """Read what `to_plain` or somebody else wrote: every field is looked at; a field that is left out has its default.

    Args:
        kind: a dataclass, or whatever else may annotate a field of a dataclass.

    Raises:
        ValueError: says which field, what it needs and what was found.
    """
    value: Type = _value(kind, plain, "", 0)
    return value


def _value(hint: Any, plain: Any, where: str, least: float) -> Any:
    """A value by its annotation.

    Args:
        where: path of the field, for the error's sentence.
        least: LEAST of the field.
    """
    if hint is Any:
        return plain
    options = get_args(hint)
    if NoneType in options:
        if plain is None:
            return None
        (hint,) = set(options) - {NoneType}
    origin = get_origin(hint) or hint
    if is_dataclass(origin):
        return _dataclass(origin, plain, where)
    if origin in (tuple, frozenset):
        return origin(_items(get_args(hint)[0], plain, where, least))
    if origin in (dict, Mapping):
        return _mapping(get_args(hint)[1], plain, where)
    if issubclass(origin, StrEnum):
        if plain not in list(origin):
            raise _refused(f"one of {', '.join(origin)}", plain, where)
        return origin(plain)
    if origin is Path:
        return Path(_scalar(str, plain, where, least))
    return _scalar(origin, plain, where, least)


def _dataclass(kind: Any, plain: Any, where: str) -> Any:
    if not isinstance(plain, dict):
        raise _refused("an object", plain, where)
    hints, prefix = _hints(kind), f"{where}." if where else ""
    if unknown := plain.keys() - hints.keys():
        raise ValueError(f"knows no field {prefix}{min(unknown, key=str)}")
    values = {
        name: _value(hint, plain[name], prefix + name, least) for name, (hint, least) in hints.items() if name in plain
    }
    try:
        return kind(**values)
    except TypeError:
        missing = next(f.name for f in fields(kind) if _is_required(f) and f.name not in plain)
        raise ValueError(f"needs the field {prefix}{missing}; found none") from None
    except UsageError as error:
        raise ValueError(f"{where}: {error.message}") from error


@cache
def _hints(kind: type[Any]) -> dict[str, tuple[Any, float]]:
    """Field: its annotation and its LEAST."""
    hints = get_type_hints(kind)
    return {field.name: (hints[field.name], field.metadata.get(LEAST, 0)) for field in fields(kind)}


def _is_required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _items(hint: Any, plain: Any, where: str, least: float) -> list[Any]:
    if not isinstance(plain, list | tuple) or len(plain) < least:
        raise _refused("a list with something in it" if least else "a list", plain, where)
    return [_value(hint, item, f"{where}[{i}]", 0) for i, item in enumerate(plain)]


def _mapping(hint: Any, plain: Any, where: str) -> dict[str, Any]:
    texts = hint is str
    if not isinstance(plain, dict) or not all(
        isinstance(key, str) and (isinstance(item, str) or not texts) for key, item in plain.items()
    ):
        raise _refused("an object of texts" if texts else "an object", plain, where)
    return {key: _value(hint, item, f"{where}.{key}", 0) for key, item in plain.items()}


def _scalar(kind: Any, plain: Any, where: str, least: float) -> Any:
    """Numbers finite and not below `least`, nothing converted but int to float."""
    if kind is float and type(plain) is int and abs(plain) < _LARGEST:
        plain = float(plain)
    if type(plain) is not kind:
        raise _refused(_NAMES[kind], plain, where)
    if kind in (int, float) and not least <= plain < _LARGEST:
        raise _refused(f"a finite number >= {least:g}", plain, where)
    return plain


def _refused(needed: str, plain: Any, where: str) -> ValueError:
    place = f" in {where}" if where else ""
    return ValueError(f"needs {needed}{place}; found {plain!r:.40}")


_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
_LARGEST = 2**63
