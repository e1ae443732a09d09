"""Judge: every rule of every variant of every backend, and the verdicts that come out."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from calibration.backend import Backend, Variant
from calibration.config_json import UnreadableField
from calibration.conversion.estimate import Estimate
from calibration.measurement import Candidate
from calibration.registry import all_backends
from selector.demand.demand import Demand
from selector.host.kinds import titles
from selector.host.spec import HostSpec, Installation
from selector.model.spec import ModelSpec
from selector.rules.combination import Combination, any_of, dotted
from selector.rules.held import Memory, memory_of, uncounted
from selector.rules.model import honours_window, is_tried, table_unread, unheeded_chunk
from selector.rules.room import Most, most_of
from selector.rules.rule import Reason
from selector.rules.table import RULES

__all__ = ["Reason", "Verdict", "judge"]

_BACKEND_RULES = tuple(rule for rule in RULES if rule.of_backend)
_VARIANT_RULES = tuple(rule for rule in RULES if not rule.of_backend)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A variant is legal, or every reason why not."""

    candidate: Candidate
    reasons: tuple[Reason, ...] = ()
    left_out: str = ""
    """Legal, but no candidate unless asked for: lossy, or slow to compile; the reason."""
    needed_bytes: int = 0
    """While it loads and serves: Memory.needed_bytes."""
    notes: tuple[str, ...] = ()
    tried: bool = True
    """Not an architecture that nobody tried in this engine: of such one the correctness check decides."""
    memory: Memory | None = field(default=None, compare=False, repr=False)
    """Its parts."""
    most: Most | None = field(default=None, compare=False, repr=False)
    """Of a candidate, what fits, where that was asked for and the device tells what is free."""

    @property
    def legal(self) -> bool:
        return not self.reasons


def judge(
    model: ModelSpec,
    host: HostSpec,
    demand: Demand = Demand(),  # noqa: B008  frozen
    backends: Mapping[str, Backend] | None = None,
    *,
    served: bool = False,
    checked: bool = True,
    with_most: bool = False,
) -> tuple[Verdict, ...]:
    """Judge every variant of every backend, in the static order; all rules run, all reasons are kept.

    Args:
        served: the sequences of the workload come and go as requests to a server; they are no batch in step.
        checked: where they are no requests, the output is checked before, as in a calibration, and that needs memory.
        with_most: also say how much fits, which takes longer: the memory of some thirty sizes is counted.
    """
    known = all_backends() if backends is None else backends
    verdicts: list[Verdict] = []
    for backend in sorted(known.values(), key=lambda b: (b.facts.order, b.name)):
        shared: list[Reason] | None = None
        for variant in backend.variants:
            case = _case(model, host, demand, backend, variant, served=served, checked=checked and not served)
            if shared is None:
                shared = [reason for rule in _BACKEND_RULES for reason in rule.reasons(case)]
            # What does not exist on this device is left out, and its other shortcomings are of no interest.
            own_rules = _VARIANT_RULES if _exists(case) else ()
            own = [reason for rule in own_rules for reason in rule.reasons(case)]
            tried = is_tried(case) or any(reason.rule == "architecture" for reason in shared)
            reasons, left_out, memory = (*shared, *own), _left_out(case), memory_of(case)
            verdicts.append(
                Verdict(
                    candidate=Candidate(backend=backend.name, variant=variant.name),
                    reasons=reasons,
                    left_out=left_out,
                    needed_bytes=memory.needed_bytes,
                    notes=(*_notes(case), *(() if tried else (not_tried(model.architecture),))),
                    tried=tried,
                    memory=memory,
                    most=most_of(case) if with_most and not reasons and not left_out else None,
                )
            )
    return tuple(verdicts)


def not_tried(architecture: str) -> str:
    """What is said of a verdict, and in a plan, where `Verdict.tried` is false."""
    return f"{architecture} was not tried by us; its output is checked"


def _case(
    model: ModelSpec,
    host: HostSpec,
    demand: Demand,
    backend: Backend,
    variant: Variant,
    *,
    served: bool = False,
    checked: bool = False,
) -> Combination:
    return Combination(
        model=model,
        host=host,
        installation=host.installations.get(backend.name) or _unknown(),
        backend=backend,
        variant=variant,
        demand=demand,
        device=host.device,
        served=served,
        checked=checked,
    )


def _unknown() -> Installation:
    return Installation(python=Path(), versions={}, site_packages=(), problem="where it runs was not looked for")


def _left_out(case: Combination) -> str:
    """Why a variant is no candidate though nothing forbids it."""
    variant, device = case.variant, case.device
    label = f"{case.backend.name}:{variant.name}"
    requested = label in case.demand.backends
    if not _exists(case):
        return f"for {any_of(titles(variant.devices))} only"
    newest, capability = variant.below_capability, device.capability
    if newest is not None and capability is not None and capability >= newest:
        return f"for GPUs below compute capability {dotted(newest)} only"
    pointless = sorted(variant.only_without & case.host.cpu_features)
    if pointless and not requested:
        return f"pointless on a CPU with {' and '.join(pointless)} (--backends {label})"
    if variant.lossy and not case.demand.lossy:
        return "lossy (--allow-lossy)"
    asked_here = not variant.on_request_device or variant.on_request_device == device.kind
    if variant.on_request and asked_here and not requested:
        return f"{variant.on_request} (--backends {label})"
    return ""


def _exists(case: Combination) -> bool:
    """The variant is one for this kind of device."""
    return not case.variant.devices or case.device.kind in case.variant.devices


def _notes(case: Combination) -> tuple[str, ...]:
    notes = []
    window = case.model.sliding_window
    if window is not None and not honours_window(case) and not window >= case.model.max_position > 0:
        notes.append(f"right only up to {window} tokens: it does not honour the sliding window")
    with suppress(UnreadableField):  # the rule refuses it
        if chunk := unheeded_chunk(case):
            notes.append(f"right only up to {chunk} tokens: it does not attend in chunks")
    unused = sorted(case.facts.leaves_unused & case.host.cpu_features) if case.device.kind == "cpu" else ()
    if unused:
        notes.append(f"its machine code leaves {' and '.join(unused)} of this CPU unused")
    if table_unread(case):
        notes.append("its own table of architectures was not read: it is not installed here")
    if case.model.vision and case.facts.vision == "left out":
        notes.append(f"of {case.model.architecture} it has no vision part: it writes text and sees nothing")
    if too_large := _too_large_to_convert(case):
        notes.append(too_large)
    if untold := sorted(case.model.unknown - {"parameters", "weight_bytes"}):
        partly = f" ({' and '.join(uncounted(case))} counted in part)" if uncounted(case) else ""
        notes.append(f"not told by the config: {', '.join(untold)}{partly}")
    return tuple(notes)


def _too_large_to_convert(case: Combination) -> str:
    """Of a variant that is converted first, on a CPU: that this memory does not hold the conversion."""
    model, variant = case.model, case.variant
    if not variant.prepares or model.parameters <= 0 or case.device.kind != "cpu" or case.device.memory_bytes <= 0:
        return ""
    memory = case.facts.prepare_memory_of(
        variant, matrices_of_16_bits=model.matrices_of_16_bits, model_type=model.model_type
    )
    embeddings, routed = model.vocab_size * model.hidden_size, model.expert_parameters
    needed = memory.start_bytes + memory.weights_bytes(model.parameters, embeddings, routed, model.layers)
    expected = Estimate(seconds=0.0, bytes=0, scratch_bytes=0, memory_bytes=int(needed))
    return expected.too_large_for(case.device.free_bytes)
