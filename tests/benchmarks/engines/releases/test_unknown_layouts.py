"""A release in a layout that no reader knows ends with the file and the line; and what metadata require."""

from collections.abc import Callable

import pytest

from benchmarks.engines.releases.metadata import METADATA, requirements
from benchmarks.engines.releases.readers import (
    read_ctranslate2,
    read_onnxruntime,
    read_pytorch,
    read_turbomind,
)
from benchmarks.engines.releases.source import UnknownLayout
from benchmarks.engines.releases.spans import Contents
from tests.benchmarks.engines.releases.layouts import (
    CONFIG,
    CONVERTER,
    PLAIN,
    SUPPORTED_MODELS,
)


@pytest.mark.parametrize(
    ("read", "files", "error"),
    [
        (read_turbomind, {}, "needs lmdeploy/turbomind/supported_models.py; found none"),
        (
            read_turbomind,
            {
                "lmdeploy/turbomind/supported_models.py": "SUPPORTED_ARCHS = load()\n",
                "lmdeploy/turbomind/converter.py": CONVERTER,
            },
            "lmdeploy/turbomind/supported_models.py:1: needs a dictionary; found load()",
        ),
        (
            read_turbomind,
            {"lmdeploy/turbomind/supported_models.py": SUPPORTED_MODELS, "lmdeploy/turbomind/converter.py": "x = 1\n"},
            (
                "lmdeploy/turbomind/converter.py: needs a function get_tm_config or get_tm_model that compares"
                " quant_method with strings; found none"
            ),
        ),
        (
            read_pytorch,
            {
                "lmdeploy/pytorch/models/module_map.py": "MODULE_MAP = {}\nfor name in ALL:\n    MODULE_MAP[name] = 1",
                "lmdeploy/pytorch/config.py": CONFIG,
            },
            "lmdeploy/pytorch/models/module_map.py:2: needs a known way to fill MODULE_MAP; found for name in ALL:",
        ),
        (
            read_onnxruntime,
            {"onnxruntime_genai/models/builder.py": "def create_model(config):\n    return MODELS[config]\n"},
            (
                "onnxruntime_genai/models/builder.py: needs a function create_model that compares"
                " config.architectures[0] with strings; found none"
            ),
        ),
        (
            read_ctranslate2,
            {"ctranslate2/converters/transformers.py": "class Loader: ...\n"},
            "ctranslate2/converters/transformers.py: needs loaders under register_loader; found none",
        ),
        (
            read_ctranslate2,
            {"ctranslate2/converters/transformers.py": "print 'x'\n"},
            (
                "ctranslate2/converters/transformers.py is not Python that can be read: Missing parentheses in call to"
                " 'print'. Did you mean print(...)? (<unknown>, line 1)"
            ),
        ),
    ],
)
def test_an_unknown_layout_is_an_error(
    read: Callable[[dict[str, str]], Contents], files: dict[str, str], error: str
) -> None:
    with pytest.raises(UnknownLayout) as raised:
        read(PLAIN | files)
    assert raised.value.message == error


def test_requirements_leave_out_extras() -> None:
    metadata = """Metadata-Version: 2.1
Name: engine
Requires-Python: >=3.9, <3.14
Requires-Dist: torch <=2.8.0,>=2.0
Requires-Dist: nvidia-nccl ; sys_platform == "linux"
Requires-Dist: pytest ; extra == 'dev'

Requires-Dist: not a field
"""
    assert requirements({METADATA: metadata}) == {
        "torch<=2.8.0,>=2.0": "METADATA:4",
        'nvidia-nccl; sys_platform == "linux"': "METADATA:5",
        "python<3.14,>=3.9": "METADATA:3",
    }


def test_a_release_without_metadata_is_an_error() -> None:
    with pytest.raises(UnknownLayout, match="needs METADATA or PKG-INFO; the release has neither"):
        requirements({})
