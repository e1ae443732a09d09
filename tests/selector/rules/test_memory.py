"""What a candidate needs of the memory, to the byte, and what is said where it does not fit."""

from typing import Any

import pytest

from calibration.backend import Variant
from calibration.facts.memory import ServingMemory, WeightBytes
from calibration.workload import Workload
from selector.demand.demand import Demand
from selector.host.spec import Device
from selector.model.quant.format import QuantFormat
from selector.rules.judge import judge
from tests.selector.conftest import A100, GIB, FakeBackend, host, spec
from tests.selector.rules.judging import gpu, reasons, small

KV_BYTES = 32 * 8 * 128 * 2 * 2
"""Of one token: layers, KV heads, head_dim, K and V, 16 bits."""
TASK = Workload(prompt_tokens=96, output_tokens=4, batch=1)
"""A hundred tokens."""


def needed(model: Any, variant: Variant | None = None, *, devices: int = 1, **demand: Any) -> int:
    """Bytes on each device, of an engine without overhead."""
    backend = FakeBackend(variant or Variant(name="plain"), overhead_bytes=0, tensor_parallel=True)
    machine = host(devices=(A100,) * devices)
    whole = Demand.of(**{"workload": TASK, "tensor_parallel": devices, **demand})
    return judge(model, machine, whole, {"fake": backend})[0].needed_bytes


def with_free(free: int, memory: int = 80 * GIB) -> Any:
    return host(devices=(Device(kind="cpu", name="x", memory_bytes=memory, free_bytes=free),))


@pytest.mark.parametrize(("free", "fits"), [(100 * KV_BYTES, True), (100 * KV_BYTES - 1, False)])
def test_what_needs_all_that_is_free_fits(free: int, fits: bool) -> None:
    machine = with_free(2 * GIB + free)
    assert (reasons(FakeBackend(), small(), machine, workload=TASK) == []) is fits


@pytest.mark.parametrize(("memory", "judged"), [(-1, False), (0, False), (1, True)])
def test_a_device_that_tells_no_size_is_not_judged(memory: int, judged: bool) -> None:
    assert bool(reasons(FakeBackend(), small(), with_free(0, memory), workload=TASK)) is judged


@pytest.mark.parametrize(
    ("sequences", "mend"),
    [
        (5.0, "--workload pp96:tg4:b5"),
        (1.0, "--workload pp96:tg4:b1"),
        (0.99, ""),
        (-1.0, ""),  # not even the weights
        (15.99, "--workload pp96:tg4:b15"),
    ],
)
def test_the_mend_is_the_largest_batch_that_fits(sequences: float, mend: str) -> None:
    sixteen = Workload(prompt_tokens=96, output_tokens=4, batch=16)
    machine = with_free(2 * GIB + int(sequences * 100 * KV_BYTES))
    ((rule, _, offered),) = reasons(FakeBackend(), small(), machine, workload=sixteen)
    assert (rule, offered) == ("memory_fit", mend)


def test_no_batch_mends_a_model_without_kv_cache() -> None:
    sixteen = Workload(prompt_tokens=96, output_tokens=4, batch=16)
    assert reasons(FakeBackend(), small(kv_heads=0), with_free(GIB), workload=sixteen) == [
        (
            "memory_fit",
            "needs 2.0 GiB (1.0 of weights, 0.0 of KV cache for pp96:tg4:b16, 1.0 of overhead); 1.0 GiB are free",
            "",
        )
    ]


@pytest.mark.parametrize(
    ("unknown", "least", "note"),
    [
        ({"weight_bytes"}, "at least ", None),
        ({"kv_heads"}, "at least ", "not told by the config: kv_heads (KV cache counted in part)"),
        ({"head_dim"}, "at least ", "not told by the config: head_dim (KV cache counted in part)"),
        (
            {"head_dim", "weight_bytes", "vocab_size"},
            "at least ",
            "not told by the config: head_dim, vocab_size (weights and KV cache counted in part)",
        ),
        ({"vocab_size"}, "", "not told by the config: vocab_size"),
        (set(), "", None),
    ],
)
def test_a_size_that_is_counted_in_part_is_a_least_size(unknown: set[str], least: str, note: str | None) -> None:
    model = small(unknown=frozenset(unknown))
    machine = with_free(GIB)
    parts = "1.0 of weights, 0.0 of KV cache for pp96:tg4:b1, 1.0 of overhead"
    assert reasons(FakeBackend(), model, machine, workload=TASK) == [
        (
            "memory_fit",
            f"needs {least}2.0 GiB ({parts}); 1.0 GiB are free",
            "",
        )
    ]
    verdict = judge(model, machine, Demand.of(workload=TASK), {"fake": FakeBackend()})[0]
    assert verdict.notes == ((note,) if note else ())


@pytest.mark.parametrize(
    ("dtype", "precision", "times"),
    [
        ("bfloat16", "model", 1.0),
        ("float16", "model", 1.0),
        ("float16", "fp32", 2.0),
        ("bfloat16", "fp32", 2.0),
        ("float32", "fp32", 1.0),
        ("float32", "fp16", 0.5),
        ("float32", "bf16", 0.5),
        ("float32", "int8", 0.25),
        ("bfloat16", "int4", 0.28125),
    ],
)
def test_weights_are_held_in_the_variants_precision(dtype: str, precision: str, times: float) -> None:
    model = small(dtype=dtype, kv_heads=0)
    assert needed(model, Variant(name="x", precision=precision)) == int(GIB * times)


@pytest.mark.parametrize(("precision", "bytes_each"), [("fp32", 4.0), ("fp16", 2.0), ("int8", 1.0), ("int4", 0.5625)])
def test_quantised_weights_that_are_unpacked_go_by_the_number_of_parameters(precision: str, bytes_each: float) -> None:
    quant = QuantFormat(method="awq", bits=4)
    model = small(quant=quant, kv_heads=0, parameters=1000)
    assert needed(model, Variant(name="x", precision=precision)) == int(1000 * bytes_each)
    assert needed(model, Variant(name="x", precision="model")) == GIB


def test_weights_in_a_dtype_of_another_size_go_by_the_number_of_parameters() -> None:
    model = small(dtype="float8_e4m3fn", kv_heads=0, parameters=1000)
    assert needed(model, Variant(name="x", precision="fp32")) == 4000


@pytest.mark.parametrize(
    ("devices", "kv_heads", "shares"),
    [(2, 8, 2), (4, 8, 4), (4, 2, 2), (2, 1, 1), (8, 8, 8)],
)
def test_devices_share_the_weights_and_the_kv_heads_that_can_be_divided(
    devices: int, kv_heads: int, shares: int
) -> None:
    kv_cache = 100 * KV_BYTES * kv_heads // 8
    assert needed(small(kv_heads=kv_heads), devices=devices) == GIB // devices + kv_cache // shares


@pytest.mark.parametrize(
    ("dtype", "kv_cache_bits", "share"),
    [("bfloat16", 16, 1.0), ("float32", 16, 2.0), ("float32", 8, 0.5), ("bfloat16", 8, 0.5), ("float16", 4, 0.25)],
)
def test_the_kv_cache_is_kept_in_its_own_bits(dtype: str, kv_cache_bits: int, share: float) -> None:
    cache = int(100 * KV_BYTES * share)
    assert needed(small(dtype=dtype), kv_cache_bits=kv_cache_bits) == GIB + cache


def test_the_kv_cache_grows_with_the_batch() -> None:
    workload = Workload(prompt_tokens=96, output_tokens=4, batch=7)
    assert needed(small(), workload=workload) == GIB + 700 * KV_BYTES


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


@pytest.mark.parametrize(
    ("loading", "parts"),
    [
        (None, "1.0 of weights, 0.0 of KV cache for pp96:tg4:b1, 1.0 of overhead, 1.0 of margin"),
        (WeightBytes(layer=4.0, tied=4.0, apart=4.0), "while it loads 4.0 of weights, 1.0 of overhead, 2.5 of margin"),
    ],
)
def test_measured_parts_are_told_with_their_margin(loading: WeightBytes | None, parts: str) -> None:
    facts = ServingMemory(start_bytes=GIB, margin=0.5, loading=loading)
    backend = FakeBackend(Variant(name="plain"), serving_memory={"plain": facts})
    model = small(kv_heads=0, parameters=GIB // 2, vocab_size=0)
    needed = 7.5 if loading else 3.0
    assert reasons(backend, model, with_free(GIB), workload=TASK) == [
        ("memory_fit", f"needs {needed} GiB ({parts}); 1.0 GiB are free", "")
    ]
