"""Classes of transformers, read as text where it is installed: which attributes they set."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from calibration.config_json import ConfigJson, UnreadableField
from selector.rules.combination import Combination
from selector.rules.installed.tables import Table, base_model, causal_model, modeling_files, seeing_model

_BLOCK = re.compile(r"^class (?=\w)", re.MULTILINE)
_HEAD = re.compile(r"(\w+)(?:\(([^)]*)\))?:")
_MOST_BASES = 12
"""Classes from the one that is asked for up to PreTrainedModel: none is as far from it."""


@dataclass(frozen=True, slots=True)
class _Class:
    bases: tuple[str, ...]
    text: str


def without_flag(case: Combination, flag: str) -> str | None:
    """Of the classes that transformers builds of a model and its parts, the first that does not set a flag to true.

    Raises:
        LookupError: that cannot be read here.
    """
    causal = causal_model(case)
    if causal is None:
        raise LookupError(case.model.model_type)
    # Of a model that sees, its language model alone may be built.
    parts = _parts(case) if seeing_model(case) in {None, causal} else ()
    classes = [(case.model.model_type, causal), *parts]
    return next((name for model_type, name in classes if not _sets(case, model_type, name, flag)), None)


def _parts(case: Combination) -> Iterator[tuple[str, str]]:
    """The towers and the language model inside, as AutoModel builds them: (model_type, class)."""
    try:
        fields = ConfigJson.read(case.model.folder).fields
    except UnreadableField:  # `own_limits` says it
        return
    for part in fields.values():
        model_type: Any = part.get("model_type") if isinstance(part, dict) else None
        if isinstance(model_type, str) and (name := base_model(case, model_type)):
            yield model_type, name


def _sets(case: Combination, model_type: str, name: str, flag: str) -> bool:
    """Whether a class, or the nearest of its bases that says anything of the flag, sets it to true."""
    files = (_classes(file) for file in modeling_files(case, model_type, name))
    classes = next((classes for classes in files if name in classes), None)
    if classes is None:
        raise LookupError(name)
    value = re.compile(rf"^    (?:\w+ = )*{flag}(?:: bool)? = (?:\w+ = )*(True|False)\b", re.MULTILINE)
    names = [name]
    for _ in range(_MOST_BASES):
        known = [classes[each] for each in names if each in classes]
        for each in known:
            if told := value.search(each.text):
                return told[1] == "True"
        names = [base for each in known for base in each.bases]
    return False  # as PreTrainedModel has it


@lru_cache(maxsize=64)
def _classes(table: Table) -> Mapping[str, _Class]:
    """The classes of a module, by name."""
    text = table[0].read_text(encoding="utf-8", errors="replace")
    blocks = ((_HEAD.match(block), block) for block in _BLOCK.split(text)[1:])
    return {
        head[1]: _Class(tuple(base.strip() for base in (head[2] or "").split(",")), block)
        for head, block in blocks
        if head
    }
