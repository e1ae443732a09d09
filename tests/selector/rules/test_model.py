"""What the rules say of a model: its architecture, the engine's table of architectures, and fields of its config."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibration.config_json import UnreadableField
from calibration.workload import Workload
from selector.demand.demand import Demand
from selector.host.spec import Known
from selector.rules.judge import judge
from tests.selector.conftest import FakeBackend, host, installation
from tests.selector.rules.judging import reasons, small


def test_architecture() -> None:
    backend = FakeBackend(architectures=frozenset({"Qwen2ForCausalLM"}))
    assert reasons(backend) == [
        ("architecture", "needs an architecture that Fake engine knows; found LlamaForCausalLM", "")
    ]


def test_architecture_from_auto_map_wins_where_the_engine_asks_it_first() -> None:
    model = small(auto_architecture="OwnForCausalLM", architectures=("LlamaForCausalLM",))
    known = frozenset({"LlamaForCausalLM"})
    assert reasons(FakeBackend(architectures=known), model) == []
    assert reasons(FakeBackend(architectures=known, architectures_from_auto_map=True), model) == [
        ("architecture", "needs an architecture that Fake engine knows; found OwnForCausalLM", "")
    ]
    several = small(architectures=("OtherForCausalLM", "LlamaForCausalLM"), architecture="OtherForCausalLM")
    assert reasons(FakeBackend(architectures=known, architectures_from_auto_map=True), several) == []


def test_architecture_removed() -> None:
    backend = FakeBackend(removed_architectures={"LlamaForCausalLM": "use fake 1.9"})
    assert reasons(backend) == [
        ("architecture", "needs an architecture that Fake engine still has; LlamaForCausalLM: use fake 1.9", "")
    ]


def test_architecture_that_was_found_wrong(tmp_path: Path) -> None:
    wrong = {"LlamaForCausalLM": "logits are off by 0.9 (fake 2.0)"}
    reason = "needs an architecture that Fake engine runs right; LlamaForCausalLM: logits are off by 0.9 (fake 2.0)"
    known = FakeBackend(architectures=frozenset({"LlamaForCausalLM"}), wrong_architectures=wrong)
    assert reasons(known) == [("architecture", reason, "")]
    assert reasons(FakeBackend(wrong_architectures=wrong)) == [("architecture", reason, "")]
    # The table has it all the same.
    table = tmp_path / "fake/table.py"
    table.parent.mkdir()
    table.write_text('MODELS = ["LlamaForCausalLM", "MistralForCausalLM"]')
    machine = host(installations={"fake": installation(site_packages=(tmp_path,))})
    backend = FakeBackend(architectures_table=("fake", "table.py"), wrong_architectures=wrong)
    assert reasons(backend, machine=machine) == [("architecture", reason, "")]
    assert reasons(backend, small(architecture="MistralForCausalLM"), machine) == []
    # What the engine does not even have is not said to be wrong.
    other = FakeBackend(architectures=frozenset(), wrong_architectures=wrong)
    assert reasons(other) == [
        ("architecture", "needs an architecture that Fake engine knows; found LlamaForCausalLM", "")
    ]


@pytest.mark.parametrize(
    ("tried", "auto", "noted"),
    [
        (None, None, False),  # nobody keeps count
        (frozenset({"LlamaForCausalLM"}), None, False),
        (frozenset({"MistralForCausalLM"}), None, True),
        (frozenset(), None, True),
        (frozenset({"OwnForCausalLM"}), "OwnForCausalLM", False),
        (frozenset({"LlamaForCausalLM"}), "OwnForCausalLM", True),
    ],
)
def test_an_architecture_that_nobody_tried_is_a_candidate_and_noted(
    tried: frozenset[str] | None, auto: str | None, noted: bool
) -> None:
    backend = FakeBackend(tried=tried, architectures_from_auto_map=auto is not None)
    [verdict] = judge(small(auto_architecture=auto), host(), Demand(), {"fake": backend})
    sentence = "LlamaForCausalLM was not tried by us; its output is checked"
    assert (verdict.legal, verdict.tried) == (True, not noted)
    assert verdict.notes == ((sentence,) if noted else ())


def test_an_architecture_that_the_engine_lacks_is_not_noted_as_untried() -> None:
    [verdict] = judge(
        small(), host(), Demand(), {"fake": FakeBackend(architectures=frozenset(), tried=frozenset({"Other"}))}
    )
    assert (verdict.legal, verdict.tried, verdict.notes) == (False, True, ())


def test_architecture_by_the_installed_table(tmp_path: Path) -> None:
    table = tmp_path / "fake/models/table.py"
    table.parent.mkdir(parents=True)
    table.write_text('MODELS = {"llama": "LlamaForCausalLM"}\n')
    machine = host(installations={"fake": installation(site_packages=(tmp_path,))})
    backend = FakeBackend(architectures=frozenset(), architectures_table=("fake", "models/table.py"))
    assert reasons(backend, machine=machine) == []
    assert reasons(backend, small(architecture="Llama"), machine) == [
        ("architecture", "needs an architecture that Fake engine knows; found Llama", "")
    ]
    table.write_text("MODELS = {}\n")
    os.utime(table, ns=(1, 1))
    assert len(reasons(backend, machine=machine)) == 1


def test_head_dim() -> None:
    backend = FakeBackend(head_dims=frozenset({64, 128, 256}))
    assert reasons(backend, small(head_dim=80)) == [("head_dim", "needs head_dim 64, 128 or 256; found 80", "")]


def test_rope_type() -> None:
    backend = FakeBackend(rope_types=frozenset({"default", "yarn"}))
    assert reasons(backend, small(rope_type="longrope")) == [
        ("rope_type", "needs rope type default or yarn; found longrope", "")
    ]
    # learned positions, as GPT-2 has, are no kind of rotary embedding: the architecture decides
    assert reasons(backend, small(rope_type="none")) == []


def test_sliding_window_matters_beyond_the_window_only() -> None:
    backend = FakeBackend(windowed_architectures=frozenset({"GptOssForCausalLM"}))
    model = small(sliding_window=4096, window_layers=32)
    inside, beyond = Workload(prompt_tokens=4000, output_tokens=96), Workload(prompt_tokens=4000, output_tokens=97)
    assert reasons(backend, model, workload=inside) == []
    needed = "needs at most 4096 tokens a sequence, since it does not honour the sliding window"
    mend = "choose a --workload of at most 4096 tokens, prompt and output together"
    assert reasons(backend, model, workload=beyond) == [
        ("sliding_window", f"{needed}; found 4097 (pp4000:tg97:b1)", mend)
    ]
    assert reasons(FakeBackend(), model, workload=beyond) == []
    honoured = small(sliding_window=4096, window_layers=32, architecture="GptOssForCausalLM")
    assert reasons(backend, honoured, workload=beyond) == []
    noted = judge(model, host(), Demand.of(workload=inside), {"fake": backend})[0]
    assert noted.notes == ("right only up to 4096 tokens: it does not honour the sliding window",)


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({"attention_chunk_size": 64}, 64),
        ({}, 8192),  # as the configuration class has it
        ({"attention_chunk_size": 64, "layer_types": ["chunked_attention", "full_attention"]}, 64),
        ({"attention_chunk_size": 64, "layer_types": ["full_attention", "full_attention"]}, None),
        ({"attention_chunk_size": 32768}, None),  # no position lies in a second chunk
    ],
)
def test_chunks_of_attention_matter_beyond_the_first_only(
    config: dict[str, Any], most: int | None, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama4", "text_config": config}))
    llama4 = small(architecture="Llama4ForConditionalGeneration", folder=tmp_path, max_position=32768)
    backend = FakeBackend(unchunked_architectures=frozenset({"Llama4ForConditionalGeneration"}))
    end = most or 32768
    inside, beyond = (Workload(prompt_tokens=end - 8, output_tokens=answer) for answer in (8, 9))
    assert reasons(backend, llama4, workload=inside) == []
    noted = judge(llama4, host(), Demand.of(workload=inside), {"fake": backend})[0]
    if most is None:
        assert noted.notes == ()
        return
    assert noted.notes == (f"right only up to {most} tokens: it does not attend in chunks",)
    text = f"needs at most {most} tokens a sequence, since it does not attend in chunks; found {most + 1}"
    mend = f"choose a --workload of at most {most} tokens, prompt and output together"
    assert reasons(backend, llama4, workload=beyond) == [("attention_chunks", f"{text} ({beyond.label})", mend)]
    assert reasons(FakeBackend(), llama4, workload=beyond) == []


def test_a_chunk_that_cannot_be_read_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"attention_chunk_size": "many"}))
    backend = FakeBackend(unchunked_architectures=frozenset({"Llama4ForCausalLM"}))
    llama4 = small(architecture="Llama4ForCausalLM", folder=tmp_path)
    text = "needs a whole number as attention_chunk_size in config.json; found 'many'"
    assert reasons(backend, llama4) == [("attention_chunks", text, "")]


def test_vision() -> None:
    model = small(vision=True, architecture="Qwen2VLForConditionalGeneration")
    assert reasons(FakeBackend(), model) == [
        ("vision", "needs a model without a vision part; found one in Qwen2VLForConditionalGeneration", "")
    ]
    assert reasons(FakeBackend(vision="native"), model) == []


def test_remote_code() -> None:
    model = small(remote_code=True, architecture="OwnForCausalLM")
    assert reasons(FakeBackend(), model) == [
        (
            "remote_code",
            "needs a model without code of its own; OwnForCausalLM is loaded by code of its repository",
            "",
        )
    ]
    assert reasons(FakeBackend(remote_code=True), model) == [
        (
            "remote_code",
            "needs permission to run the repository's code; not given",
            "--trust-remote-code",
        )
    ]
    assert reasons(FakeBackend(remote_code=True), model, trust_remote_code=True) == []


def test_context_length() -> None:
    workload = Workload(prompt_tokens=1000, output_tokens=25)
    assert reasons(FakeBackend(), small(max_position=1024), workload=workload) == [
        (
            "context_length",
            "needs at most 1024 tokens a sequence, the model's positions; found 1025 (pp1000:tg25:b1)",
            "choose a --workload of at most 1024 tokens, prompt and output together",
        )
    ]


def test_own_limits() -> None:
    backend = FakeBackend(reasons=("needs hidden_act silu; found gelu", "needs one config group; found 2"))
    assert reasons(backend) == [
        ("own_limits", "needs hidden_act silu; found gelu", ""),
        ("own_limits", "needs one config group; found 2", ""),
    ]


def test_a_field_that_no_backend_can_read_is_a_reason() -> None:
    unreadable = UnreadableField("needs a number as factor in config.json; found 'x'")
    assert reasons(FakeBackend(reasons=unreadable)) == [
        ("own_limits", "needs a number as factor in config.json; found 'x'", "")
    ]


@pytest.mark.parametrize("mistake", [AttributeError, TypeError, KeyError, ZeroDivisionError, ValueError])
def test_a_mistake_in_a_backend_is_no_reason(mistake: type[Exception]) -> None:
    with pytest.raises(mistake, match="a typo"):
        reasons(FakeBackend(reasons=mistake("a typo")))


@pytest.mark.parametrize(
    ("known", "architectures", "there", "noted"),
    [
        (Known.ASSUMED, None, False, True),
        (Known.TOLD, None, False, True),
        (Known.ASSUMED, None, True, False),
        (Known.ASSUMED, frozenset({"LlamaForCausalLM"}), False, False),
        (Known.SEEN, None, False, False),
    ],
)
def test_a_note_says_that_nobody_read_the_engines_own_table(
    known: Known, architectures: frozenset[str] | None, there: bool, noted: bool, tmp_path: Path
) -> None:
    table = tmp_path / "fake/table.py"
    table.parent.mkdir()
    table.write_text('MODELS = ["LlamaForCausalLM"]\n')
    backend = FakeBackend(architectures=architectures, architectures_table=("fake", "table.py"))
    sites = (tmp_path,) if there else ()
    machine = host(installations={"fake": installation(known=known, site_packages=sites)})
    [verdict] = judge(small(), machine, Demand(), {"fake": backend})
    text = "its own table of architectures was not read: it is not installed here"
    assert (verdict.reasons, verdict.notes) == ((), (text,) if noted else ())


class KnowsByItself(FakeBackend):
    """A backend whose own table lies beside its interpreter."""

    def knows(self, architecture: str, python: Path) -> bool | None:
        return architecture == "LlamaForCausalLM"


@pytest.mark.parametrize(
    ("architecture", "wrong", "text"),
    [
        ("LlamaForCausalLM", {}, None),
        ("MistralForCausalLM", {}, "needs an architecture that Fake engine knows; found MistralForCausalLM"),
        ("LlamaForCausalLM", {"LlamaForCausalLM": "its sums are off"},
         "needs an architecture that Fake engine runs right; LlamaForCausalLM: its sums are off"),
    ],
)  # fmt: skip
def test_a_table_beside_the_interpreter_decides_instead_of_the_facts(
    architecture: str, wrong: dict[str, str], text: str | None
) -> None:
    backend = KnowsByItself(architectures=frozenset({"MistralForCausalLM"}), wrong_architectures=wrong)
    found = reasons(backend, small(architecture=architecture))
    assert found == ([("architecture", text, "")] if text else [])


def test_of_a_machine_that_one_does_not_hold_the_facts_decide() -> None:
    backend = KnowsByItself(architectures=frozenset({"MistralForCausalLM"}))
    machine = host(installations={"fake": replace(installation(), known=Known.ASSUMED)})
    assert reasons(backend, small(architecture="MistralForCausalLM"), machine) == []
    assert len(reasons(backend, small(), machine)) == 1
