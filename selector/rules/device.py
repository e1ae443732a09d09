"""Rules about the device: its kind, what its processor can do, its dtypes, how many there are."""

from selector.host.kinds import title, titles
from selector.rules.combination import Combination, any_of, dotted
from selector.rules.rule import Finding, backend_rule, variant_rule


@backend_rule
def device_kind(case: Combination) -> Finding:
    """The backend runs on this kind of device: the host's first GPU or, where there is none, its CPU."""
    if case.on_its_device:
        return None
    wanted = any_of(titles(case.facts.devices))
    if case.device.kind == "cpu":
        return f"needs {wanted}; this host has none"
    return f"needs {wanted}; found {case.device.name}"


@backend_rule
def compute_capability(case: Combination) -> Finding:
    """The GPU's compute capability is not below what the engine's kernels need."""
    least, capability = case.facts.least_capability, case.device.capability
    if not case.on_its_device or least is None or capability is None or capability >= least:
        return None
    return f"needs compute capability {dotted(least)} or newer; found {dotted(capability)} ({case.device.name})"


@backend_rule
def machine_code(case: Combination) -> Finding:
    """The wheel has machine code for this GPU: its major version, a minor no later; marked `a`, its very version."""
    codes, capability = case.facts.machine_code, case.device.capability
    if not case.on_its_device or not codes or capability is None or any(_runs(code, capability) for code in codes):
        return None
    return (
        f"needs a GPU that the wheel has machine code for ({', '.join(f'sm{c}' for c in codes)});"
        f" found sm{capability[0]}{capability[1]} ({case.device.name})"
    )


@variant_rule
def instruction_set(case: Combination) -> Finding:
    """This CPU has the instructions that the backend's wheel and the variant use."""
    if case.device.kind != "cpu" or not case.on_its_device:
        return None
    groups = sorted(case.facts.cpu_features | case.variant.cpu_features)
    missing = [group.replace("|", " or ") for group in groups if not case.host.cpu_features & {*group.split("|")}]
    if not missing:
        return None
    features = " ".join(sorted(case.host.cpu_features)) or "none that matters"
    return f"needs a CPU with {' and '.join(missing)}; found {features}"


@variant_rule
def dtype(case: Combination) -> Finding:
    """The engine computes the variant's dtype on this device; bfloat16 needs a GPU that has it."""
    computed, device = case.dtype, case.device
    if computed is None or not case.on_its_device:
        return None
    known = case.facts.dtypes.get(device.kind)
    if known is not None and computed not in known:
        return f"needs {any_of(sorted(known))} on {title(device.kind)}; found {computed}"
    least = case.facts.bf16_capability
    if computed == "bfloat16" and least is not None and device.capability is not None and device.capability < least:
        return (
            f"needs compute capability {dotted(least)} or newer for bfloat16;"
            f" found {dotted(device.capability)} ({device.name})"
        )
    return None


@backend_rule
def tensor_parallel(case: Combination) -> Finding:
    """There are as many devices as tensor parallelism asks for, and the heads can be divided among them."""
    ways, model = case.demand.tensor_parallel, case.model
    if ways == 1:
        return None
    if not case.facts.tensor_parallel:
        return f"needs one device, since it has no tensor parallelism; found --tensor-parallel {ways}"
    reasons = []
    same = sum(d.kind == case.device.kind and d.name == case.device.name for d in case.host.devices)
    if same < ways:
        reasons.append(f"needs {ways} devices of one product; found {same}")
    if model.heads % ways:
        reasons.append(f"needs heads divisible by {ways}; found {model.heads}")
    if model.kv_heads % ways and not (case.facts.kv_heads_repeatable and ways % model.kv_heads == 0):
        reasons.append(f"needs KV heads divisible by {ways}; found {model.kv_heads}")
    return reasons or None


@backend_rule
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
