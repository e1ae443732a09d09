"""Rules about the device: its kind, its compute capability, its dtypes, how many there are."""

from selector.host.kinds import KINDS
from selector.rules.combination import Combination, Finding, any_of, dotted


def device_kind(case: Combination) -> Finding:
    """The device, the host's first GPU or else its CPU, is of a kind that the backend runs on."""
    if case.on_its_device:
        return None
    wanted = any_of(name for kind, name in KINDS.items() if kind in case.facts.devices)
    if case.device.kind == "cpu":
        return f"needs {wanted}; this host has none"
    return f"needs {wanted}; found {case.device.name}"


def compute_capability(case: Combination) -> Finding:
    """The GPU is not older than the engine's kernels."""
    least, found = case.facts.least_capability, case.device.capability
    if not case.on_its_device or least is None or found is None or found >= least:
        return None
    return f"needs compute capability {dotted(least)} or newer; found {dotted(found)} ({case.device.name})"


def machine_code(case: Combination) -> Finding:
    """The wheel has machine code for the GPU: for its major version and no later minor; with an `a`, for exactly it."""
    codes, found = case.facts.machine_code, case.device.capability
    if not case.on_its_device or not codes or found is None or any(_runs(code, found) for code in codes):
        return None
    return (
        f"needs a GPU that the wheel has machine code for ({', '.join(f'sm{c}' for c in codes)});"
        f" found sm{found[0]}{found[1]} ({case.device.name})"
    )


def dtype(case: Combination) -> Finding:
    """The engine computes the variant's dtype on this device; bfloat16 needs a GPU that has it."""
    found, device = case.dtype, case.device
    if found is None or not case.on_its_device:
        return None
    known = case.facts.dtypes.get(device.kind)
    if known is not None and found not in known:
        return f"needs {any_of(sorted(known))} on {KINDS.get(device.kind, device.kind)}; found {found}"
    least = case.facts.bf16_capability
    if found == "bfloat16" and least is not None and device.capability is not None and device.capability < least:
        return (
            f"needs compute capability {dotted(least)} or newer for bfloat16;"
            f" found {dotted(device.capability)} ({device.name})"
        )
    return None


def tensor_parallel(case: Combination) -> Finding:
    """As many devices as tensor parallelism asks for, and heads that can be divided among them."""
    ways, model = case.demand.tensor_parallel, case.model
    if ways == 1:
        return None
    if not case.facts.tensor_parallel:
        return f"needs one device, since it has no tensor parallelism; found --tensor-parallel {ways}"
    found = []
    same = sum(d.kind == case.device.kind and d.name == case.device.name for d in case.host.devices)
    if same < ways:
        found.append(f"needs {ways} devices of one product; found {same}")
    if model.heads % ways:
        found.append(f"needs heads divisible by {ways}; found {model.heads}")
    if model.kv_heads % ways and not (case.facts.kv_heads_repeatable and ways % model.kv_heads == 0):
        found.append(f"needs KV heads divisible by {ways}; found {model.kv_heads}")
    return found or None


def kv_cache_bits(case: Combination) -> Finding:
    """The engine keeps the KV cache in the bits asked for."""
    bits, known = case.demand.kv_cache_bits, case.facts.kv_cache_bits
    if bits in known:
        return None
    return f"needs a KV cache of {any_of(sorted(known))} bits; found {bits} asked for"


def _runs(code: str, capability: tuple[int, int]) -> bool:
    """80 runs on 8.0 to 8.9, 90a on 9.0 alone, 100f on 10.0 to 10.9 (NVIDIA, Blackwell Compatibility Guide)."""
    digits = code.rstrip("af")
    if not digits.isdigit():
        return False
    major, minor = divmod(int(digits), 10)
    if code.endswith("a"):
        return (major, minor) == capability
    return major == capability[0] and minor <= capability[1]
