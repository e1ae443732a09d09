"""Rules about the format of quantized weights."""

from collections.abc import Iterator

from calibration.backend import QuantFact
from calibration.environments.distributions import requirement_name
from selector.host.kinds import title, titles
from selector.model.quant.format import QuantFormat
from selector.model.spec import ModelSpec
from selector.rules.combination import Combination, any_of, dotted
from selector.rules.install import install_command, lacking, what_is
from selector.rules.installed.releases import another_release
from selector.rules.rule import Finding, backend_rule, variant_rule

_Mismatch = tuple[str, str]
"""What is needed, what was found."""


@backend_rule
def quant_format(case: Combination) -> Finding:
    """The backend loads quantized weights of this method, bits, group size, symmetry and layout as they are."""
    quant = case.model.quant
    if quant.method == "none":
        return None
    if needs_another := another_release(case, "quant_methods", (quant.method,), quant.method):
        return needs_another
    facts = [f for f in case.facts.quants if f.method == quant.method]
    if not facts:
        methods = list(dict.fromkeys(f.method for f in case.facts.quants))
        known = f"weights without quantization or in {any_of(methods)}" if methods else "weights without quantization"
        return f"needs {known}; found {quant.label}"
    # Every group of a mixed checkpoint must be one that the backend knows.
    for part in quant.groups or (quant,):
        closest = min((list(_mismatches(f, part, case)) for f in facts), key=len)
        if closest:
            needs, founds = zip(*closest, strict=True)
            return f"needs {quant.method} with {', '.join(needs)}; found {', '.join(founds)}"
    return None


@backend_rule
def quant_packages(case: Combination) -> Finding:
    """The packages that load this quant format are installed beside the backend."""
    quant = case.model.quant
    first = quant.groups[0] if quant.groups else quant
    fitting = [f for f in case.facts.quants if f.method == quant.method and not list(_mismatches(f, first, case))]
    if not fitting:
        return None
    missing = min((lacking(f.packages, case.installation) for f in fitting), key=len)
    if not missing:
        return None
    there = any(requirement_name(r) in case.installation.versions for r in missing)
    are = "it is not installed" if len(missing) == 1 else "they are not installed"
    found = what_is(missing, case.installation) if there else are
    wanted = (f'"{r}"' if requirement_name(r) != r else r for r in missing)
    mend = install_command(case.installation, f"pip install {' '.join(wanted)}")
    return f"needs {' and '.join(missing)} for {quant.method}; {found}", mend


@variant_rule
def as_is(case: Combination) -> Finding:
    """Variants for quantised checkpoints need one; the others need an unquantised one, or one that is dequantised."""
    quant, variant = case.model.quant, case.variant
    if not any(v.as_is for v in case.backend.variants):
        return None
    facts = [fact for fact in case.facts.quants if fact.method == quant.method]
    if quant.method == "none":
        return f"needs a quantised checkpoint to load as it is; found {case.model.dtype}" if variant.as_is else None
    if variant.as_is:
        only_converted = facts and all(fact.dequantised for fact in facts)
        return (
            f"needs weights that it loads as they are; found {quant.label}, to be converted" if only_converted else None
        )
    if any(fact.dequantised for fact in facts):
        return None
    return f"needs an unquantised checkpoint to convert; found {quant.label}"


def _mismatches(fact: QuantFact, quant: QuantFormat, case: Combination) -> Iterator[_Mismatch]:
    if fact.bits is not None and quant.bits not in fact.bits:
        yield f"{any_of(sorted(fact.bits))} bits", "unknown bits" if quant.bits is None else f"{quant.bits} bits"
    if fact.group_sizes is not None and quant.group_size not in fact.group_sizes:
        yield f"group size {any_of(map(_group, sorted(fact.group_sizes)))}", f"group size {_group(quant.group_size)}"
    if fact.symmetric is not None and quant.symmetric is not fact.symmetric:
        yield _symmetry(fact.symmetric), _symmetry(quant.symmetric)
    if fact.desc_act is not None and bool(quant.desc_act) is not fact.desc_act:
        yield ("desc_act", "no desc_act") if fact.desc_act else ("no desc_act", "desc_act")
    for word, allowed, found in (
        ("version", fact.versions, quant.version),
        ("format", fact.formats, quant.format),
        ("strategy", fact.strategies, quant.strategy),
        ("activation scheme", fact.activation_schemes, quant.activation_scheme),
    ):
        if allowed is not None and found not in allowed:
            yield f"{word} {any_of(sorted(allowed))}", f"{word} {found}" if found else f"no {word}"
    if fact.block_shapes is not None and quant.block_shape not in fact.block_shapes:
        yield (
            f"blocks of {any_of(map(_shape, sorted(fact.block_shapes)))}",
            (f"blocks of {_shape(quant.block_shape)}" if quant.block_shape else "no blocks"),
        )
    broken = _broken(quant.block_shape, case.model) if fact.whole_blocks and quant.block_shape else None
    if broken and quant.block_shape:
        yield f"sizes in whole blocks of {_shape(quant.block_shape)}", broken
    yield from _surroundings(fact, case)


def _surroundings(fact: QuantFact, case: Combination) -> Iterator[_Mismatch]:
    """Where the format is taken: devices, architectures and compute capability."""
    architecture, capability, kind = case.model.architecture, case.device.capability, case.device.kind
    if fact.devices is not None and kind not in fact.devices:
        yield any_of(titles(fact.devices)), title(kind)
    if fact.architectures is not None and architecture not in fact.architectures:
        yield any_of(sorted(fact.architectures)), architecture
    if architecture in fact.not_architectures:
        yield f"an architecture other than {architecture}", architecture
    if fact.capabilities is not None and capability is not None and capability < fact.capabilities:
        yield f"compute capability {dotted(fact.capabilities)} or newer", f"compute capability {dotted(capability)}"


def _broken(block: tuple[int, int], model: ModelSpec) -> str | None:
    """The first of a model's sizes that ends within a block, with its name; what is not told is 0, and ends nowhere."""
    sizes = {
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "moe_intermediate_size": model.expert_intermediate_size,
    }
    if model.kv_lora_rank:
        sizes |= {"kv_lora_rank": model.kv_lora_rank, "kv_lora_rank + qk_rope_head_dim": model.head_dim}
    else:
        sizes |= {
            "heads x head_dim": model.heads * model.head_dim,
            "KV heads x head_dim": model.kv_heads * model.head_dim,
        }
    ends = {name: size for name, size in sizes.items() if any(size > side and size % side for side in block)}
    return next((f"{name} {size}" for name, size in ends.items()), None)


def _group(size: int | None) -> str:
    return "-1 (per channel)" if size == -1 else "none" if size is None else str(size)


def _symmetry(symmetric: bool | None) -> str:
    return "unknown symmetry" if symmetric is None else "symmetric weights" if symmetric else "zero points"


def _shape(shape: tuple[int, int]) -> str:
    return f"{shape[0]}x{shape[1]}"
