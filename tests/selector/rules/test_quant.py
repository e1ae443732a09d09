"""The rule about quantised checkpoints, with its exact sentences."""

from dataclasses import replace
from typing import Any

import pytest

from calibration.backend import QuantFact, Variant
from selector.demand.demand import Demand
from selector.model.quant.format import QuantFormat
from selector.rules.judge import judge
from tests.selector.conftest import FakeBackend, host
from tests.selector.rules.judging import gpu, reasons, small

AWQ = QuantFact(
    method="awq", bits=frozenset({4}), group_sizes=frozenset({128}), versions=frozenset({"gemm"}), symmetric=False
)


def test_quant_method() -> None:
    model = small(quant=QuantFormat(method="hqq", bits=4))
    assert reasons(FakeBackend(quants=(AWQ, QuantFact(method="gptq"))), model) == [
        ("quant_format", f"needs weights without quantization or in awq or gptq; found {model.quant.label}", "")
    ]
    assert reasons(FakeBackend(), model) == [
        ("quant_format", f"needs weights without quantization; found {model.quant.label}", "")
    ]


def test_quant_names_every_mismatch() -> None:
    quant = QuantFormat(method="awq", bits=8, group_size=32, version="gemm", symmetric=True)
    assert reasons(FakeBackend(quants=(AWQ,)), small(quant=quant)) == [
        (
            "quant_format",
            "needs awq with 4 bits, group size 128, zero points; found 8 bits, group size 32, symmetric weights",
            "",
        )
    ]


def test_quant_is_judged_by_the_closest_fact() -> None:
    facts = (
        QuantFact(method="fp8", block_shapes=frozenset({(128, 128)}), capabilities=(8, 9)),
        QuantFact(method="fp8", activation_schemes=frozenset({"static"}), capabilities=(9, 0)),
    )
    plain = QuantFormat(method="fp8", bits=8, activation_scheme="dynamic")
    assert reasons(FakeBackend(quants=facts), small(quant=plain), gpu((9, 0))) == [
        ("quant_format", "needs fp8 with blocks of 128x128; found no blocks", "")
    ]
    blocks = QuantFormat(method="fp8", bits=8, activation_scheme="dynamic", block_shape=(128, 128))
    assert reasons(FakeBackend(quants=facts), small(quant=blocks), gpu((9, 0))) == []
    assert reasons(FakeBackend(quants=facts), small(quant=blocks), gpu((8, 6))) == [
        ("quant_format", "needs fp8 with compute capability 8.9 or newer; found compute capability 8.6", "")
    ]


def test_quant_layouts() -> None:
    fact = QuantFact(
        method="compressed-tensors",
        formats=frozenset({"pack-quantized"}),
        strategies=frozenset({"group"}),
        desc_act=False,
    )
    quant = QuantFormat(method="compressed-tensors", bits=8, format="int-quantized", desc_act=True)
    needed = "no desc_act, format pack-quantized, strategy group"
    found = "desc_act, format int-quantized, no strategy"
    assert reasons(FakeBackend(quants=(fact,)), small(quant=quant)) == [
        ("quant_format", f"needs compressed-tensors with {needed}; found {found}", "")
    ]


def test_quant_of_other_architectures() -> None:
    quant = QuantFormat(method="awq", bits=4)
    only = QuantFact(method="awq", architectures=frozenset({"KimiForCausalLM", "Qwen2ForCausalLM"}))
    assert reasons(FakeBackend(quants=(only,)), small(quant=quant)) == [
        ("quant_format", "needs awq with KimiForCausalLM or Qwen2ForCausalLM; found LlamaForCausalLM", "")
    ]
    but = QuantFact(method="awq", not_architectures=frozenset({"LlamaForCausalLM"}))
    assert reasons(FakeBackend(quants=(but,)), small(quant=quant)) == [
        ("quant_format", "needs awq with an architecture other than LlamaForCausalLM; found LlamaForCausalLM", "")
    ]


def test_quant_architectures_are_told_in_order() -> None:
    """Of eight names a set in memory is in order once in 40,320 times."""
    names = [f"{letter}ForCausalLM" for letter in "ABCDEFGH"]
    only = QuantFact(method="awq", architectures=frozenset(reversed(names)))
    needed = f"{', '.join(names[:-1])} or {names[-1]}"
    assert reasons(FakeBackend(quants=(only,)), small(quant=QuantFormat(method="awq", bits=4))) == [
        ("quant_format", f"needs awq with {needed}; found LlamaForCausalLM", "")
    ]


def test_quant_of_mixed_groups_needs_every_group() -> None:
    fact = QuantFact(method="compressed-tensors", bits=frozenset({4}))
    groups = (QuantFormat(method="compressed-tensors", bits=4), QuantFormat(method="compressed-tensors", bits=8))
    quant = QuantFormat(method="compressed-tensors", groups=groups)
    assert reasons(FakeBackend(quants=(fact,)), small(quant=quant)) == [
        ("quant_format", "needs compressed-tensors with 4 bits; found 8 bits", "")
    ]


def test_quant_packages() -> None:
    backend = FakeBackend(quants=(QuantFact(method="awq", packages=("gptqmodel", "fake")),))
    assert reasons(backend, small(quant=QuantFormat(method="awq", bits=4))) == [
        (
            "quant_packages",
            "needs gptqmodel for awq; it is not installed",
            "/venv/bin/python -m pip install gptqmodel",
        )
    ]


def test_weights_without_quantization_are_nobodys_concern() -> None:
    assert reasons(FakeBackend(quants=(AWQ,)), small()) == []
    assert reasons(FakeBackend(), small()) == []


@pytest.mark.parametrize(
    ("fact", "quant", "needed", "found"),
    [
        ({"bits": {2, 3, 4}}, {}, "2, 3 or 4 bits", "unknown bits"),
        ({"group_sizes": {-1, 128}}, {"group_size": 64}, "group size -1 (per channel) or 128", "group size 64"),
        ({"group_sizes": {128}}, {"group_size": -1}, "group size 128", "group size -1 (per channel)"),
        ({"group_sizes": {128}}, {"group_size": 1}, "group size 128", "group size 1"),
        ({"group_sizes": {128}}, {}, "group size 128", "group size none"),
        ({"symmetric": True}, {"symmetric": False}, "symmetric weights", "zero points"),
        ({"symmetric": True}, {"symmetric": None}, "symmetric weights", "unknown symmetry"),
        ({"desc_act": True}, {"desc_act": False}, "desc_act", "no desc_act"),
        ({"desc_act": False}, {"desc_act": True}, "no desc_act", "desc_act"),
        ({"versions": {"gemm", "gemv"}}, {"version": "marlin"}, "version gemm or gemv", "version marlin"),
        ({"formats": {"a"}}, {"format": "b"}, "format a", "format b"),
        ({"strategies": {"a"}}, {}, "strategy a", "no strategy"),
        ({"activation_schemes": {"static"}}, {}, "activation scheme static", "no activation scheme"),
        ({"block_shapes": {(128, 128), (1, 32)}}, {"block_shape": (64, 32)},
         "blocks of 1x32 or 128x128", "blocks of 64x32"),
    ],
)  # fmt: skip
def test_every_property_of_a_format_is_named_as_it_was_found(
    fact: dict[str, Any], quant: dict[str, Any], needed: str, found: str
) -> None:
    sets: dict[str, Any] = {name: frozenset(value) if isinstance(value, set) else value for name, value in fact.items()}
    backend = FakeBackend(quants=(QuantFact(method="awq", **sets),))
    assert reasons(backend, small(quant=QuantFormat(method="awq", **quant))) == [
        ("quant_format", f"needs awq with {needed}; found {found}", "")
    ]


def test_what_a_fact_does_not_name_may_be_anything() -> None:
    anything = FakeBackend(quants=(QuantFact(method="awq"),))
    quant = QuantFormat(
        method="awq", bits=3, group_size=7, symmetric=True, desc_act=True, version="x", format="y", strategy="z",
        activation_scheme="s", block_shape=(3, 3),
    )  # fmt: skip
    assert reasons(anything, small(quant=quant)) == []
    assert reasons(anything, small(quant=replace(quant, symmetric=None, desc_act=None))) == []


@pytest.mark.parametrize(("capability", "fits"), [((8, 0), False), ((8, 9), True), ((9, 0), True)])
def test_the_capability_that_is_needed_is_enough(capability: tuple[int, int], fits: bool) -> None:
    backend = FakeBackend(quants=(QuantFact(method="awq", capabilities=(8, 9)),))
    assert (reasons(backend, small(quant=QuantFormat(method="awq", bits=4)), gpu(capability)) == []) is fits


def test_the_packages_are_those_of_the_fact_that_fits_and_lacks_the_fewest() -> None:
    backend = FakeBackend(
        quants=(
            QuantFact(method="awq", bits=frozenset({8})),  # needs nothing, but does not fit
            QuantFact(method="gptq"),  # nor does another method
            QuantFact(method="awq", bits=frozenset({4}), packages=("one", "two", "three")),
            QuantFact(method="awq", bits=frozenset({4}), packages=("one", "two", "fake")),
        )
    )
    assert reasons(backend, small(quant=QuantFormat(method="awq", bits=4))) == [
        (
            "quant_packages",
            "needs one and two for awq; they are not installed",
            "/venv/bin/python -m pip install one two",
        )
    ]


def test_the_first_group_of_a_mixed_checkpoint_says_which_packages_load_it() -> None:
    method = "compressed-tensors"
    backend = FakeBackend(
        quants=(
            QuantFact(method=method, bits=frozenset({4}), packages=("four",)),
            QuantFact(method=method, bits=frozenset({8}), packages=("eight",)),
        )
    )
    groups = (QuantFormat(method=method, bits=4), QuantFormat(method=method, bits=8))
    assert [text for _, text, _ in reasons(backend, small(quant=QuantFormat(method=method, groups=groups)))] == [
        "needs four for compressed-tensors; it is not installed"
    ]


@pytest.mark.parametrize(
    ("as_is", "quantised", "text"),
    [
        (True, True, None),
        (False, False, None),
        (True, False, "needs a quantised checkpoint to load as it is; found bfloat16"),
        (False, True, "needs an unquantised checkpoint to convert; found awq-4bit"),
    ],
)
def test_a_variant_for_quantised_checkpoints_gets_one_and_the_others_do_not(
    as_is: bool, quantised: bool, text: str | None
) -> None:
    variant, other = Variant(name="first", as_is=as_is), Variant(name="second", as_is=not as_is)
    model = small(quant=QuantFormat(method="awq", bits=4)) if quantised else small()
    backend = FakeBackend(variant, other, quants=(QuantFact(method="awq"),))
    assert reasons(backend, model) == ([("as_is", text, "")] if text else [])


def test_a_backend_without_such_variants_loads_either() -> None:
    backend = FakeBackend(Variant(name="plain"), quants=(QuantFact(method="awq"),))
    assert reasons(backend, small(quant=QuantFormat(method="awq", bits=4))) == []


@pytest.mark.parametrize(
    ("method", "variant", "reason"),
    [
        ("gptq", "converted", None),
        ("gptq", "as-is", "needs weights that it loads as they are; found gptq-4bit-g128, to be converted"),
        ("gguf", "as-is", None),
        ("gguf", "converted", "needs an unquantised checkpoint to convert; found gguf-4bit-g128"),
        ("none", "converted", None),
        ("none", "as-is", "needs a quantised checkpoint to load as it is; found bfloat16"),
    ],
)
def test_a_format_that_is_dequantised_is_for_the_variants_that_convert(
    method: str, variant: str, reason: str | None
) -> None:
    facts = (QuantFact(method="gptq", bits=frozenset({4}), dequantised=True), QuantFact(method="gguf"))
    backend = FakeBackend(Variant(name="converted", prepares=True), Variant(name="as-is", as_is=True), quants=facts)
    quant = QuantFormat() if method == "none" else QuantFormat(method=method, bits=4, group_size=128, kind="int")
    verdicts = judge(small(quant=quant), host(), Demand(), {"fake": backend})
    found = {v.candidate.variant: [(r.rule, r.text) for r in v.reasons] for v in verdicts}
    assert found[variant] == ([("as_is", reason)] if reason else [])


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ({}, ""),
        ({"heads": 1, "kv_heads": 1, "head_dim": 64}, ""),  # one block holds all of it
        # DeepSeek-V3: what makes its latent keys has 576 rows, which are 4 blocks of 128 and a half.
        ({"kv_lora_rank": 512, "head_dim": 576}, "kv_lora_rank + qk_rope_head_dim 576"),
        ({"hidden_size": 2880, "head_dim": 64}, "hidden_size 2880"),
        ({"intermediate_size": 200}, "intermediate_size 200"),
    ],
)
def test_sizes_in_whole_blocks(sizes: dict[str, int], found: str) -> None:
    fact = QuantFact(method="fp8", whole_blocks=True)
    quant = QuantFormat(method="fp8", bits=8, block_shape=(128, 128))
    told = [
        ("quant_format", f"needs fp8 with sizes in whole blocks of 128x128; found {found}", ""),
    ]
    assert reasons(FakeBackend(quants=(fact,)), small(quant=quant, **sizes)) == (told if found else [])
    assert reasons(FakeBackend(quants=(fact,)), small(quant=replace(quant, block_shape=None), **sizes)) == []
