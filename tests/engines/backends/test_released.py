"""What the files say of the installed releases, beside the tables of the engines themselves."""

from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from benchmarks.engines.releases.metadata import METADATA
from benchmarks.engines.releases.readers import READERS, read_onnxruntime
from calibration.backends.onnxruntime import OnnxRuntimeBackend
from selector.rules.installed.releases import Releases, Spans

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

READER = {reader.backend: reader for reader in READERS}


def released(backend: str) -> Releases:
    return Releases.of(READER[backend].file)


def of(releases: Releases, table: Spans) -> set[str]:
    installed = version(releases.distribution)
    assert installed in releases.read, "python -m benchmarks.engines.releases reads what was released since"
    return {name for name, spans in table.items() if releases.has(spans, installed)}


def test_transformers() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    releases = released("transformers")
    assert of(releases, releases.architectures) == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    assert of(releases, releases.quant_methods) == set(AUTO_QUANTIZER_MAPPING)


def test_ctranslate2() -> None:
    from ctranslate2.converters.transformers import _MODEL_LOADERS

    releases = released("ctranslate2")
    classes = {
        f"{config.removesuffix('Config')}ForCausalLM"
        if loader.architecture_name == "AutoModelForCausalLM"
        else loader.architecture_name
        for config, loader in _MODEL_LOADERS.items()
    }
    assert of(releases, releases.architectures) == classes


def test_onnxruntime() -> None:
    """Its builder has no table to import: it compares. Each name that it compares with is one that it builds."""
    from onnxruntime_genai.models import builder

    releases = released("onnxruntime")
    text = Path(builder.__file__).read_text(encoding="utf-8")
    contents = read_onnxruntime({READER["onnxruntime"].members[0]: text, METADATA: "Name: x\n"})
    assert of(releases, releases.architectures) == set(contents.architectures)
    assert OnnxRuntimeBackend.facts.architectures is not None
    assert OnnxRuntimeBackend.facts.architectures <= set(contents.architectures)


@pytest.mark.parametrize("backend", ["ctranslate2", "llamacpp", "onnxruntime", "transformers"])
def test_requirements(backend: str) -> None:
    releases = released(backend)
    written = {str(Requirement(r)) for r in requires(releases.distribution) or [] if "extra ==" not in r}
    assert {name for name in of(releases, releases.requirements) if not name.startswith("python")} == written
