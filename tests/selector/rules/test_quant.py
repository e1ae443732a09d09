"""The rule about quantised checkpoints, with its exact sentences."""

from calibration.backend import QuantFact
from selector.model.quant.format import QuantFormat
from tests.selector.conftest import FakeBackend
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
