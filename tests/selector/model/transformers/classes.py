"""Writes what we know by heart of transformers' classes, from the transformers that is installed.

python -m tests.selector.model.transformers.classes [FOLDER]
"""

import ast
import dataclasses
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, __version__
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from calibration.config_json import INNER

MODEL = Path(__file__).parents[4] / "selector" / "model"

NATIVE_TYPES = '''"""Native types: those that transformers runs with its own code, and those that tie their embeddings.

Written by `python -m tests.selector.model.transformers.classes`, from transformers {version}.
"""

from typing import Final

NATIVE: Final = frozenset(
    """
{native}
    """.split()
)
"""Causal, image-text-to-text and multimodal language models: a repository's auto_map is not needed for them."""

TIED: Final = frozenset(
    """
{tied}
    """.split()
)
"""Types whose class ties the output embedding to the input embedding where the config does not say."""
'''


def native() -> list[str]:
    """The model types of the three mappings."""
    return sorted(
        {
            *modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
            *modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
            *modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
        }
    )


def language_classes() -> dict[str, Any]:
    """The config classes of language models, those inside of models that see or hear included, by model type."""
    classes: dict[str, Any] = {}
    waiting = [CONFIG_MAPPING[model_type] for model_type in native()]
    while waiting:
        config = waiting.pop()
        inner = [inner_class(config, key) for key in config.sub_configs if key in INNER]
        waiting += [part for part in inner if part is not None and part.model_type not in classes]
        if not inner:
            classes.setdefault(config.model_type, config)
    return classes


def inner_class(config: Any, key: str) -> Any:
    """The class of an inner config; where any is taken, the one that is taken by default."""
    part = config.sub_configs[key]
    if part is not AutoConfig:
        return part
    try:
        return type(getattr(config(), key))
    except StrictDataclassError:  # gemma4_assistant refuses its own defaults; others have its text_config as well
        return None


def tied() -> list[str]:
    """The model types, those of language models inside of others included, whose class ties the embeddings."""
    classes = {model_type: CONFIG_MAPPING[model_type] for model_type in native()} | language_classes()
    return sorted(name for name, config in classes.items() if default(config, "tie_word_embeddings") is True)


def class_defaults() -> dict[str, dict[str, int | bool]]:
    """By model type, the numbers and flags that the class fills in, of those that are read of a config."""
    names = {name for file in sorted((MODEL / "shape").glob("*.py")) for name in texts(file)}
    defaults = {
        model_type: {name: value for name in sorted(names) if type(value := default(config, name)) in {int, bool}}
        for model_type, config in sorted(language_classes().items())
    }
    return {model_type: fields for model_type, fields in defaults.items() if fields}


def texts(file: Path) -> set[str]:
    """The texts in a Python file that could name a field."""
    nodes = ast.walk(ast.parse(file.read_text()))
    values = (node.value for node in nodes if isinstance(node, ast.Constant))
    return {value for value in values if isinstance(value, str) and value.isidentifier()}


def default(config: Any, name: str) -> Any:
    """What the class takes for a field that is left out; what it computes then of other fields is None."""
    fields = {field.name: field for field in dataclasses.fields(config)}
    return fields[name].default if name in fields else None


def native_types_text() -> str:
    def lines(names: list[str]) -> str:
        return textwrap.fill(
            " ".join(names), 116, break_on_hyphens=False, initial_indent=" " * 4, subsequent_indent=" " * 4
        )

    return NATIVE_TYPES.format(version=__version__.rpartition(".")[0], native=lines(native()), tied=lines(tied()))


def class_defaults_text() -> str:
    """JSON with a line for each class."""
    lines = [f"{json.dumps(name)}: {json.dumps(fields)}" for name, fields in class_defaults().items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def write(folder: Path) -> None:
    """Both files."""
    (folder / "native_types.py").write_text(native_types_text())
    (folder / "shape" / "class_defaults.json").write_text(class_defaults_text())


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else MODEL)
