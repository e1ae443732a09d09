"""Which release a model needs, by the file that tells what the releases of an engine have."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from selector.model.quant.format import QuantFormat
from selector.rules.installed.releases import Releases, Span
from tests.selector.conftest import FakeBackend, host, installation
from tests.selector.rules.judging import reasons, small

READ = ("1.0.0", "1.1.0", "1.1.1", "2.0.0", "2.2.0")
PYTHON = "/venv/bin/python -m pip install"


def span(first: str, last: str = "") -> dict[str, str]:
    return {"first": first, "source": "fake/table.py:7", **({"last": last} if last else {})}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """What five releases have: 2.1.0 was not read."""
    content = {
        "format": 1,
        "distribution": "fake",
        "releases": READ,
        "architectures": {
            "LlamaForCausalLM": [span("1.0.0")],
            "Qwen3ForCausalLM": [span("2.0.0")],
            "Qwen4ForCausalLM": [span("2.2.0")],
            "OldModel": [span("1.0.0", "1.1.0")],
            "BriefForCausalLM": [span("1.1.0", "1.1.1")],
            "BackForCausalLM": [span("1.0.0", "1.0.0"), span("2.0.0")],
        },
        "quant_methods": {"awq": [span("1.0.0", "1.1.1")], "fp8": [span("2.0.0")]},
        "requirements": {"torch>=2": [span("1.0.0")]},
    }
    path = tmp_path / "releases.json"
    path.write_text(json.dumps(content))
    return path


def refused(file: Path, architecture: str, installed: str, **facts: Any) -> list[tuple[str, str]]:
    """Text and mend of the rule about architectures; the backend itself has no list of them."""
    backend = FakeBackend(releases=file, **({"requires": ("fake",)} | facts))
    machine = host(installations={"fake": installation({"fake": installed})})
    found = reasons(backend, small(architecture=architecture, architectures=(architecture,)), machine)
    return [(text, mend) for rule, text, mend in found if rule == "architecture"]


@pytest.mark.parametrize(
    ("architecture", "installed", "text", "mend"),
    [
        ("Qwen3ForCausalLM", "1.1.1", "fake >= 2.0.0 for Qwen3; 1.1.1 is installed", '"fake>=2.0.0"'),
        ("Qwen3ForCausalLM", "1.0.0+cpu", "fake >= 2.0.0 for Qwen3; 1.0.0+cpu is installed", '"fake>=2.0.0"'),
        ("OldModel", "2.2.0", "fake <= 1.1.0 for OldModel; 2.2.0 is installed", '"fake<=1.1.0"'),
        ("OldModel", "9.9", "fake <= 1.1.0 for OldModel; 9.9 is installed", '"fake<=1.1.0"'),
        ("BriefForCausalLM", "1.0.0", "fake >= 1.1.0 and <= 1.1.1 for Brief; 1.0.0 is installed",
         '"fake>=1.1.0,<=1.1.1"'),
        ("BackForCausalLM", "1.1.0", "fake >= 2.0.0 for Back; 1.1.0 is installed", '"fake>=2.0.0"'),
    ],
)  # fmt: skip
def test_another_release_is_needed(file: Path, architecture: str, installed: str, text: str, mend: str) -> None:
    assert refused(file, architecture, installed) == [(f"needs {text}", f"{PYTHON} {mend}")]


@pytest.mark.parametrize(
    ("architecture", "installed"),
    [
        ("Qwen3ForCausalLM", "2.0.0"),
        ("Qwen3ForCausalLM", "2.0.0.post1"),
        ("Qwen3ForCausalLM", "3.0"),
        ("BackForCausalLM", "1.0.0"),
        ("BackForCausalLM", "2.2.0"),
        # In no release that was read, so others decide.
        ("NewForCausalLM", "1.0.0"),
        # Between a release without it and one with it.
        ("Qwen3ForCausalLM", "1.5"),
        ("Qwen4ForCausalLM", "2.1.0"),
        # Older than all that were read, the oldest of which has it.
        ("LlamaForCausalLM", "0.9"),
        # No version that can be compared.
        ("Qwen3ForCausalLM", "unknown"),
    ],
)
def test_nothing_is_said_where_the_release_has_it_or_nobody_knows(
    file: Path, architecture: str, installed: str
) -> None:
    assert refused(file, architecture, installed) == []


def test_what_is_older_than_all_that_were_read_lacks_what_came_later(file: Path) -> None:
    needed = "needs fake >= 2.0.0 for Qwen3; 0.9 is installed"
    assert refused(file, "Qwen3ForCausalLM", "0.9") == [(needed, f'{PYTHON} "fake>=2.0.0"')]


def test_no_mend_where_the_backend_works_with_no_such_release(file: Path) -> None:
    removed = "needs fake <= 1.1.0 for OldModel; 2.0.0 is installed"
    assert refused(file, "OldModel", "2.0.0", requires=("fake>=2",)) == [(removed, "")]
    assert refused(file, "OldModel", "2.0.0", requires=("fake>=1.1",)) == [(removed, f'{PYTHON} "fake<=1.1.0"')]


def test_nothing_is_said_of_what_is_not_installed(file: Path) -> None:
    machine = host(installations={"fake": installation({})})
    model = small(architecture="Qwen3ForCausalLM")
    assert [rule for rule, _, _ in reasons(FakeBackend(releases=file), model, machine)] == ["installed"]


def test_a_release_that_has_it_is_not_enough_for_the_backends_own_list(file: Path) -> None:
    known = frozenset({"LlamaForCausalLM"})
    needed = "needs an architecture that Fake engine knows; found Qwen3ForCausalLM"
    assert refused(file, "Qwen3ForCausalLM", "2.0.0", architectures=known) == [(needed, "")]
    later = "needs fake >= 2.0.0 for Qwen3; 1.1.0 is installed"
    assert refused(file, "Qwen3ForCausalLM", "1.1.0", architectures=known) == [(later, f'{PYTHON} "fake>=2.0.0"')]


def test_the_engines_own_table_decides_and_the_file_says_what_is_needed(file: Path, tmp_path: Path) -> None:
    table = tmp_path / "fake" / "table.py"
    table.parent.mkdir()
    table.write_text('{"OldModel": 1}')
    facts: dict[str, Any] = {"architectures_table": ("fake", "table.py"), "releases": file, "requires": ("fake",)}
    there = installation({"fake": "1.1.1"}, site_packages=(tmp_path,))
    machine = host(installations={"fake": there})
    assert reasons(FakeBackend(**facts), small(architecture="OldModel"), machine) == []
    assert reasons(FakeBackend(**facts), small(architecture="Qwen3ForCausalLM"), machine) == [
        ("architecture", "needs fake >= 2.0.0 for Qwen3; 1.1.1 is installed", f'{PYTHON} "fake>=2.0.0"')
    ]
    removed = {"OldModel": "it was removed"}
    assert reasons(FakeBackend(removed_architectures=removed, **facts), small(architecture="OldModel"), machine) == [
        ("architecture", "needs fake <= 1.1.0 for OldModel; 1.1.1 is installed", f'{PYTHON} "fake<=1.1.0"')
    ]


def test_quant_methods_that_came_later(file: Path) -> None:
    backend = FakeBackend(releases=file, requires=("fake",))
    fp8 = small(quant=QuantFormat(method="fp8", bits=8))
    machine = host(installations={"fake": installation({"fake": "1.1.0"})})
    assert reasons(backend, fp8, machine) == [
        ("quant_format", "needs fake >= 2.0.0 for fp8; 1.1.0 is installed", f'{PYTHON} "fake>=2.0.0"')
    ]


def test_quant_methods_whose_name_went_are_for_the_backend_to_judge(file: Path) -> None:
    awq = small(quant=QuantFormat(method="awq", bits=4))
    machine = host(installations={"fake": installation({"fake": "2.2.0"})})
    assert reasons(FakeBackend(releases=file), awq, machine) == [
        ("quant_format", f"needs weights without quantization; found {awq.quant.label}", "")
    ]


def test_the_file_is_read_again_after_it_was_changed(file: Path) -> None:
    assert Releases.of(file).architectures["OldModel"] == (Span(first="1.0.0", last="1.1.0", source="fake/table.py:7"),)
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"architectures": {}, "releases": ["3.0"]}))
    os.utime(file, ns=(1, 1))
    assert (Releases.of(file).read, Releases.of(file).architectures) == (("3.0",), {})


def test_another_format_is_refused(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2}))
    with pytest.raises(ValueError, match=r"releases\.json has format 2, not 1"):
        Releases.of(file)
