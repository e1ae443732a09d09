"""One test a rule, with its exact sentence."""

import os
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from calibration import backend
from calibration.backend import Model, Variant
from calibration.config_json import UnreadableField
from calibration.measurement import Candidate
from calibration.registry import find
from calibration.workload import Workload
from selector.demand import Demand
from selector.host.spec import Device, Known
from selector.rules.combination import Combination
from selector.rules.judge import Reason, Verdict, judge
from selector.rules.rule import rules_of
from selector.rules.table import RULES
from tests.selector.conftest import A100, CPU, GIB, FakeBackend, host, installation, spec
from tests.selector.rules.judging import gpu, reasons, small


def test_legal_model_has_no_reasons() -> None:
    verdicts = judge(small(), host(), Demand(), {"fake": FakeBackend()})
    assert verdicts == (
        Verdict(candidate=Candidate(backend="fake", variant="plain"), needed_bytes=verdicts[0].needed_bytes),
    )
    assert verdicts[0].legal
    # 1 GiB of weights, 640 tokens of 32 layers x 8 heads x 128 x 2 (K and V) x 2 bytes, 1 GiB of overhead
    assert verdicts[0].needed_bytes == GIB + 640 * 32 * 8 * 128 * 2 * 2 + GIB


def test_device_kind() -> None:
    backend = FakeBackend(devices=frozenset({"ascend", "cuda"}), least_capability=(9, 0), overhead_bytes=1 << 50)
    assert reasons(backend) == [("device_kind", "needs an NVIDIA GPU or an Ascend NPU; this host has none", "")]
    assert reasons(FakeBackend(devices=frozenset({"cpu"})), machine=gpu(name="NVIDIA H200")) == [
        ("device_kind", "needs a CPU; found NVIDIA H200", "")
    ]


def test_compute_capability() -> None:
    backend = FakeBackend(least_capability=(7, 0))
    assert reasons(backend, machine=gpu((6, 1), "Tesla P40")) == [
        ("compute_capability", "needs compute capability 7.0 or newer; found 6.1 (Tesla P40)", "")
    ]
    assert reasons(backend, machine=gpu((7, 0))) == []


@pytest.mark.parametrize(
    ("capability", "runs"),
    [
        ((7, 0), True),
        ((7, 2), True),
        ((8, 6), True),
        ((8, 7), True),
        ((8, 9), True),
        ((9, 0), True),
        ((10, 0), True),
        ((10, 3), False),
        ((11, 0), False),
        ((12, 0), True),
        ((12, 1), False),
        ((6, 1), False),
    ],
)
def test_machine_code_runs_by_minor_compatibility(capability: tuple[int, int], runs: bool) -> None:
    backend = FakeBackend(machine_code=("70", "75", "80", "86", "89", "90a", "100a", "120a"))
    assert (reasons(backend, machine=gpu(capability)) == []) is runs


def test_machine_code() -> None:
    backend = FakeBackend(machine_code=("80", "90a", "100f"))
    assert reasons(backend, machine=gpu((12, 1), "NVIDIA GB10")) == [
        (
            "machine_code",
            "needs a GPU that the wheel has machine code for (sm80, sm90a, sm100f); found sm121 (NVIDIA GB10)",
            "",
        )
    ]
    assert reasons(backend, machine=gpu((10, 3))) == []


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


def test_vision() -> None:
    model = small(vision=True, architecture="Qwen2VLForConditionalGeneration")
    assert reasons(FakeBackend(), model) == [
        ("vision", "needs a model without a vision part; found one in Qwen2VLForConditionalGeneration", "")
    ]
    assert reasons(FakeBackend(vision="native"), model) == []


def test_tensor_parallel() -> None:
    model = small(heads=14, kv_heads=2)
    assert reasons(FakeBackend(), model, tensor_parallel=2) == [
        ("tensor_parallel", "needs one device, since it has no tensor parallelism; found --tensor-parallel 2", "")
    ]
    two = host(devices=(A100, A100))
    assert reasons(FakeBackend(tensor_parallel=True), model, two, tensor_parallel=4) == [
        ("tensor_parallel", "needs 4 devices of one product; found 2", ""),
        ("tensor_parallel", "needs heads divisible by 4; found 14", ""),
        ("tensor_parallel", "needs KV heads divisible by 4; found 2", ""),
    ]
    assert reasons(FakeBackend(tensor_parallel=True), model, two, tensor_parallel=2) == []
    four = host(devices=(A100,) * 4)
    repeated = FakeBackend(tensor_parallel=True, kv_heads_repeatable=True)
    assert reasons(repeated, small(heads=16, kv_heads=2), four, tensor_parallel=4) == []


def test_kv_cache_bits() -> None:
    assert reasons(FakeBackend(kv_cache_bits=frozenset({8, 16})), kv_cache_bits=4) == [
        ("kv_cache_bits", "needs a KV cache of 8 or 16 bits; found 4 asked for", "")
    ]


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


def test_dtype() -> None:
    halves = FakeBackend(dtypes={"cuda": frozenset({"float16", "bfloat16"})}, bf16_capability=(8, 0))
    assert reasons(halves, small(dtype="float32"), gpu()) == [
        ("dtype", "needs bfloat16 or float16 on an NVIDIA GPU; found float32", "")
    ]
    assert reasons(halves, machine=gpu((7, 5), "Tesla T4")) == [
        ("dtype", "needs compute capability 8.0 or newer for bfloat16; found 7.5 (Tesla T4)", "")
    ]
    assert reasons(halves, small(dtype="float16"), gpu((7, 5))) == []
    assert reasons(halves, small(dtype="float32")) == []


def test_dtype_of_a_variant_with_its_own_precision() -> None:
    backend = FakeBackend(
        Variant(name="fp32", precision="fp32"),
        Variant(name="int8", precision="int8"),
        dtypes={"cpu": frozenset({"float16"})},
    )
    verdicts = judge(small(dtype="float16"), host(), Demand(allow_lossy=True), {"fake": backend})
    assert [[r.text for r in v.reasons] for v in verdicts] == [["needs float16 on a CPU; found float32"], []]


def test_memory_fit() -> None:
    backend = FakeBackend()
    assert reasons(backend, spec(), workload=Workload(prompt_tokens=3968, output_tokens=128)) == [
        (
            "memory_fit",
            "needs 16.4 GiB (14.9 of weights, 0.5 of KV cache for pp3968:tg128:b1, 1.0 of overhead); 12.0 GiB are free",
            "",
        )
    ]
    assert reasons(backend, spec(), gpu()) == []


def test_memory_fit_mends_a_batch_that_is_too_large() -> None:
    machine = host(devices=(Device(kind="cpu", name="x", memory_bytes=20 * GIB, free_bytes=20 * GIB),))
    workload = Workload(prompt_tokens=3968, output_tokens=128, batch=16)
    (found,) = reasons(FakeBackend(), spec(weight_bytes=16 * GIB), machine, workload=workload)
    assert found == (
        "memory_fit",
        "needs 25.0 GiB (16.0 of weights, 8.0 of KV cache for pp3968:tg128:b16, 1.0 of overhead); 20.0 GiB are free",
        "--workload pp3968:tg128:b6",
    )


def test_memory_of_variants_is_of_their_precision() -> None:
    backend = FakeBackend(*(Variant(name=p, precision=p) for p in ("model", "fp32", "int8", "int4")), overhead_bytes=0)
    one = Workload(prompt_tokens=1, output_tokens=1)
    verdicts = judge(small(kv_heads=0), host(), Demand.of(workload=one), {"fake": backend})
    assert [v.needed_bytes for v in verdicts] == [GIB, 2 * GIB, GIB // 2, int(GIB * 0.28125)]


@pytest.mark.parametrize(("features", "needed"), [({"avx512f"}, 2 * GIB), ({"avx512f", "avx512_bf16"}, GIB)])
def test_memory_of_weights_that_the_cpu_cannot_compute_with(features: set[str], needed: int) -> None:
    half = Variant(name="half", precision="fp16")
    backend = FakeBackend(half, widened_without={"fp16": frozenset({"avx512_bf16"})}, overhead_bytes=0)
    one = Workload(prompt_tokens=1, output_tokens=1)
    machine = host(cpu_features=frozenset(features))
    verdicts = judge(small(kv_heads=0), machine, Demand.of(workload=one), {"fake": backend})
    assert [v.needed_bytes for v in verdicts] == [needed]


def test_memory_of_unknown_size_is_not_judged() -> None:
    npu = Device(kind="ascend", name="Ascend 910B", memory_bytes=0, free_bytes=0)
    assert reasons(FakeBackend(devices=frozenset({"ascend"})), spec(), host(devices=(npu,))) == []


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


def test_left_out() -> None:
    backend = FakeBackend(
        Variant(name="plain"),
        Variant(name="int8", precision="int8", lossy=True),
        Variant(name="compile", on_request="compiling takes minutes on a CPU"),
        Variant(name="graph", on_request="capturing takes minutes", on_request_device="cuda"),
        Variant(name="fp32", precision="fp32", only_without=frozenset({"avx512f", "amx_bf16"})),
        Variant(name="gpu", devices=frozenset({"cuda", "rocm"}), precision="fp32"),
        dtypes={"cuda": frozenset({"float16"})},
    )
    verdicts = judge(small(), host(), Demand(), {"fake": backend})
    assert all(v.legal for v in verdicts)
    assert {v.candidate.variant: v.left_out for v in verdicts} == {
        "plain": "",
        "int8": "lossy (--allow-lossy)",
        "compile": "compiling takes minutes on a CPU (--backends fake:compile)",
        "graph": "",
        "fp32": "pointless on a CPU with avx512f (--backends fake:fp32)",
        "gpu": "for an NVIDIA GPU or an AMD GPU only",
    }
    asked = Demand(allow_lossy=True, backends=("fake:compile", "fake:fp32"))
    verdicts = judge(small(), host(), asked, {"fake": backend})
    assert [v.candidate.variant for v in verdicts if v.left_out] == ["gpu"]


def test_a_variant_for_old_gpus_exists_on_those_alone() -> None:
    backend = FakeBackend(
        Variant(name="plain"),
        Variant(name="half", dtype="float16", lossy=True, below_capability=(8, 0)),
        devices=frozenset({"cpu", "cuda"}),
        bf16_capability=(8, 0),
    )
    allowed = Demand(allow_lossy=True)

    def told(capability: tuple[int, int], demand: Demand) -> dict[str, tuple[list[str], str]]:
        verdicts = judge(small(), gpu(capability), demand, {"fake": backend})
        return {v.candidate.variant: ([r.rule for r in v.reasons], v.left_out) for v in verdicts}

    assert told((7, 5), Demand()) == {"plain": (["dtype"], ""), "half": ([], "lossy (--allow-lossy)")}
    assert told((7, 5), allowed) == {"plain": (["dtype"], ""), "half": ([], "")}
    assert told((8, 0), allowed)["half"] == ([], "for GPUs below compute capability 8.0 only")


def test_a_model_that_a_backend_cannot_divide() -> None:
    class Undivided(FakeBackend):
        def divides(self, model: Model, ways: int, device: backend.Device | None = None) -> list[str]:
            return [f"needs a hidden size divisible by {64 * ways}; found {model.hidden_size}"]

    undivided = Undivided(tensor_parallel=True, devices=frozenset({"cuda"}))
    machine = host(devices=(A100, A100))

    def told(ways: int) -> list[str]:
        demand = Demand(tensor_parallel=ways)
        return [
            reason.text
            for verdict in judge(small(), machine, demand, {"fake": undivided})
            for reason in verdict.reasons
            if reason.rule == "own_limits"
        ]

    assert told(1) == []
    assert told(2) == [f"needs a hidden size divisible by 128; found {small().hidden_size}"]


@pytest.mark.parametrize(
    ("features", "order"),
    [(set[str](), ["sdpa-fp32", "eager-fp32", "sdpa", "eager"]), ({"avx512_bf16"}, ["sdpa", "eager"])],
)
def test_where_bf16_is_emulated_transformers_begins_in_float32(features: set[str], order: list[str]) -> None:
    there = installation({"transformers": "5.23.0", "torch": "2.13.0"})
    machine = host(cpu_features=frozenset({"avx2", *features}), installations={"transformers": there})
    verdicts = judge(small(), machine, Demand(), {"transformers": find("transformers")})
    assert [v.candidate.variant for v in verdicts if v.legal and not v.left_out] == order


def test_static_order_and_all_reasons_at_once() -> None:
    late = FakeBackend(name="late", order=90, package="late", requires=())
    early = FakeBackend(name="early", order=10, devices=frozenset({"cuda"}), head_dims=frozenset({64}))
    machine = host(installations={"early": installation({}), "late": installation({"late": "1"})})
    assert judge(small(), machine, Demand(), {"late": late, "early": early}) == (
        Verdict(
            candidate=Candidate(backend="early", variant="plain"),
            reasons=(
                Reason(
                    rule="installed",
                    text="needs fake>=2; it is not installed",
                    mend="/venv/bin/python -m pip install fake",
                ),
                Reason(rule="device_kind", text="needs an NVIDIA GPU; this host has none"),
                Reason(rule="head_dim", text="needs head_dim 64; found 128"),
            ),
            needed_bytes=2 * GIB + 640 * 131072,
        ),
        Verdict(candidate=Candidate(backend="late", variant="plain"), needed_bytes=2 * GIB + 640 * 131072),
    )


def test_table_has_one_sentence_a_rule() -> None:
    names = [rule.name for rule in RULES]
    assert sorted(set(names)) == sorted(names)
    assert [rule.name for rule in RULES if not rule.sentence.endswith(".") or len(rule.sentence) > 130] == []


RULE_OF_A_TEST = """
from selector.rules.rule import variant_rule

@variant_rule
def never(case):
    '''It can
    never run.'''
    return ["a", "b"]
"""


def test_a_rule_is_a_function_with_a_decorator() -> None:
    module = ModuleType("rules_of_a_test")
    exec(RULE_OF_A_TEST, vars(module))
    [rule] = rules_of(module)
    assert (rule.name, rule.sentence, rule.of_backend) == ("never", "It can never run.", False)
    case = Combination(
        model=small(), host=host(), installation=installation(), backend=FakeBackend(), variant=Variant(name="plain"),
        demand=Demand(), device=CPU,
    )  # fmt: skip
    assert rule.reasons(case) == [Reason(rule="never", text="a"), Reason(rule="never", text="b")]


def test_device_of_the_fixtures_is_the_cpu() -> None:
    assert host().device == CPU


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
