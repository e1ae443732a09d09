"""An engine that asks transformers what a config is: model_type decides, whatever architecture config.json names."""

from pathlib import Path
from typing import Any

import pytest

from selector.demand.demand import Demand
from selector.rules.judge import judge
from tests.selector.conftest import FakeBackend, host, installation
from tests.selector.rules.judging import reasons, small

MODELING = """\
from collections import OrderedDict
MODEL_MAPPING_NAMES = OrderedDict(
    [
        ("llama", "LlamaModel"),
    ]
)
MODEL_FOR_CAUSAL_LM_MAPPING_NAMES = OrderedDict(
    [
        # Model for Causal LM mapping
        ("gpt-sw3", "GPT2LMHeadModel"),
        ("llama", "LlamaForCausalLM"),
        ("mixtral", "MixtralForCausalLM"),
        (
            "bart",
            "BartForCausalLM",
        ),
    ]
)
MODEL_FOR_MASKED_LM_MAPPING_NAMES = OrderedDict(
    [
        ("t5", "T5ForConditionalGeneration"),
        ("llama", "LlamaForMaskedLM"),
    ]
)
"""
CONFIGS = """\
from collections import OrderedDict
CONFIG_MAPPING_NAMES = OrderedDict(
    [
        ("bart", "BartConfig"),
        ("gpt-sw3", "GPT2Config"),
        ("llama", "LlamaConfig"),
        ("mixtral", "MixtralConfig"),
        ("t5", "T5Config"),
    ]
)
SPECIAL_MODEL_TYPE_TO_MODULE_NAME = OrderedDict(
    [
        ("llama", "llama_module"),
    ]
)
"""
CONVERTER = """\
@register_loader("LlamaConfig")
class LlamaLoader(ModelLoader): ...
@register_loader("BartConfig")
class BartLoader(ModelLoader): ...
@register_loader("T5Config")
class T5Loader(ModelLoader): ...
"""
LLAMA = frozenset({"LlamaForCausalLM"})


def converter(**facts: Any) -> FakeBackend:
    table = {"architectures": LLAMA, "architectures_table": ("fake", "converter.py"), "by_model_type": True}
    return FakeBackend(**{**table, **facts})


def installed(folder: Path, configs: str = "auto_mappings.py") -> Any:
    """A host with the converter and transformers in one folder of packages."""
    auto = folder / "transformers/models/auto"
    auto.mkdir(parents=True)
    (auto / "modeling_auto.py").write_text(MODELING)
    (auto / "configuration_auto.py").write_text("")
    (auto / configs).write_text(CONFIGS)
    (folder / "fake").mkdir()
    (folder / "fake/converter.py").write_text(CONVERTER)
    return host(installations={"fake": installation(site_packages=(folder,))})


@pytest.mark.parametrize("configs", ["auto_mappings.py", "configuration_auto.py"])
@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "YiForCausalLM", ""])
def test_model_type_decides(architecture: str, configs: str, tmp_path: Path) -> None:
    machine = installed(tmp_path, configs)
    assert reasons(converter(), small(architecture=architecture), machine) == []


@pytest.mark.parametrize(
    ("architecture", "model_type", "found"),
    [
        ("MixtralForCausalLM", "mixtral", "MixtralForCausalLM"),
        ("LlamaForCausalLM", "mixtral", "model_type mixtral"),
        ("LlamaForCausalLM", "unheard_of", "LlamaForCausalLM"),
        # A loader is registered, but it is of a model that is no causal one in transformers.
        ("T5ForConditionalGeneration", "t5", "T5ForConditionalGeneration"),
    ],
)
def test_a_model_type_without_a_loader(architecture: str, model_type: str, found: str, tmp_path: Path) -> None:
    model = small(architecture=architecture, model_type=model_type)
    assert reasons(converter(), model, installed(tmp_path)) == [
        ("architecture", f"needs an architecture that Fake engine knows; found {found}", "")
    ]


def test_what_was_tried_and_found_wrong_is_named_by_what_transformers_builds(tmp_path: Path) -> None:
    machine, backend = installed(tmp_path), converter(wrong_architectures={"BartForCausalLM": "no"}, tried=LLAMA)
    assert reasons(backend, small(architecture="Bart", model_type="bart"), machine) == [
        ("architecture", "needs an architecture that Fake engine runs right; BartForCausalLM: no", "")
    ]
    [verdict] = judge(small(architecture="YiForCausalLM"), machine, Demand(), {"fake": backend})
    assert (verdict.tried, verdict.notes) == (True, ())
    [verdict] = judge(small(), machine, Demand(), {"fake": converter(tried=frozenset({"Other"}))})
    assert (verdict.tried, verdict.notes) == (False, ("LlamaForCausalLM was not tried by us; its output is checked",))


def test_where_nothing_is_installed_the_named_architecture_decides() -> None:
    assert reasons(converter()) == []
    assert reasons(converter(), small(architecture="YiForCausalLM")) == [
        ("architecture", "needs an architecture that Fake engine knows; found YiForCausalLM", "")
    ]
