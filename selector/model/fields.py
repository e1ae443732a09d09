"""Fields: values of a JSON object read by type and range; every refusal names the field, the value and the mend."""

import math
import reprlib
from collections.abc import Mapping
from typing import Any, Final, TypeVar, overload

from calibration.errors import ModelError

Json = Mapping[str, Any]

D = TypeVar("D")

REQUIRED: Final[Any] = object()
"""Default of a field that has none: where it is missing, that is an error."""

MOST: Final = 2**40
"""No number of a published model is near it; products of two stay exact and cheap."""

_BRIEF: Final = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxlong, _BRIEF.maxother = 3, 80, 80, 80


def shown(value: object) -> str:
    """A value of a JSON file on a line of a message, however long or deep it is."""
    text = _BRIEF.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def plain(name: str) -> str:
    """The name of a field, which a file may have made long or unprintable."""
    return name if len(name) <= 80 and name.isprintable() else ascii(name[:80])


class Fields:
    """The fields of several JSON objects: the first object that has a field wins; null counts as absent."""

    __slots__ = ("mend", "sources", "where")

    def __init__(self, where: str, *sources: Json, mend: str = "") -> None:
        self.where = where
        self.sources = sources
        self.mend = mend or f"compare {where} with the published one, or fetch it again"

    def find(self, *names: str) -> tuple[str, Any] | None:
        """The first name that has a value, with that value."""
        for source in self.sources:
            for name in names:
                value = source.get(name)
                if value is not None:
                    return name, value
        return None

    def refuse(self, name: str, needed: str, value: object) -> ModelError:
        """The error to raise for the value of `name`."""
        return ModelError(f"{self.where}: {plain(name)} needs {needed}; found {shown(value)}", self.mend)

    def missing(self, *names: str) -> ModelError:
        """The error to raise where none of `names` is there."""
        others = f" (nor {', '.join(names[1:])})" if len(names) > 1 else ""
        return ModelError(f"{self.where} has no {names[0]}{others}", self.mend)

    @overload
    def whole(self, *names: str, least: int = 1, most: int = MOST) -> int: ...
    @overload
    def whole(self, *names: str, least: int = 1, most: int = MOST, default: D) -> int | D: ...
    def whole(self, *names: str, least: int = 1, most: int = MOST, default: Any = REQUIRED) -> Any:
        """A whole number in [least, most]; of a list with a number for each layer, the largest."""
        match self._find_or(names, default):
            case None:
                return default
            case name, value:
                if type(value) is list and value and all(type(item) is int for item in value):
                    value = max(value)
                if type(value) is not int or not least <= value <= most:
                    raise self.refuse(name, f"a whole number from {least} to {most}", value)
                return value

    def wholes(self, *names: str, count: int, most: int = MOST) -> tuple[int, ...]:
        """The whole numbers of a list that has one for each of `count` layers; empty where there is no such list."""
        match self.find(*names):
            case _, list(values) if len(values) >= count and all(type(value) is int for value in values):
                return tuple(min(max(value, 0), most) for value in values[:count])
            case _:
                return ()

    @overload
    def number(self, *names: str, least: float = 0.0) -> float: ...
    @overload
    def number(self, *names: str, least: float = 0.0, default: D) -> float | D: ...
    def number(self, *names: str, least: float = 0.0, default: Any = REQUIRED) -> Any:
        """A finite number above `least`, as a float."""
        match self._find_or(names, default):
            case None:
                return default
            case name, value:
                if type(value) not in {int, float} or not math.isfinite(value) or value <= least or value > 1e18:
                    raise self.refuse(name, f"a number above {least:g}", value)
                return float(value)

    @overload
    def flag(self, *names: str) -> bool: ...
    @overload
    def flag(self, *names: str, default: D) -> bool | D: ...
    def flag(self, *names: str, default: Any = False) -> Any:
        """True or false."""
        match self._find_or(names, default):
            case None:
                return default
            case name, value:
                if type(value) is not bool:
                    raise self.refuse(name, "true or false", value)
                return value

    @overload
    def text(self, *names: str, most: int = 200) -> str: ...
    @overload
    def text(self, *names: str, most: int = 200, default: D) -> str | D: ...
    def text(self, *names: str, most: int = 200, default: Any = REQUIRED) -> Any:
        """A printable string of at most `most` characters."""
        match self._find_or(names, default):
            case None:
                return default
            case name, value:
                if type(value) is not str or not 0 < len(value) <= most or not value.isprintable():
                    raise self.refuse(name, "a short text", value)
                return value

    def table(self, *names: str) -> dict[str, Any]:
        """A JSON object; empty where there is none."""
        match self.find(*names):
            case None:
                return {}
            case name, value:
                if type(value) is not dict:
                    raise self.refuse(name, "an object", value)
                return value

    def rows(self, *names: str) -> list[Any] | None:
        """A JSON list; None where there is none."""
        match self.find(*names):
            case None:
                return None
            case name, value:
                if type(value) is not list:
                    raise self.refuse(name, "a list", value)
                return value

    def texts(self, *names: str) -> tuple[str, ...]:
        """A list of strings; empty where there is none."""
        rows = self.rows(*names) or []
        for row in rows:
            if type(row) is not str:
                raise self.refuse(names[0], "a list of texts", rows)
        return tuple(rows)

    def within(self, name: str) -> "Fields":
        """The fields of the object `name`, alone."""
        return Fields(f"{self.where}: {plain(name)}", self.table(name), mend=self.mend)

    def around(self, name: str) -> "Fields":
        """These fields, and after them those of the object `name` among them."""
        return Fields(self.where, *self.sources, self.table(name), mend=self.mend)

    def first(self) -> "Fields":
        """The fields of the first object alone."""
        return Fields(self.where, self.sources[0], mend=self.mend)

    def outermost(self) -> "Fields":
        """The same objects, the last of them first."""
        return Fields(self.where, *reversed(self.sources), mend=self.mend)

    def table_names(self) -> tuple[str, ...]:
        """The names in the first object."""
        return tuple(self.sources[0])

    def _find_or(self, names: tuple[str, ...], default: object) -> tuple[str, Any] | None:
        """As `find`; raises the error of a missing field where it has no default."""
        name_and_value = self.find(*names)
        if name_and_value is None and default is REQUIRED:
            raise self.missing(*names)
        return name_and_value
