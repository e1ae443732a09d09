"""ConfigJson: the fields of a config.json that Model does not have, each read with its type checked."""

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_LARGEST = 1e18
"""No field of a published model comes near it, and what is computed from two such numbers is finite."""

_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxlong, _BRIEF.maxother = 3, 80, 80, 80


INNER = (
    "text_config", "llm_config", "language_config", "thinker_config", "language_model_config", "vlm_config", "decoder",
    "global_config",
)  # fmt: skip
"""Where models that see, hear or encode keep their language model; these may be nested."""


class UnreadableField(ValueError):
    """A config.json holds something else than what a backend reads there; the text is `needs X; found Y`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigJson:
    """A JSON object; null in a field counts as absent. Every reader raises UnreadableField for another type."""

    fields: Mapping[str, Any]
    path: str = ""
    """Names that lead to the object inside config.json, each with a dot: `rope_scaling.`."""

    @classmethod
    def read(cls, folder: Path) -> "ConfigJson":
        """The config.json of a model's folder; empty where there is none (beside a .gguf file)."""
        try:
            content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except OSError:
            return cls(fields={})
        except (ValueError, RecursionError) as error:
            raise UnreadableField(f"needs a config.json that is JSON; found {type(error).__name__}: {error}") from None
        if type(content) is not dict:
            raise UnreadableField(f"needs a config.json that is an object; found {shown(content)}")
        return cls(fields=content)

    def over(self, outer: "ConfigJson") -> "ConfigJson":
        """This object's fields, and the outer one's where this one has none."""
        own = {name: value for name, value in self.fields.items() if value is not None}
        return ConfigJson(fields={**outer.fields, **own}, path=outer.path)

    def language_model(self) -> "ConfigJson":
        """This object with the fields of the language model inside it, `text_config` or `llm_config`, over its own."""
        text_config = self.table("text_config")
        return (text_config if text_config.fields else self.table("llm_config")).over(self)

    def flag(self, name: str) -> bool:
        """True or false; false where it is absent."""
        return bool(self._typed(name, False, "true or false", bool))

    def whole(self, name: str, default: T) -> int | T:
        """A whole number."""
        value: int | T = self._typed(name, default, "a whole number", int)
        return self._bounded(name, value)

    def number(self, name: str, default: T) -> int | float | T:
        """A finite number."""
        value: int | float | T = self._typed(name, default, "a number", int, float)
        return self._bounded(name, value)

    def text(self, name: str, default: T) -> str | T:
        """A short printable text."""
        value: str | T = self._typed(name, default, "a short text", str)
        if isinstance(value, str) and not _short(value):
            raise self._refuse(name, "a short text", value)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of short printable texts; empty where there is none."""
        values = self.rows(name)
        if not all(isinstance(value, str) and _short(value) for value in values):
            raise self._refuse(name, "a list of short texts", values)
        return tuple(map(str, values))

    def rows(self, name: str) -> Sequence[object]:
        """A list of anything; empty where there is none."""
        values: Sequence[object] = self._typed(name, (), "a list", list)
        return values

    def table(self, name: str) -> "ConfigJson":
        """An object; empty where there is none."""
        return ConfigJson(fields=self._typed(name, {}, "an object", dict), path=f"{self.path}{_printable(name)}.")

    def tables(self) -> Mapping[str, "ConfigJson"]:
        """Objects by name, where every field is one."""
        return {name: self.table(name) for name in self.fields}

    def _typed(self, name: str, default: Any, needed: str, *types: type) -> Any:
        value = self.fields.get(name)
        if value is None:
            return default
        if type(value) not in types:
            raise self._refuse(name, needed, value)
        return value

    def _bounded(self, name: str, value: T) -> T:
        if isinstance(value, int | float) and not abs(value) <= _LARGEST:  # so written, NaN is refused too
            raise self._refuse(name, "a number of a model's size", value)
        return value

    def _refuse(self, name: str, needed: str, found: object) -> UnreadableField:
        return UnreadableField(f"needs {needed} as {self.path}{_printable(name)} in config.json; found {shown(found)}")


def unnamed_ends(folder: Path) -> str | None:
    """`needs X; found Y` where LMDeploy cannot make a tokenizer: several ids end an answer, no token is named."""
    try:
        tokenizer, generation = (
            json.loads((folder / name).read_text(encoding="utf-8"))
            for name in ("tokenizer_config.json", "generation_config.json")
        )
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(tokenizer, dict) or not isinstance(generation, dict) or tokenizer.get("eos_token"):
        return None
    ends = generation.get("eos_token_id")
    if not isinstance(ends, list):
        return None
    return f"needs an eos_token in tokenizer_config.json; found several ids {shown(ends)}"


def shown(value: object) -> str:
    """A value of a JSON file on one line, however long or deep it is."""
    text = _BRIEF.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _short(text: str) -> bool:
    return len(text) <= 200 and text.isprintable()


def _printable(name: str) -> str:
    return name if len(name) <= 80 and name.isprintable() else ascii(name[:80])
