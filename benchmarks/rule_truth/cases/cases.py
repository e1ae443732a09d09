"""The cases: each architecture as it is by default, and variants of what changes the meaning of a config."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.rule_truth.cases.architectures import NoSuchField, config_of, model_types
from benchmarks.rule_truth.cases.small import NO_CASE, SMALL
from benchmarks.rule_truth.cases.styles import NOT_PUBLISHED, newest, published
from benchmarks.rule_truth.cases.variants import VARIANTS, Variant

VERSION = "1"
"""Part of a case's digest. Raise it when equal configs give other files than before."""
_STYLE = {"torch_dtype": "dtype"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A small model."""

    name: str
    """`llama`, or with what is changed `llama@tied`."""
    kind: str
    """`default`, `style`, or the kind of its variant: `rope`, `window`, `quant` ..."""
    content: Mapping[str, Any] = field(default_factory=dict)
    """config.json, before a quant format is written."""
    quant: str = ""
    """What of quant_formats.py is written over the weights."""
    problem: str = ""
    """Why transformers has no such config; it is then not written."""

    @property
    def digest(self) -> str:
        plain = json.dumps([VERSION, self.content, self.quant], sort_keys=True)
        return hashlib.sha256(plain.encode()).hexdigest()[:16]

    @property
    def model_type(self) -> str:
        return self.name.partition("@")[0]


def all_cases() -> list[Case]:
    """The default of each architecture first, then the other style, then the variants; no two have equal files."""
    from transformers import logging

    logging.set_verbosity_error()
    architectures = model_types()
    defaults, styles = list[Case](), list[Case]()
    for model_type, architecture in architectures.items():
        if model_type in NO_CASE:
            defaults.append(Case(name=model_type, kind="default", problem=NO_CASE[model_type]))
            continue
        try:
            content = newest(config_of(model_type), architecture, "float32")
            defaults.append(Case(name=model_type, kind="default", content=published(content)))
            styles.append(Case(name=f"{model_type}@transformers-5", kind="style", content=content))
        except Exception as error:  # noqa: BLE001  whatever a config class raises
            defaults.append(Case(name=model_type, kind="default", problem=_first_line(error)))
    varied = (_varied(v, model_type, architectures[model_type]) for v in VARIANTS for model_type in v.model_types)
    return list(_each_once([*defaults, *styles, *(case for case in varied if case is not None)]))


def for_a_gpu(cases: Iterable[Case]) -> list[Case]:
    """The same cases as engines of a GPU take them: float16 instead of float32, and the tokens that begin and end a
    text, which every published config has and a config class need not.
    """
    return list(_each_once([_in_half(case) for case in cases]))


def _in_half(case: Case) -> Case:
    content = dict(case.content)
    for name in ("text_config", "llm_config"):
        if isinstance(content.get(name), Mapping):
            content[name] = _with_ends(content[name])
    content = _with_ends(content)
    for name in ("dtype", "torch_dtype"):
        if content.get(name) == "float32":
            content[name] = "float16"
    return replace(case, name=f"{case.name}@half", content=content)


def _with_ends(content: Mapping[str, Any]) -> dict[str, Any]:
    ends = {name: SMALL[name] for name in ("bos_token_id", "eos_token_id") if content.get(name) is None}
    return {**content, **ends}


def _varied(variant: Variant, model_type: str, architecture: str) -> Case | None:
    """None where the architecture has nothing that the variant changes."""
    name = f"{model_type}@{variant.name}"
    try:
        content = newest(config_of(model_type, **variant.changes), architecture, variant.dtype)
    except NoSuchField:
        return None
    except Exception as error:  # noqa: BLE001  as above
        return Case(name=name, kind=variant.kind, problem=_first_line(error))
    return Case(name=name, kind=variant.kind, content=published(content), quant=variant.quant)


def _each_once(cases: list[Case]) -> Iterator[Case]:
    """Without those that an earlier case equals but for the name of a field."""
    known = set[str]()
    for case in cases:
        content = {_STYLE.get(name, name): v for name, v in case.content.items() if name not in NOT_PUBLISHED}
        meaning = case.name if case.problem else json.dumps([content, case.quant], sort_keys=True)
        if meaning not in known:
            known.add(meaning)
            yield case


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or ['?'])[0]}"
