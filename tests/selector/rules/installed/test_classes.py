"""What a variant needs of a model's class is read in the transformers that is installed, as text."""

import json
from pathlib import Path
from typing import Any

import pytest

from calibration.facts.variant import ClassFlag, Variant
from calibration.registry import find
from tests.selector.conftest import FakeBackend, host, installation
from tests.selector.rules.judging import reasons, small

FLAG = ClassFlag(
    name="_supports_sdpa", needed="a model written for sdpa", without=frozenset({"OldForCausalLM"}), source="here"
)
FAST = FakeBackend(
    Variant(name="fast", class_flag=FLAG),
    architectures_table=("transformers", "models/auto/modeling_auto.py"),
    by_model_type=True,
    builds_causal_models=True,
)
AUTO = """
MODEL_MAPPING_NAMES = OrderedDict(
    [
        ("seeing_audio", "SeeingAudioModel"),
        ("seeing_vision", "SeeingVisionModel"),
    ]
)
MODEL_FOR_CAUSAL_LM_MAPPING_NAMES = OrderedDict(
    [
        ("alias", "PlainForCausalLM"),
        ("plain", "PlainForCausalLM"),
        ("plain-two", "TwoForCausalLM"),
        ("seeing", "SeeingForConditionalGeneration"),
        ("unsaid", "UnsaidForCausalLM"),
        ("inner", "InnerForCausalLM"),
        ("missing", "MissingForCausalLM"),
    ]
)
MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES = OrderedDict(
    [
        ("inner", "InnerForConditionalGeneration"),
    ]
)
"""
CONFIGS = """
SPECIAL_MODEL_TYPE_TO_MODULE_NAME = OrderedDict(
    [
        ("plain-two", "plain"),
        ("seeing_audio", "seeing"),
        ("seeing_vision", "seeing"),
    ]
)
"""
MODELING = {
    "plain": """
class PlainPreTrainedModel(PreTrainedModel):
    _supports_sdpa = _supports_flash_attn = True


class PlainModel(PlainPreTrainedModel):
    def forward(self): ...


class PlainForCausalLM(PlainPreTrainedModel, GenerationMixin):
    def forward(self): ...


class TwoForCausalLM(
    PlainPreTrainedModel,
    GenerationMixin,
):
    _supports_sdpa = False  # soft caps
""",
    "seeing": """
class SeeingPreTrainedModel(PreTrainedModel):
    _supports_sdpa: bool = True


class SeeingAudioModel(SeeingPreTrainedModel):
    _supports_sdpa = False


class SeeingVisionModel(SeeingPreTrainedModel):
    pass


class SeeingForConditionalGeneration(SeeingPreTrainedModel):
    pass
""",
    "unsaid": """
class UnsaidForCausalLM(PreTrainedModel):
    _supports_sdpa_too = True
""",
    "inner": """
class InnerForCausalLM(PreTrainedModel):
    _supports_sdpa = True
""",
}


def installed(folder: Path) -> Any:
    models = folder / "transformers/models"
    (models / "auto").mkdir(parents=True)
    (models / "auto/modeling_auto.py").write_text(AUTO)
    (models / "auto/auto_mappings.py").write_text(CONFIGS)
    for module, text in MODELING.items():
        (models / module).mkdir()
        (models / module / f"modeling_{module}.py").write_text(text)
    return host(installations={"fake": installation(site_packages=(folder,))})


@pytest.mark.parametrize(
    ("model_type", "architecture", "lacking"),
    [
        ("plain", "PlainForCausalLM", ""),
        ("plain-two", "TwoForCausalLM", "TwoForCausalLM"),
        ("unsaid", "UnsaidForCausalLM", "UnsaidForCausalLM"),
        # Its module is that of the other type of which the same class is built.
        ("alias", "PlainForCausalLM", ""),
        # What is built decides, whatever config.json names.
        ("plain-two", "PlainForCausalLM", "TwoForCausalLM"),
        # Its class stands nowhere, so that what is listed is believed.
        ("missing", "OldForCausalLM", "OldForCausalLM"),
        ("missing", "MissingForCausalLM", ""),
    ],
)
def test_a_class_or_its_bases_say_it(model_type: str, architecture: str, lacking: str, tmp_path: Path) -> None:
    model = small(architecture=architecture, model_type=model_type)
    said = [("class_flag", f"needs a model written for sdpa; found {lacking}", "")] if lacking else []
    assert reasons(FAST, model, installed(tmp_path)) == said


@pytest.mark.parametrize(
    ("parts", "lacking"),
    [
        ({"vision_config": {"model_type": "seeing_vision"}}, ""),
        ({"vision_config": {"model_type": "seeing_vision"}, "audio_config": {"model_type": "seeing_audio"}},
         "SeeingAudioModel"),
        ({"audio_config": {"model_type": ["seeing_audio"]}, "quantization_config": {}}, ""),
    ],
)  # fmt: skip
def test_the_parts_of_a_model_say_it_too(parts: dict[str, Any], lacking: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(parts))
    model = small(architecture="SeeingForConditionalGeneration", model_type="seeing", folder=folder)
    said = [("class_flag", f"needs a model written for sdpa; found {lacking}", "")] if lacking else []
    assert reasons(FAST, model, installed(tmp_path)) == said


def test_parts_that_are_not_built_are_not_asked(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"audio_config": {"model_type": "seeing_audio"}}))
    model = small(architecture="InnerForConditionalGeneration", model_type="inner", folder=folder)
    assert reasons(FAST, model, installed(tmp_path)) == []


def test_where_transformers_is_not_there_what_is_listed_is_believed() -> None:
    assert reasons(FAST, small(architecture="OldForCausalLM")) == [
        ("class_flag", "needs a model written for sdpa; found OldForCausalLM", "")
    ]
    assert reasons(FAST, small(architecture="PlainForCausalLM", model_type="plain")) == []


@pytest.mark.parametrize(
    ("architecture", "model_type", "built"),
    [
        ("InnerForConditionalGeneration", "inner", True),
        ("InnerForCausalLM", "inner", True),
        # An encoder's class, and one with an encoder: what is built of their types has other weights.
        ("InnerForMaskedLM", "inner", False),
        ("PlainForConditionalGeneration", "plain", False),
        ("PlainForCausalLM", "unheard_of", False),
    ],
)
def test_which_named_classes_are_built_as_causal_models(
    architecture: str, model_type: str, built: bool, tmp_path: Path
) -> None:
    found = reasons(FAST, small(architecture=architecture, model_type=model_type), installed(tmp_path))
    assert (not any(rule == "architecture" for rule, *_ in found)) is built


def test_a_class_that_sees_is_refused_by_its_own_name(tmp_path: Path) -> None:
    backend = FakeBackend(
        architectures_table=FAST.facts.architectures_table,
        by_model_type=True,
        builds_causal_models=True,
        wrong_architectures={"InnerForConditionalGeneration": "no weights"},
    )
    machine = installed(tmp_path)
    assert reasons(backend, small(architecture="InnerForConditionalGeneration", model_type="inner"), machine) == [
        (
            "architecture",
            "needs an architecture that Fake engine runs right; InnerForConditionalGeneration: no weights",
            "",
        )
    ]
    assert reasons(backend, small(architecture="InnerForCausalLM", model_type="inner"), machine) == []


@pytest.mark.parametrize(
    ("model", "built"),
    [
        ({"architecture": "LlamaForCausalLM"}, True),
        ({"architecture": "T5ForConditionalGeneration"}, False),
        ({"architecture": "Qwen3_5ForConditionalGeneration", "vision": True}, True),
        ({"architecture": "BartForConditionalGeneration"}, False),
        ({"architecture": "OwnModel", "remote_code": True, "auto_architecture": "OwnForCausalLM"}, True),
        ({"architecture": "OwnModel", "remote_code": True}, False),
    ],
)
def test_where_no_table_is_there_releases_and_names_tell_what_is_built(model: dict[str, Any], built: bool) -> None:
    facts = find("transformers").facts
    backend = FakeBackend(
        architectures_table=facts.architectures_table,
        by_model_type=True,
        builds_causal_models=True,
        remote_code=True,
        releases=facts.releases,
        vision=facts.vision,
    )
    found = reasons(backend, small(model_type="unheard_of", **model), trust_remote_code=True)
    assert (found == []) is built
