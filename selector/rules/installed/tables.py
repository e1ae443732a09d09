"""The tables that installed packages bring, read as text and never imported: which architectures an engine has."""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from selector.rules.combination import Combination

Table = tuple[Path, int]
"""A file, and when it changed."""

_CONFIG_CLASSES = ("models/auto/configuration_auto.py", "models/auto/auto_mappings.py")
"""Where transformers has them: earlier releases in the first file, 5.17 and 5.23 in the second."""
_CONFIG_MAPPING, _MODULES = "CONFIG_MAPPING_NAMES", "SPECIAL_MODEL_TYPE_TO_MODULE_NAME"
_CAUSAL_MODELS = ("models/auto/modeling_auto.py", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")
"""The file, and the name of the mapping in it."""
_BASE_MODELS, _SEEING_MODELS = "MODEL_MAPPING_NAMES", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES"
_PAIR = re.compile(r"""\(\s*["']([\w.-]+)["'],\s*["'](\w+)["'],?\s*\)""")
"""A line of these mappings: `("llama", "LlamaForCausalLM"),`."""


def own_table(case: Combination) -> Table | None:
    """The engine's own table of architectures, where it is installed."""
    if case.facts.architectures_table is None:
        return None
    return _installed(case, *case.facts.architectures_table)


@lru_cache(maxsize=1024)
def quotes(table: Table, name: str) -> bool:
    """Whether a name stands in quotes in a table."""
    try:
        text = table[0].read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return f'"{name}"' in text or f"'{name}'" in text


def config_class(case: Combination) -> str | None:
    """The class that transformers, installed beside the engine, reads the model's config.json with."""
    tables = [table for file in _CONFIG_CLASSES if (table := _installed(case, "transformers", file))]
    names = [_pairs(table, _CONFIG_MAPPING).get(case.model.model_type, "") for table in tables]
    return next((name for name in names if name.endswith("Config")), None)


def lacks_config_class(case: Combination) -> bool | None:
    """Whether transformers, installed beside the engine, has no class for the model_type; None where it is not here."""
    if not any(_installed(case, "transformers", file) for file in _CONFIG_CLASSES):
        return None
    return config_class(case) is None


def causal_model(case: Combination) -> str | None:
    """The causal language model that transformers, installed beside the engine, builds of such a model_type."""
    file, mapping = _CAUSAL_MODELS
    table = _installed(case, "transformers", file)
    return None if table is None else _pairs(table, mapping).get(case.model.model_type)


def seeing_model(case: Combination) -> str | None:
    """The model that transformers, installed beside the engine, builds of such a model_type to see as well."""
    table = _installed(case, "transformers", _CAUSAL_MODELS[0])
    return None if table is None else _pairs(table, _SEEING_MODELS).get(case.model.model_type)


def base_model(case: Combination, model_type: str) -> str | None:
    """The class that transformers, installed beside the engine, builds of a part of a model by its type."""
    table = _installed(case, "transformers", _CAUSAL_MODELS[0])
    return None if table is None else _pairs(table, _BASE_MODELS).get(model_type)


def modeling_files(case: Combination, model_type: str, name: str) -> list[Table]:
    """The files of transformers that may define a class which is built of a model type."""
    file, mapping = _CAUSAL_MODELS
    table = _installed(case, "transformers", file)
    alike = [] if table is None else [kind for kind, model in _pairs(table, mapping).items() if model == name]
    files = list[Table]()
    for site in case.installation.site_packages:
        for kind in dict.fromkeys([model_type, *alike]):  # `gpt-sw3` is built of gpt2's class
            folder = site / "transformers/models" / _module_of(case, kind)
            files += [(path, path.stat().st_mtime_ns) for path in sorted(folder.glob("modeling_*.py"))]
    return files


def _module_of(case: Combination, model_type: str) -> str:
    """The module of transformers that has the classes of a model type."""
    tables = [table for file in _CONFIG_CLASSES if (table := _installed(case, "transformers", file))]
    names = [_pairs(table, _MODULES).get(model_type, "") for table in tables]
    return next((name for name in names if name), model_type.replace("-", "_"))


def _installed(case: Combination, distribution: str, inside: str) -> Table | None:
    """A file of a distribution that lies beside the engine."""
    for site in case.installation.site_packages:
        file = site / distribution.replace("-", "_") / inside
        try:
            return file, file.stat().st_mtime_ns
        except OSError:
            continue
    return None


@lru_cache(maxsize=32)
def _pairs(table: Table, mapping: str) -> Mapping[str, str]:
    """One of the mappings in a file of transformers."""
    try:
        text = table[0].read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    _, _, text = text.partition(f"\n{mapping} = ")
    return dict(_PAIR.findall(text.partition("\n)\n")[0]))
