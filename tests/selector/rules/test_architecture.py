"""What an engine needs for some architectures: packages beside it, and fields of config.json."""

import json
from pathlib import Path
from typing import Any

import pytest

from calibration.backend import FieldFact, PackageFact
from selector.demand.demand import Demand
from selector.host.spec import HostSpec, Known
from selector.model.spec import ModelSpec
from selector.rules.judge import judge
from tests.selector.conftest import FakeBackend, host, installation, spec

LLAMA = frozenset({"LlamaForCausalLM"})
PACKAGES = PackageFact(architectures=LLAMA, packages=("flash_mla", "deep_gemm>=2"))
FIELDS = FieldFact(
    architectures=LLAMA,
    fields=("scoring_func", "rope_scaling.type|rope_parameters.type"),
    mend='write "scoring_func": "softmax" into its config.json',
)


def told(backend: FakeBackend, model: ModelSpec, machine: HostSpec) -> list[tuple[str, str]]:
    """Texts and mends of the two rules."""
    [verdict] = judge(model, machine, Demand(), {"fake": backend})
    return [(r.text, r.mend) for r in verdict.reasons if r.rule in {"architecture_packages", "config_fields"}]


def there(**versions: str) -> HostSpec:
    return host(installations={"fake": installation({"fake": "2.0", **versions})})


def test_packages_that_an_architecture_needs() -> None:
    backend = FakeBackend(architecture_packages=(PACKAGES,))
    text = (
        "needs flash_mla and deep_gemm>=2 for LlamaForCausalLM; flash-mla is not installed, deep-gemm 1.0 is installed"
    )
    mend = '/venv/bin/python -m pip install "flash_mla" "deep_gemm>=2"'
    assert told(backend, spec(), there(**{"deep-gemm": "1.0"})) == [(text, mend)]
    assert told(backend, spec(), there(**{"flash-mla": "1.0", "deep-gemm": "2.1"})) == []
    assert told(backend, spec(architecture="Other", architectures=("Other",)), there()) == []


def test_packages_that_only_some_devices_need() -> None:
    fact = PackageFact(architectures=LLAMA, packages=("fla",), devices=frozenset({"cuda"}))
    assert told(FakeBackend(architecture_packages=(fact,)), spec(), there()) == []


def test_packages_that_pip_does_not_find_by_their_names() -> None:
    fact = PackageFact(architectures=LLAMA, packages=("flash_mla",), install="pip install git+https://example.org/it")
    [(_, mend)] = told(FakeBackend(architecture_packages=(fact,)), spec(), there())
    assert mend == "/venv/bin/python -m pip install git+https://example.org/it"


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ({}, "scoring_func and rope_scaling.type or rope_parameters.type"),
        ({"scoring_func": "softmax"}, "rope_scaling.type or rope_parameters.type"),
        ({"scoring_func": None, "rope_scaling": {"type": "su"}}, "scoring_func"),
        ({"scoring_func": "softmax", "rope_parameters": {"type": "su"}}, ""),
        ({"text_config": {"scoring_func": "softmax", "rope_scaling": {"type": "su"}}}, ""),
        ({"scoring_func": "softmax", "rope_scaling": [1], "rope_parameters": {"type": "su"}}, ""),
    ],
)
def test_fields_that_an_engine_reads_itself(config: dict[str, Any], missing: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    found = told(FakeBackend(config_fields=(FIELDS,)), spec(folder=tmp_path), there())
    are = "they are" if " and " in missing else "it is"
    text = f"needs {missing} in config.json, which its own code reads; {are} not there"
    assert found == ([(text, FIELDS.mend)] if missing else [])


def test_fields_that_only_newer_releases_leave_out(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    fact = FieldFact(architectures=LLAMA, fields=("eos_token_id",), requirement="transformers>=5")
    backend, model = FakeBackend(config_fields=(fact,)), spec(folder=tmp_path)
    refused = [("needs eos_token_id in config.json, which its own code reads; it is not there", "")]
    assert told(backend, model, there(transformers="4.57.1")) == []
    assert told(backend, model, there(transformers="5.17.0")) == refused
    assumed = host(installations={"fake": installation({}, known=Known.ASSUMED)})
    assert told(backend, model, assumed) == refused


def test_a_model_without_config_lacks_nothing(tmp_path: Path) -> None:
    assert told(FakeBackend(config_fields=(FIELDS,)), spec(folder=tmp_path), there()) == []


@pytest.mark.parametrize("content", ["{", '{"text_config": 3}'])
def test_a_config_that_cannot_be_read_is_for_the_backend_to_refuse(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    assert told(FakeBackend(config_fields=(FIELDS,)), spec(folder=tmp_path), there()) == []
