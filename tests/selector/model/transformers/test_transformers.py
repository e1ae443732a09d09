"""Every language model that transformers knows: its config is read, and right; what we know of its classes by heart."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from calibration.errors import ModelError
from selector.model.spec import ModelSpec
from tests.selector.model.transformers.truths import NO_CONFIG, NUMBERS, PARAMETERS, ROTATED

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[4]


def run(module: str, folder: Path) -> None:
    """Transformers is imported in a process of its own: it warns, and patches what it finds."""
    environment = os.environ | {"PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", f"tests.selector.model.transformers.{module}", str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transformers")
    run("configs", folder)
    return folder


@pytest.fixture(scope="module")
def truths(folder: Path) -> dict[str, dict[str, Any]]:
    truths: dict[str, dict[str, Any]] = json.loads((folder / "truths.json").read_text())
    return truths


@pytest.fixture(scope="module")
def specs(folder: Path, truths: dict[str, dict[str, Any]]) -> dict[str, ModelSpec | str]:
    """By folder; the message where a config is refused."""

    def read(name: str) -> ModelSpec | str:
        try:
            return ModelSpec.read(folder / name)
        except ModelError as error:
            return error.message

    return {name: read(name) for truth in truths.values() for name in truth.get("folders", ())}


def test_every_config_is_read(truths: dict[str, dict[str, Any]], specs: dict[str, ModelSpec | str]) -> None:
    assert {
        name: truth["no_config"] for name, truth in truths.items() if "no_config" in truth
    }.keys() == NO_CONFIG.keys()
    assert {name: spec for name, spec in specs.items() if isinstance(spec, str)} == {}
    assert len(truths) > 300
    assert len(specs) == 3 * (len(truths) - len(NO_CONFIG))


def test_only_what_transformers_leaves_open_is_unknown(specs: dict[str, ModelSpec]) -> None:
    unknown = {name.rpartition("-")[0]: spec.unknown for name, spec in specs.items() if spec.unknown}
    # num_experts_per_tok is null until a config says it
    assert unknown == {"causal-deepseek_v2": {"experts_per_token"}, "vision-deepseek_ocr2": {"experts_per_token"}}


def test_numbers_are_those_of_the_class(truths: dict[str, dict[str, Any]], specs: dict[str, ModelSpec]) -> None:
    wrong = {
        (model, name): (getattr(specs[folder], name), number)
        for model, truth in truths.items()
        for folder in truth.get("folders", ())
        for name, number in truth["numbers"].items()
        if getattr(specs[folder], name) != number and not (name == "head_dim" and specs[folder].kv_lora_rank)
    }
    assert wrong == {key: numbers for key, (numbers, _) in NUMBERS.items()}


def test_positions_are_rotated_only_where_the_class_does(
    truths: dict[str, dict[str, Any]], specs: dict[str, ModelSpec]
) -> None:
    unrotated = {model: truth["folders"] for model, truth in truths.items() if not truth.get("rotated", True)}
    assert len(unrotated) > 50
    wrong = {model for model, folders in unrotated.items() for name in folders if specs[name].rope_type != "none"}
    assert wrong == ROTATED.keys()


def test_parameters_are_those_that_the_class_allocates(
    truths: dict[str, dict[str, Any]], specs: dict[str, ModelSpec]
) -> None:
    ratios = {
        model: specs[truth["folders"][0]].parameters / truth["parameters"]
        for model, truth in truths.items()
        # AutoModelForCausalLM leaves the vision part out; we leave out the parts that hear.
        if "parameters" in truth
        and not model.startswith("sound-")
        and not (model.startswith("causal-") and specs[truth["folders"][0]].vision)
    }
    assert len(ratios) > 200
    off = {model: round(ratio, 2) for model, ratio in ratios.items() if not 0.95 <= ratio <= 1.05}
    assert off == {model: ratio for model, (ratio, _) in PARAMETERS.items()}


def test_both_styles_of_transformers_5_are_read_alike(
    truths: dict[str, dict[str, Any]], specs: dict[str, ModelSpec]
) -> None:
    for truth in truths.values():
        for whole, differing, _ in [truth["folders"]] if "folders" in truth else []:
            assert specs[whole].fingerprint == specs[differing].fingerprint
            assert specs[whole].parameters == specs[differing].parameters


def test_what_we_know_by_heart_is_what_transformers_says(tmp_path: Path) -> None:
    (tmp_path / "shape").mkdir()
    run("classes", tmp_path)
    for name in ("native_types.py", "shape/class_defaults.json"):
        assert (ROOT / "selector" / "model" / name).read_text() == (tmp_path / name).read_text(), name
