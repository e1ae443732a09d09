"""The rule about memory: what a variant holds while it loads and serves against what the device has free."""

from dataclasses import replace

from selector.rules.combination import Combination
from selector.rules.held import Memory, memory_of, uncounted
from selector.rules.room import largest_batch
from selector.rules.rule import Finding, variant_rule


@variant_rule
def memory_fit(case: Combination) -> Finding:
    """Weights as the variant holds them, KV cache of the workload and the backend's overhead fit into free memory."""
    device = case.device
    # Of some accelerators, and of GPUs that share the host's memory, the driver tells no size.
    if not case.on_its_device or device.memory_bytes <= 0:
        return None
    memory, free = memory_of(case), device.free_bytes
    if memory.needed_bytes <= free:
        return None
    workload = case.demand.workload
    least = "at least " if uncounted(case) else ""
    text = f"needs {least}{_gib(memory.needed_bytes)} GiB ({_parts(memory, workload.label)}); {_gib(free)} GiB are free"
    batch = largest_batch(case)
    return (text, f"--workload {replace(workload, batch=batch).label}") if batch else text


def _parts(memory: Memory, label: str) -> str:
    """Of weights, KV cache, all else, and the margin; or, where loading takes most, of what is held then."""
    margin = f", {_gib(memory.margin_bytes)} of margin" if memory.margin_bytes else ""
    if memory.loading_takes_most:
        loading = memory.load_bytes - memory.overhead_bytes
        return f"while it loads {_gib(loading)} of weights, {_gib(memory.overhead_bytes)} of overhead{margin}"
    weights = f"{_gib(memory.weights_bytes)} of weights"
    rest = memory.step_bytes + memory.overhead_bytes
    return f"{weights}, {_gib(memory.key_value_bytes)} of KV cache for {label}, {_gib(rest)} of overhead{margin}"


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f}"
