"""Shares of the machine's limits, beside values that were computed by hand."""

from dataclasses import replace
from typing import Any

import pytest

from calibration.measurement import Candidate
from calibration.probing.probe import Reached
from calibration.rung import Rung
from calibration.workload import Workload
from selector.host.spec import HostSpec
from selector.model.quant.format import QuantFormat
from selector.model.rungs import spec_at
from selector.model.shape.key_values import KeyValues
from selector.model.spec import ModelSpec
from selector.predict.limits.roofline import Needs, Shares, needs_of, shares_of
from tests.calibration.probes import GIVEN
from tests.selector.conftest import A100, spec
from tests.selector.launches import cpu_host

HOST = replace(cpu_host(), cpu_features=frozenset({"avx2", "avx512f", "avx512_bf16", "avx512_vnni"}))

EMBEDDING = 128_256 * 4096
"""525,336,576: the input embedding of `spec()`, and its output embedding."""


def needs(label: str, workload: str, model: ModelSpec | None = None, host: HostSpec = HOST, **how: Any) -> Needs:
    backend, _, variant = label.partition(":")
    candidate = Candidate(backend=backend, variant=variant)
    told = needs_of(model or spec(), host, candidate, Workload.parse(workload), **how)
    assert told is not None
    return told


def test_a_dense_model_in_16_bits() -> None:
    """8 billion weights of 2 bytes, of which a step reads all but the input embedding; 32 layers keep 2 x 8 x 128."""
    told = needs("transformers:sdpa", "pp512:tg128:b1")
    weights, keys_and_values = 2 * (8_000_000_000 - EMBEDDING), 576 * 32 * 2 * 8 * 128 * 2
    assert told.step_bytes == pytest.approx(weights + keys_and_values) == pytest.approx(15_024_824_320)
    in_layers, head, attention = 2 * 6_949_326_848 * 512, 2 * EMBEDDING, 4 * 32 * 128 * 32 * (512 * 513 // 2)
    assert told.operations == pytest.approx(in_layers + head + attention) == pytest.approx(7_186_015_059_968)
    assert told.dtype == "bfloat16"


def test_shares_of_what_the_probe_found() -> None:
    """40 GB/s and 800 GFLOP/s: 15.02 GB in half a second are 30.05 GB/s; 7,186 GFLOP in 10 s are 718.6."""
    shares = shares_of(needs("transformers:sdpa", "pp512:tg128:b1"), 10.0, 0.5, GIVEN)
    assert shares.bandwidth == pytest.approx(0.75124, rel=1e-5)
    assert shares.rate == pytest.approx(0.89825, rel=1e-5)
    assert (shares.dtype, shares.cached) == ("bfloat16", False)


def test_weights_are_read_once_for_the_whole_batch_and_keys_and_values_for_each_sequence() -> None:
    one, four = needs("transformers:sdpa", "pp512:tg128:b1"), needs("transformers:sdpa", "pp512:tg128:b4")
    assert four.step_bytes - one.step_bytes == pytest.approx(3 * 576 * 65_536 * 2)
    assert four.operations == pytest.approx(4 * one.operations)


def test_tied_embeddings_are_read_as_the_output_embedding() -> None:
    tied = spec(
        tie_word_embeddings=True, parameters=8_000_000_000 - EMBEDDING, weight_bytes=2 * (8_000_000_000 - EMBEDDING)
    )
    assert needs("transformers:sdpa", "pp512:tg128:b1", tied) == needs("transformers:sdpa", "pp512:tg128:b1")


@pytest.mark.parametrize(("batch", "chosen"), [(1, 0.25), (4, 0.68359375)])
def test_a_step_reads_the_experts_that_some_sequence_chooses(batch: int, chosen: float) -> None:
    """Two of eight a token; with four sequences 1 - 0.75 ** 4 of them. A prefill uses two for each token."""
    model = spec(experts=8, experts_per_token=2, expert_parameters=6_000_000_000)
    told = needs("transformers:sdpa", f"pp512:tg128:b{batch}", model)
    weights = 2 * (2_000_000_000 - EMBEDDING + 6_000_000_000 * chosen)
    assert told.step_bytes == pytest.approx(weights + batch * 576 * 65_536 * 2)
    dense = needs("transformers:sdpa", f"pp512:tg128:b{batch}")
    assert dense.operations - told.operations == pytest.approx(batch * 2 * 4_500_000_000 * 512)


def test_a_window_bounds_what_is_attended_to_and_what_is_kept() -> None:
    """Of 32 layers 16 see 128 tokens: 128 x 129 / 2 + 384 x 128 = 57,408 tokens for a prompt of 512."""
    kinds = (KeyValues(layers=16, width=2048), KeyValues(layers=16, width=2048, window=128))
    told = needs("transformers:sdpa", "pp512:tg128:b1", spec(key_values=kinds))
    full = needs("transformers:sdpa", "pp512:tg128:b1")
    assert full.operations - told.operations == pytest.approx(4 * 32 * 128 * 16 * (131_328 - 57_408))
    assert full.step_bytes - told.step_bytes == pytest.approx(16 * 2048 * (576 - 128) * 2)
    by_counts = spec(window_layers=16, sliding_window=128)
    assert needs("transformers:sdpa", "pp512:tg128:b1", by_counts) == told


def test_layers_without_keys_and_values_do_not_attend() -> None:
    told = needs("transformers:sdpa", "pp512:tg128:b1", spec(key_values=(KeyValues(layers=32, width=0),)))
    assert told.operations == pytest.approx(2 * 6_949_326_848 * 512 + 2 * EMBEDDING)
    assert told.step_bytes == pytest.approx(2 * (8_000_000_000 - EMBEDDING))


@pytest.mark.parametrize(
    ("label", "weight", "dtype"),
    [
        ("onnxruntime:fp32", 4, "float32"),
        ("ctranslate2:int8", 1, "int8"),
        ("onnxruntime:int4", 0.5625, "int8"),
        ("llamacpp:bf16", 2, "bfloat16"),
    ],
)
def test_a_variant_reads_and_multiplies_its_own_precision(label: str, weight: float, dtype: str) -> None:
    told = needs(label, "pp512:tg2:b1")
    kv_bytes = 513 * 65_536 * (4 if dtype == "float32" else 2)
    assert told.step_bytes == pytest.approx(weight * (8_000_000_000 - EMBEDDING) + kv_bytes)
    assert told.dtype == dtype


def test_int4_on_an_accelerator_is_multiplied_in_the_dtype_of_the_model() -> None:
    gpu = replace(HOST, devices=(A100,))
    awq = spec(
        quant=QuantFormat(method="awq", bits=4, group_size=128, kind="int"), dtype="float16", weight_bytes=5 * 10**9
    )
    assert needs("transformers:sdpa", "pp512:tg128:b1", awq, gpu).dtype == "float16"
    assert needs("transformers:sdpa", "pp512:tg128:b1", awq).dtype == "int8"


def test_narrow_floats_have_no_rate() -> None:
    fp8 = spec(quant=QuantFormat(method="fp8", bits=8, kind="float"), weight_bytes=8 * 10**9)
    shares = shares_of(needs("transformers:sdpa", "pp512:tg128:b1", fp8), 1.0, 0.5, GIVEN)
    assert (shares.rate, shares.bandwidth is not None) == (None, True)


def test_two_devices_share_the_weights_and_the_work() -> None:
    one, two = (needs("transformers:sdpa", "pp512:tg128:b1", devices=count) for count in (1, 2))
    assert two.step_bytes == pytest.approx(one.step_bytes / 2)
    assert two.operations == pytest.approx(one.operations / 2)


def test_an_engine_may_compute_in_a_wider_dtype_so_the_faster_rate_is_the_limit() -> None:
    """Without instructions for them torch multiplies 16 bits at 1 GFLOP/s, and llama.cpp widens them."""
    emulated = replace(GIVEN, rates={"float32": Reached(samples=(200.0,)), "bfloat16": Reached(samples=(1.0,))})
    shares = shares_of(Needs(step_bytes=0, operations=100e9, dtype="bfloat16"), 1.0, None, emulated)
    assert shares == Shares(bandwidth=None, rate=0.5, dtype="bfloat16", cached=True)


def test_float32_is_never_held_against_a_narrower_rate() -> None:
    shares = shares_of(Needs(step_bytes=0, operations=100e9, dtype="float32"), 1.0, None, GIVEN)
    assert shares.rate == 0.5


def test_a_dtype_that_was_not_probed_has_no_share() -> None:
    unknown = replace(GIVEN, rates={})
    assert shares_of(Needs(step_bytes=0, operations=1e9, dtype="int8"), 1.0, 0.1, unknown).rate is None


def test_what_a_step_reads_may_fit_into_the_cache() -> None:
    small = Needs(step_bytes=32 << 20, operations=1e9, dtype="float32")
    assert shares_of(small, 1.0, 0.0005, GIVEN).cached
    assert not shares_of(replace(small, step_bytes=(32 << 20) + 1), 1.0, 0.0005, GIVEN).cached


@pytest.mark.parametrize(
    ("model", "label"),
    [
        (spec(vision=True), "transformers:sdpa"),
        (spec(unknown=frozenset({"weight_bytes"})), "transformers:sdpa"),
        (spec(), "transformers:gone"),
        (spec(), "gone:sdpa"),
    ],
)
def test_what_is_not_known_is_not_guessed(model: ModelSpec, label: str) -> None:
    backend, _, variant = label.partition(":")
    candidate = Candidate(backend=backend, variant=variant)
    assert needs_of(model, HOST, candidate, Workload.parse("pp512:tg128:b1")) is None


def test_the_experts_of_a_real_shape_are_most_of_its_weights() -> None:
    """granite-3.0-1b-a400m: 24 layers of 32 experts, each of three matrices of 1024 x 512."""
    assert ModelSpec.read("shape:granite-3.0-1b-a400m").expert_parameters == 24 * 32 * 3 * 1024 * 512
    assert ModelSpec.read("shape:smollm2-135m").expert_parameters == 0


def test_a_few_layers_have_their_own_experts() -> None:
    whole = ModelSpec.read("shape:granite-3.0-1b-a400m")
    assert spec_at(whole, Rung(layers=6, of=24)).expert_parameters == 6 * 32 * 3 * 1024 * 512
