"""Verdicts as a whole: their order, all reasons at once, which variants are left out; and what a rule is."""

from types import ModuleType

import pytest

from calibration import backend
from calibration.backend import Model, Variant
from calibration.measurement import Candidate
from calibration.registry import find
from selector.demand.demand import Demand
from selector.rules.combination import Combination
from selector.rules.judge import Reason, Verdict, judge
from selector.rules.rule import rules_of
from selector.rules.table import RULES
from tests.selector.conftest import A100, CPU, GIB, FakeBackend, host, installation
from tests.selector.rules.judging import gpu, small


def test_legal_model_has_no_reasons() -> None:
    verdicts = judge(small(), host(), Demand(), {"fake": FakeBackend()})
    assert verdicts == (
        Verdict(candidate=Candidate(backend="fake", variant="plain"), needed_bytes=verdicts[0].needed_bytes),
    )
    assert verdicts[0].legal
    # 1 GiB of weights, 640 tokens of 32 layers x 8 heads x 128 x 2 (K and V) x 2 bytes, 1 GiB of overhead
    assert verdicts[0].needed_bytes == GIB + 640 * 32 * 8 * 128 * 2 * 2 + GIB


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
