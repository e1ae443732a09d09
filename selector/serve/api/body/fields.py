"""Fields of a body: taken one after another, each of its type; what is left at the end is refused."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from selector.serve.upstream import Refused

MOST_NAME = 100
"""Characters of a field's name that are told again."""

_T = TypeVar("_T")


class Fields:
    """The fields of an object that have not been read yet; one that is null counts as absent.

    Args:
        within: the field whose value the object is, for messages.
    """

    def __init__(self, plain: Mapping[str, Any], within: str = "") -> None:
        self._left = {name: value for name, value in plain.items() if value is not None}
        self._prefix = f"{within}." if within else ""

    def take(self, name: str) -> Any:
        """The value, None where there is none."""
        return self._left.pop(name, None)

    def of_kind(self, name: str, kind: type[_T], wanted: str) -> _T | None:
        """The value, which must be of exactly this type: a truth value is no number."""
        value = self.take(name)
        if value is not None and type(value) is not kind:
            refuse(self._prefix + name, f"needs to be {wanted}; found {_shown(value)}")
        return value

    def truth(self, name: str) -> bool:
        """The value; absent, it is False."""
        return bool(self.of_kind(name, bool, "true or false"))

    def integer(self, name: str, least: int, most: int | None) -> int | None:
        """The value, between the two, both included."""
        value = self.of_kind(name, int, "a whole number")
        if value is not None and (value < least or (most is not None and value > most)):
            limits = f"at least {least}" if most is None else f"between {least} and {most}"
            refuse(self._prefix + name, f"needs to be {limits}; found {_shown(value)}")
        return value

    def number(self, name: str, least: float, most: float) -> float | None:
        """The value, between the two, both included."""
        value = self.take(name)
        if value is None:
            return None
        if type(value) not in (int, float) or not least <= value <= most:
            refuse(self._prefix + name, f"needs to be a number between {least} and {most}; found {_shown(value)}")
        return float(value)

    def drop(self, names: Collection[str]) -> None:
        """Take fields that may have any value."""
        for name in names:
            self.take(name)

    def end(self, possible: Mapping[str, Sequence[object]]) -> None:
        """Refuse what is left.

        Args:
            possible: names that are known, with the values that ask for nothing.

        Raises:
            Refused: a field is left that is unknown, or known with another value.
        """
        for name, value in self._left.items():
            if name not in possible:
                refuse(self._prefix + name, "is not a field that this server knows", code="unknown_parameter")
            if not any(_same(value, one) for one in possible[name]):
                allowed = " or ".join([json.dumps(one) for one in possible[name]])
                only = f"; it takes only {allowed}" if allowed else ""
                refuse(
                    self._prefix + name, f"= {_shown(value)} is not possible with this server{only}", code="unsupported"
                )


def refuse(name: str, why: str, *, code: str = "invalid_value") -> NoReturn:
    """Say what is wrong with a field."""
    name = name if len(name) <= MOST_NAME else f"{name[:MOST_NAME]}…"
    raise Refused(f"`{name}` {why}", parameter=name, code=code)


def text(name: str, value: str) -> str:
    """A text that can be written as UTF-8: JSON's escapes can name halves of a character."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        refuse(name, f"has half a character (a lone surrogate) at {error.start}")
    return value


def _same(value: object, other: object) -> bool:
    """Equal as in JSON, where 1 is not true."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _shown(value: object) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 40 else f"{shown[:39]}…"
