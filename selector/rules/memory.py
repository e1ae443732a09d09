"""The rule about memory: weights, KV cache and overhead against what the device has free."""

from dataclasses import replace

from selector.rules.combination import DTYPES, Combination
from selector.rules.rule import Finding, variant_rule

_BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0}
# An int4 weight shares a 16-bit scale with 32 others.
_PRECISION_BYTES = {"int8": 1.0, "int4": 0.5625}


@variant_rule
def memory_fit(case: Combination) -> Finding:
    """Weights as the variant holds them, KV cache of the workload and the backend's overhead fit into free memory."""
    device = case.device
    # Of some accelerators, and of GPUs that share the host's memory, the driver tells no size.
    if not case.on_its_device or device.memory_bytes <= 0:
        return None
    needed, free = needed_bytes(case), device.free_bytes
    if needed <= free:
        return None
    workload = case.demand.workload
    least = "at least " if uncounted(case) else ""
    text = (
        f"needs {least}{_gib(needed)} GiB ({_gib(weight_bytes(case))} of weights, {_gib(_kv_bytes(case))} of KV cache"
        f" for {workload.label}, {_gib(case.facts.overhead_bytes)} of overhead); {_gib(free)} GiB are free"
    )
    sequence = _kv_bytes(case, batch=1)
    batch = (free - weight_bytes(case) - case.facts.overhead_bytes) // sequence if sequence > 0 else 0
    return (text, f"--workload {replace(workload, batch=batch).label}") if 0 < batch < workload.batch else text


def needed_bytes(case: Combination) -> int:
    """Weights, KV cache and overhead on one device."""
    return weight_bytes(case) + _kv_bytes(case) + case.facts.overhead_bytes


def uncounted(case: Combination) -> tuple[str, ...]:
    """What the size counts only in part, since the config does not tell it."""
    unknown = case.model.unknown
    weights = ("weights",) if "weight_bytes" in unknown else ()
    return (*weights, "KV cache") if unknown & {"kv_heads", "head_dim"} else weights


def weight_bytes(case: Combination) -> int:
    """Weights on one device, in the precision that the variant holds them in."""
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


def _kv_bytes(case: Combination, batch: int | None = None) -> int:
    workload, demand = case.demand.workload, case.demand
    sequences = workload.batch if batch is None else batch
    bits = 32 if case.dtype == "float32" and demand.kv_cache_bits == 16 else demand.kv_cache_bits
    # KV heads that cannot be divided are repeated on every device.
    devices = min(demand.tensor_parallel, max(1, case.model.kv_heads))
    return case.model.kv_bytes(workload.context_tokens, sequences, bits) // devices


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f}"
