"""What the rules say of a host's devices, and of the precision that they compute in."""

import pytest

from calibration.backend import Variant
from selector.demand.demand import Demand
from selector.rules.judge import judge
from tests.selector.conftest import A100, FakeBackend, host
from tests.selector.rules.judging import gpu, reasons, small


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
