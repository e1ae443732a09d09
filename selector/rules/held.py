"""What a variant holds in memory while it loads a model and serves a workload, by parts."""

from dataclasses import dataclass, replace

from calibration.check.agreement import LONG_SHARE, NEW_TOKENS, long_prompt
from calibration.facts.memory import ServingMemory, WeightBytes
from calibration.workload import Workload
from selector.model.shape.key_values import KeyValues
from selector.rules.combination import DTYPES, Combination

_BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0}
# An int4 weight shares a 16-bit scale with 32 others.
_PRECISION_BYTES = {"int8": 1.0, "int4": 0.5625}


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a variant holds on one device at its peak, in bytes."""

    weights_bytes: int
    key_value_bytes: int
    step_bytes: int = 0
    """Attention scores and activations of the largest step; 0 where the overhead stands for them."""
    overhead_bytes: int
    """The interpreter with the engine, and what it holds of any model."""
    load_bytes: int = 0
    """In all, at the peak of loading; 0: no more than what it holds afterwards."""
    margin_bytes: int = 0
    """For what launches held beyond these parts (ServingMemory.margin)."""

    @property
    def needed_bytes(self) -> int:
        return self.parts_bytes + self.margin_bytes

    @property
    def parts_bytes(self) -> int:
        """The larger of what loading and serving hold."""
        return max(self.load_bytes, self.weights_bytes + self.key_value_bytes + self.step_bytes + self.overhead_bytes)

    @property
    def loading_takes_most(self) -> bool:
        return self.load_bytes == self.parts_bytes


def memory_of(case: Combination, workload: Workload | None = None) -> Memory:
    """What the variant holds on each device.

    By the parts that were measured of it on CPUs (Facts.serving_memory); else the weights in its precision, the KV
    cache, and the backend's overhead.

    Args:
        workload: another than the demand's.
    """
    asked = workload or case.demand.workload
    facts = case.facts.serving_memory.get(case.variant.name) if case.device.kind == "cpu" else None
    weights = _measured_weights(case, facts, _held(case, facts)) if facts else None
    if facts is None or weights is None:
        return Memory(
            weights_bytes=weight_bytes(case),
            key_value_bytes=_plain_key_values(case, asked),
            overhead_bytes=case.facts.overhead_bytes,
        )
    check = _check(case, asked)
    batches = (asked, check) if check else (asked,)
    longest = max(batch.context_tokens for batch in batches) + NEW_TOKENS if case.checked else asked.context_tokens
    devices = case.demand.tensor_parallel
    left_behind = int(facts.check_bytes + facts.check_weights * weights) if case.checked else 0
    layer = facts.layer_bytes + (facts.latent_layer_bytes if case.model.kv_lora_rank else 0)
    of_any_width = layer * case.model.layers + facts.vocabulary_bytes * case.model.vocab_size
    overhead = facts.start_bytes + of_any_width + left_behind
    at_load = _at_load(case, facts)
    loading = _measured_weights(case, facts, at_load) if at_load else None

    def while_it_computes(batch: Workload) -> Memory:
        tokens = longest if facts.room_ahead else batch.context_tokens
        sequences = _sequences(case, asked if facts.room_ahead else batch)
        parts = Memory(
            weights_bytes=int(weights / devices),
            key_value_bytes=int(_key_values(case, facts, tokens, sequences) / devices),
            step_bytes=int(_step(case, facts, batch) / devices),
            overhead_bytes=overhead,
            load_bytes=int(loading / devices) + overhead if loading else 0,
        )
        return replace(parts, margin_bytes=int(facts.margin * parts.parts_bytes))

    return max(map(while_it_computes, batches), key=lambda memory: memory.needed_bytes)


def uncounted(case: Combination) -> tuple[str, ...]:
    """What the size counts only in part, since the config does not tell it."""
    unknown = case.model.unknown
    weights = ("weights",) if "weight_bytes" in unknown else ()
    return (*weights, "KV cache") if unknown & {"kv_heads", "head_dim"} else weights


def weight_bytes(case: Combination) -> int:
    """Weights on one device, in the precision that the variant computes with, once."""
    model, precision = case.model, case.variant.precision
    target = _PRECISION_BYTES.get(precision) or _BYTES.get(DTYPES.get(precision, ""))
    if case.host.lacks(case.facts.widened_without.get(precision)):
        target = _BYTES["float32"]
    if target is None:
        held = float(model.weight_bytes)
    elif model.quant.method == "none" and model.dtype in _BYTES:
        held = model.weight_bytes * target / _BYTES[model.dtype]
    else:
        held = model.parameters * target
    return int(held / case.demand.tensor_parallel)


def _plain_key_values(case: Combination, workload: Workload) -> int:
    demand = case.demand
    bits = 32 if case.dtype == "float32" and demand.kv_cache_bits == 16 else demand.kv_cache_bits
    # KV heads that cannot be divided are repeated on every device.
    devices = min(demand.tensor_parallel, max(1, case.model.kv_heads))
    return case.model.kv_bytes(workload.context_tokens, _sequences(case, workload), bits) // devices


def _held(case: Combination, facts: ServingMemory) -> WeightBytes:
    uneven = case.model.hidden_size % facts.row_step != 0
    return facts.held_uneven if facts.held_uneven is not None and uneven else facts.held


def _at_load(case: Combination, facts: ServingMemory) -> WeightBytes | None:
    """At the peak of loading; None: no more than afterwards."""
    known = next((each for word, each in facts.loading_by_maker.items() if word in case.device.name), facts.loading)
    model = case.model
    if not (facts.stacked and model.expert_parameters) or model.model_type in facts.stacked_in_file:
        return known
    each = known or _held(case, facts)
    return replace(each, expert=facts.stacked + (each.layer if each.expert is None else each.expert))


def _measured_weights(case: Combination, facts: ServingMemory, each: WeightBytes) -> float | None:
    """None where the model tells no number of parameters."""
    model = case.model
    embedding = float(model.vocab_size * model.hidden_size)
    if model.quant.method != "none" and model.quant.method not in facts.unpacks:
        twice = model.quant.format in facts.file_formats_held_twice
        return model.weight_bytes * each.layer + (max(0.0, model.weight_bytes - embedding) if twice else 0.0)
    if model.parameters <= 0:
        return None
    ends = embedding if model.tie_word_embeddings else 2 * embedding
    size = _computed_bytes(case)
    held = each.of(
        layers=size * max(0.0, model.parameters - ends - model.expert_parameters),
        embedding=size * embedding,
        tied=model.tie_word_embeddings,
        experts=size * model.expert_parameters,
    )
    return held * (facts.widened if case.host.lacks(case.facts.widened_without.get(case.variant.precision)) else 1.0)


def _computed_bytes(case: Combination) -> float:
    """Of a number in the dtype that the variant computes in; 1 where its weights are rounded to integers."""
    if case.variant.precision in _PRECISION_BYTES:
        return 1.0
    return _BYTES.get(case.dtype or "", 2.0)


def _check(case: Combination, workload: Workload) -> Workload | None:
    """The longest prompt of a calibration's check, where that is longer than the workload's sequences."""
    if not case.checked:
        return None
    model = case.model
    # The cells around a workload have at most as many prompt tokens again.
    affordable = int(2 * LONG_SHARE * workload.prompt_tokens * workload.batch)
    tokens = long_prompt(affordable, workload.context_tokens, model.max_position, model.sliding_window)
    if not tokens or tokens + NEW_TOKENS <= workload.context_tokens:
        return None
    return Workload(prompt_tokens=tokens, output_tokens=NEW_TOKENS, batch=1)


def _key_values(case: Combination, facts: ServingMemory, tokens: int, sequences: int) -> float:
    """Of so many sequences with that many tokens each."""
    step = facts.context_step
    if step > 1:
        tokens = -(-(tokens + 1) // step) * step
    bits = facts.key_value_bits or (32 if case.dtype == "float32" else 16)
    if case.demand.kv_cache_bits != 16:
        bits = case.demand.kv_cache_bits
    numbers = sum(_numbers(case, facts, alike, tokens) for alike in case.model.kept)
    return numbers * sequences * bits / 8 * facts.key_value


def _numbers(case: Combination, facts: ServingMemory, alike: KeyValues, tokens: int) -> float:
    """That layers of one kind keep of a sequence."""
    model = case.model
    width: float = alike.width
    if alike.expanded_width and facts.expands_latent:
        width = alike.expanded_width
    elif facts.per_query_head and 0 < model.kv_heads < model.heads and not model.kv_lora_rank:
        width = alike.width * model.heads / model.kv_heads
    kind = replace(alike, window=None) if facts.whole_windows and alike.tokens_per_entry == 1 else alike
    if kind.window is not None and facts.step_tokens:
        # A step's tokens come to the window before others leave it.
        kind = replace(kind, window=kind.window + facts.step_tokens)
    return alike.layers * width * kind.entries(tokens)


def _step(case: Combination, facts: ServingMemory, workload: Workload) -> float:
    """Scores and activations of the largest step, that which computes the prompts."""
    model = case.model
    prompts, most = _sequences(case, workload), facts.step_tokens
    if case.served:
        streams = case.backend.streams_type(case.variant)
        prompts = min(prompts, streams.prompts_at_once or prompts)
        most = streams.prompt_tokens_at_once or most
    tokens = prompts * workload.prompt_tokens
    tokens = min(tokens, most) if most else tokens
    width = max(model.intermediate_size, model.experts_per_token * model.expert_intermediate_size)
    of_head = facts.score + (facts.latent_score if model.kv_lora_rank else 0.0)
    scores = (of_head * model.heads + facts.mask) * tokens * workload.context_tokens
    copies = facts.activation + (facts.wide_activation if case.host.lacks(facts.narrow_features or None) else 0.0)
    chosen = model.experts_per_token * model.hidden_size if model.expert_parameters else 0
    return 4.0 * (scores + (copies * width + facts.expert_activation * chosen) * tokens)


def _sequences(case: Combination, workload: Workload) -> int:
    """Whose keys and values are held at once: where an engine queues, not those of all."""
    if case.served:
        held = case.backend.streams_type(case.variant).sequences_held
        return min(workload.batch, held or workload.batch)
    one_by_one = (case.variant.batching or case.facts.batching) == "one after another"
    return 1 if one_by_one else workload.batch
