"""Which linear layers of a checkpoint are quantised: by its tensors' names, or by what its config leaves plain."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from calibration.backends.turbomind.case import Case
from calibration.config_json import ConfigJson, UnreadableField, shown

QUANTISED = (".qweight", ".weight_packed", ".weight_scale_inv")
"""What a quantised layer stores beside or instead of `.weight` (turbomind/weight_format.py, the suffix_map of each)."""

_LARGEST_HEADER = 100_000_000
"""Bytes of a safetensors file's header (safetensors, MAX_HEADER_SIZE)."""


_GDN_FUSED = ("in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a")
"""builders/deltanet.py makes one matrix of them, and dequantises those that are quantised beside plain ones."""


def fused_inputs(layer: int) -> list[str]:
    """The modules of a layer of linear attention that become one."""
    return [f"model.language_model.layers.{layer}.linear_attn.{name}" for name in _GDN_FUSED]


def quantised_modules(case: Case, modules: Sequence[str]) -> list[str]:
    """Those of the modules, `model.layers.0.self_attn.q_b_proj`, whose weights are quantised."""
    names = _tensor_names(case.model.folder)
    if names:
        return [module for module in modules if any(module + suffix in names for suffix in QUANTISED)]
    left_plain = _left_plain(case.quant, case.model.quant.method)
    return [module for module in modules if not left_plain(module)]


def _tensor_names(folder: Path) -> frozenset[str]:
    """Names of the tensors in a folder; none where its weights are not here."""
    index = folder / "model.safetensors.index.json"
    files = (index,) if index.is_file() else tuple(sorted(folder.glob("*.safetensors")))
    return frozenset(name for file in files for name in _names_in(file, file.stat().st_mtime_ns))


@lru_cache(maxsize=64)
def _names_in(file: Path, changed: int) -> tuple[str, ...]:
    """Names in an index, or in the header of a safetensors file; none in a file that is neither."""
    try:
        if file.suffix == ".json":
            return tuple(json.loads(file.read_bytes())["weight_map"])
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            return tuple(json.loads(stream.read(length))) if length <= _LARGEST_HEADER else ()
    except (ValueError, KeyError, TypeError):  # the engine will say what is wrong with the file
        return ()


def _left_plain(quant: ConfigJson, method: str) -> Callable[[str], bool]:
    """Whether a module is left plain, by the list that each method has for that; without one all are quantised."""
    if method == "compressed-tensors":
        rules = quant.texts("ignore")
        exact = {rule for rule in rules if not rule.startswith("re:")}
        patterns = [_compiled(rule[3:]) for rule in rules if rule.startswith("re:")]
        return lambda module: module in exact or any(pattern.match(module) for pattern in patterns)
    parts = (*quant.texts("modules_to_not_convert"), *quant.texts("ignored_layers"))
    skipped = [_compiled(pattern) for pattern in _skipped(quant)]
    return lambda module: any(part in module for part in parts) or any(pattern.match(module) for pattern in skipped)


def _skipped(quant: ConfigJson) -> Iterator[str]:
    """GPTQModel's `dynamic` has settings by pattern; what its patterns that begin with `-:` match is skipped."""
    return (rule[2:] for rule in quant.table("dynamic").fields if rule.startswith("-:"))


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UnreadableField(
            f"needs regular expressions in quantization_config; found {shown(pattern)}: {error}"
        ) from None
