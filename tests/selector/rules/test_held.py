"""What is measured of an engine's memory becomes bytes of a model and a workload, part by part."""

from dataclasses import replace
from typing import Any

import pytest

from calibration.backend import Variant
from calibration.engine.streams import OneAfterAnother, Streams
from calibration.facts.memory import ServingMemory, WeightBytes
from calibration.workload import Workload
from selector.demand.demand import Demand
from selector.model.quant.format import QuantFormat
from selector.model.shape.key_values import KeyValues
from selector.rules.combination import Combination
from selector.rules.held import Memory, memory_of
from selector.rules.room import MOST_SEQUENCES, Most, most_of
from tests.selector.conftest import A100, CPU, FakeBackend, host, spec

MIB = 1 << 20
TASK = Workload(prompt_tokens=96, output_tokens=4, batch=2)
MODEL = spec(
    parameters=1_000_000,
    weight_bytes=2_000_000,
    vocab_size=1000,
    hidden_size=100,
    layers=4,
    heads=8,
    kv_heads=2,
    head_dim=10,
    intermediate_size=300,
    tie_word_embeddings=True,
    max_position=4096,
)
"""100,000 of its parameters are the embeddings; a token's keys and values are 160 numbers."""


def case(
    memory: ServingMemory | None,
    model: Any = MODEL,
    *,
    precision: str = "model",
    workload: Workload = TASK,
    device: Any = CPU,
    served: bool = False,
    streams: type[Streams] = OneAfterAnother,
    **demand: Any,
) -> Combination:
    known = {} if memory is None else {"plain": memory}
    backend = FakeBackend(Variant(name="plain", precision=precision), overhead_bytes=5, serving_memory=known)
    backend.streams_type = lambda variant: streams  # type: ignore[method-assign]
    machine = host(devices=(device,))
    return Combination(
        model=model,
        host=machine,
        installation=machine.installations["fake"],
        backend=backend,
        variant=backend.variants[0],
        demand=Demand.of(workload=workload, **demand),
        device=device,
        served=served,
    )


def held(**facts: Any) -> ServingMemory:
    return ServingMemory(**{"start_bytes": MIB, **facts})


def weights(each: WeightBytes, model: Any = MODEL, precision: str = "model") -> int:
    return memory_of(case(held(held=each), model, precision=precision)).weights_bytes


def cache(workload: Workload = TASK, model: Any = MODEL, precision: str = "model", **facts: Any) -> float:
    """Numbers of 16 bits."""
    return memory_of(case(held(**facts), model, precision=precision, workload=workload)).key_value_bytes / 2


def test_every_part_counts() -> None:
    memory = memory_of(case(held(vocabulary_bytes=3, score=0.5, activation=2.0)))
    assert memory == Memory(
        weights_bytes=2_000_000,
        key_value_bytes=2 * 100 * 160 * 2,
        # Eight heads of 192 tokens of the prompts with a hundred of context, and 300 numbers of each of those tokens.
        step_bytes=4 * (192 * 100 * 8 // 2 + 192 * 300 * 2),
        overhead_bytes=MIB + 3000,
    )
    assert memory.needed_bytes == 2_000_000 + 64_000 + 4 * 192_000 + MIB + 3000


def test_a_layer_takes_something_whatever_its_width_and_heads_share_a_mask() -> None:
    memory = memory_of(case(held(layer_bytes=7, mask=2.0, score=1.0)))
    assert memory.overhead_bytes == MIB + 4 * 7
    # 192 tokens of the prompts with a hundred of context: of each of eight heads once, and twice of all of them.
    assert memory.step_bytes == 4 * 192 * 100 * (8 + 2)
    latent = replace(MODEL, kv_lora_rank=30)
    memory = memory_of(case(held(layer_bytes=7, latent_layer_bytes=3, score=1.0, latent_score=2.0), latent))
    assert memory.overhead_bytes == MIB + 4 * 10
    assert memory.step_bytes == 4 * 192 * 100 * 8 * 3
    memory = memory_of(case(held(latent_layer_bytes=3, latent_score=2.0)))
    assert (memory.overhead_bytes, memory.step_bytes) == (MIB, 0)


def test_the_peak_of_loading_counts_where_it_is_the_larger_one() -> None:
    memory = memory_of(case(held(loading=WeightBytes(layer=3.0, tied=3.0))))
    assert memory.load_bytes == memory.needed_bytes == 6_000_000 + MIB
    low = memory_of(case(held(loading=WeightBytes(layer=0.5, tied=0.5))))
    assert low.needed_bytes == 2_000_000 + 64_000 + MIB


def test_weights_count_by_what_they_are_part_of() -> None:
    each = WeightBytes(layer=2.0, tied=3.0, apart=1.5, expert=4.0)
    assert weights(each) == 2 * (900_000 * 2 + 100_000 * 3)
    assert weights(each, replace(MODEL, tie_word_embeddings=False)) == 2 * (800_000 * 2 + 200_000 * 1.5)
    assert weights(each, replace(MODEL, expert_parameters=500_000)) == 2 * (400_000 * 2 + 100_000 * 3 + 500_000 * 4)
    assert weights(replace(each, expert=None), replace(MODEL, expert_parameters=500_000)) == weights(each)


@pytest.mark.parametrize(
    ("dtype", "precision", "size"),
    [
        ("bfloat16", "model", 2),
        ("float32", "model", 4),
        ("bfloat16", "fp32", 4),
        ("float32", "fp16", 2),
        ("bfloat16", "int8", 1),
        ("bfloat16", "int4", 1),
    ],
)
def test_weights_count_in_what_is_computed_with(dtype: str, precision: str, size: int) -> None:
    assert weights(WeightBytes(), replace(MODEL, dtype=dtype), precision) == size * 1_000_000


def test_weights_whose_rows_are_no_multiple_may_be_kept_otherwise() -> None:
    facts = {"held": WeightBytes(layer=2.0, tied=2.0), "held_uneven": WeightBytes(layer=1.5, tied=1.5)}

    def of(row_step: int) -> int:
        return memory_of(case(held(**facts, row_step=row_step))).weights_bytes

    assert (of(50), of(64)) == (4_000_000, 3_000_000)
    assert memory_of(case(held(held=WeightBytes(layer=2.0, tied=2.0), row_step=64))).weights_bytes == 4_000_000


def test_a_quantised_file_counts_by_its_size_and_twice_where_it_is_packed_anew() -> None:
    def of(kind: str, **facts: Any) -> int:
        model = replace(MODEL, weight_bytes=600_000, quant=QuantFormat(method="gguf", format=kind))
        return memory_of(case(held(**facts), model)).weights_bytes

    assert of("q8_0", file_formats_held_twice=frozenset({"q4_0"})) == 600_000
    # All but the embeddings.
    assert of("q4_0", file_formats_held_twice=frozenset({"q4_0"})) == 1_100_000
    assert of("q4_0", unpacks=frozenset({"gguf"})) == 2_000_000


def test_numbers_of_the_cache_are_wider_in_float32_or_as_the_engine_keeps_them() -> None:
    once = cache()
    assert cache(precision="fp32") == 2 * once
    assert cache(key_value_bits=32) == 2 * once
    assert cache(key_value_bits=16, precision="fp32") == once
    assert cache(key_value=1.5) == 1.5 * once


def test_heads_latents_and_windows_are_kept_as_the_engine_does() -> None:
    assert cache(per_query_head=True) == 4 * cache()
    latent = replace(
        MODEL, kv_lora_rank=30, kv_heads=1, key_values=(KeyValues(layers=4, width=36, expanded_width=500),)
    )
    assert cache(model=latent, expands_latent=False) == 2 * 100 * 4 * 36
    assert cache(model=latent) == cache(model=latent, per_query_head=True) == 2 * 100 * 4 * 500
    windows = replace(MODEL, key_values=(KeyValues(layers=4, width=40, window=16),))
    assert cache(model=windows) == 2 * 100 * 160
    assert cache(model=windows, whole_windows=False) == 2 * 16 * 160
    assert cache(model=windows, whole_windows=False, step_tokens=32) == 2 * 48 * 160
    assert cache(model=windows, whole_windows=False, step_tokens=512) == 2 * 100 * 160


@pytest.mark.parametrize(("tokens", "kept"), [(255, 256), (256, 512), (100, 256)])
def test_the_room_of_a_sequence_is_a_multiple_and_holds_one_more(tokens: int, kept: int) -> None:
    workload = Workload(prompt_tokens=tokens - 4, output_tokens=4, batch=1)
    assert cache(workload, context_step=256) == kept * 160


def test_a_step_computes_no_more_tokens_than_the_engine_lets_it() -> None:
    assert memory_of(case(held(activation=1.0, step_tokens=50))).step_bytes == 4 * 50 * 300
    assert memory_of(case(held(activation=1.0, step_tokens=500))).step_bytes == 4 * 192 * 300


def test_the_wider_of_mlp_and_chosen_experts_counts() -> None:
    mixture = replace(MODEL, experts=16, experts_per_token=4, expert_intermediate_size=200)
    assert memory_of(case(held(activation=1.0), mixture)).step_bytes == 4 * 192 * 800
    # Tokens of the step, for each of the experts that they choose.
    routed = replace(mixture, expert_parameters=500_000)
    assert memory_of(case(held(expert_activation=2.0), routed)).step_bytes == 4 * 192 * 4 * 100 * 2
    assert memory_of(case(held(expert_activation=2.0), mixture)).step_bytes == 0


class Pieces(OneAfterAnother):
    """All that run hold their keys and values; prompts are computed in pieces."""

    sequences_held = 0
    prompt_tokens_at_once = 10


class OnePrompt(OneAfterAnother):
    sequences_held = 0
    prompts_at_once = 1


@pytest.mark.parametrize(
    ("streams", "sequences", "tokens"), [(OneAfterAnother, 1, 96), (Pieces, 2, 10), (OnePrompt, 2, 96)]
)
def test_a_server_holds_what_its_engine_lets_run(streams: type[Streams], sequences: int, tokens: int) -> None:
    memory = memory_of(case(held(activation=1.0), served=True, streams=streams))
    assert memory.key_value_bytes == sequences * 100 * 160 * 2
    assert memory.step_bytes == 4 * tokens * 300


def test_an_engine_that_queues_holds_one_sequence_without_measured_parts_too() -> None:
    queued = memory_of(case(None, served=True))
    assert (queued.key_value_bytes, queued.overhead_bytes) == (100 * 160 * 2, 5)
    assert memory_of(case(None)).key_value_bytes == 2 * queued.key_value_bytes


def test_what_was_measured_on_cpus_says_nothing_of_gpus_nor_of_an_unknown_number_of_weights() -> None:
    plain = Memory(weights_bytes=2_000_000, key_value_bytes=64_000, overhead_bytes=5)
    assert memory_of(case(held(), device=A100)) == plain
    assert memory_of(case(held(), replace(MODEL, parameters=0))) == plain
    assert memory_of(case(None)) == plain


def test_the_longest_context_and_the_largest_batch_that_fit() -> None:
    def most(free: int, model: Any = MODEL) -> Most | None:
        device = replace(CPU, free_bytes=free)
        return most_of(case(None, model, device=device))

    # Weights and overhead; then 320 bytes a token, of two sequences of a hundred tokens.
    fixed = 2_000_005
    assert most(fixed + 64_000) == Most(context_tokens=100, batch=2)
    assert most(fixed + 64_000 - 1) == Most(context_tokens=99, batch=1)
    assert most(fixed + 640_000) == Most(context_tokens=1000, batch=20)
    assert most(fixed) == Most(context_tokens=0, batch=0)
    assert most(1 << 40) == Most(context_tokens=4096, batch=MOST_SEQUENCES)
    assert most(1 << 40, replace(MODEL, max_position=0)) == Most(context_tokens=1 << 20, batch=MOST_SEQUENCES)


def test_nothing_is_said_of_a_device_that_tells_no_size() -> None:
    assert most_of(case(None, device=replace(CPU, memory_bytes=0))) is None


def test_the_margin_is_a_share_of_what_is_held_at_the_peak() -> None:
    memory = memory_of(case(held(margin=0.1)))
    assert memory.margin_bytes == memory.parts_bytes // 10
    assert memory.needed_bytes == memory.parts_bytes + memory.margin_bytes
    loading = memory_of(case(held(margin=0.1, loading=WeightBytes(layer=3.0, tied=3.0))))
    assert loading.loading_takes_most
    assert loading.needed_bytes == 6_000_000 + MIB + (6_000_000 + MIB) // 10
    assert not memory.loading_takes_most


def test_the_maker_of_a_cpu_may_set_what_loading_holds() -> None:
    facts = held(loading_by_maker={"Intel": WeightBytes(layer=3.0, tied=3.0)})
    assert memory_of(case(facts, device=replace(CPU, name="Intel Xeon Processor"))).load_bytes == 6_000_000 + MIB
    assert memory_of(case(facts, device=replace(CPU, name="AMD EPYC"))).load_bytes == 0


def test_experts_that_stand_one_by_one_are_held_twice_while_they_are_stacked() -> None:
    facts = held(stacked=1.0, stacked_in_file=frozenset({"granitemoe"}))
    mixture = replace(MODEL, expert_parameters=500_000, model_type="mixtral")
    assert memory_of(case(facts, mixture)).load_bytes == 3_000_000 + MIB
    assert memory_of(case(facts, replace(mixture, model_type="granitemoe"))).load_bytes == 0
    assert memory_of(case(facts)).load_bytes == 0
    widened = replace(facts, loading=WeightBytes(layer=1.5, tied=1.5))
    assert memory_of(case(widened, mixture)).load_bytes == 4_000_000 + MIB


def test_activations_are_wider_on_a_cpu_that_does_not_compute_in_16_bits() -> None:
    facts = held(activation=1.0, wide_activation=2.0, narrow_features=frozenset({"avx512_bf16"}))
    one = 4 * 192 * 300
    assert memory_of(case(facts)).step_bytes == 3 * one
    narrow = case(facts)
    narrow = replace(narrow, host=replace(narrow.host, cpu_features=frozenset({"avx512_bf16"})))
    assert memory_of(narrow).step_bytes == one
    assert memory_of(case(replace(facts, narrow_features=frozenset()))).step_bytes == one


def test_the_long_prompt_of_the_check_needs_room_and_a_step_where_it_is_longer() -> None:
    """Two sequences of 300 tokens afford a long prompt of as many as both have."""
    short = Workload(prompt_tokens=296, output_tokens=4, batch=2)

    def of(*, checked: bool, **facts: Any) -> Memory:
        return memory_of(replace(case(held(**facts), workload=short), checked=checked))

    assert of(checked=False, room_ahead=True).key_value_bytes == 2 * 300 * 320
    # The check's prompt has 592 tokens, an answer of 8 follows, and a worker makes room for 8 more.
    assert of(checked=True, room_ahead=True).key_value_bytes == 2 * 608 * 320
    # Where room is made as it is needed, the check has one sequence, and the larger of both counts.
    assert of(checked=True).key_value_bytes == 2 * 300 * 320
    assert of(checked=True, score=1.0).step_bytes == 4 * 8 * 592 * 600
    assert of(checked=True, score=1.0).key_value_bytes == 600 * 320
    long = Workload(prompt_tokens=1200, output_tokens=4, batch=2)
    checked = replace(case(held(score=1.0), workload=long), checked=True)
    assert memory_of(checked) == memory_of(replace(checked, checked=False))


def test_what_the_check_leaves_behind_counts_in_a_calibration_alone() -> None:
    facts = case(held(check_bytes=7, check_weights=0.1))
    assert memory_of(replace(facts, checked=True)).overhead_bytes == MIB + 7 + 200_000
    assert memory_of(facts).overhead_bytes == MIB
