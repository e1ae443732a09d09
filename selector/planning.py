"""plan() and calibrate(): from a model's name to candidates, weights and a race."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.agreement import Answers
from calibration.artifact import ArtifactStore
from calibration.backend import Backend, Variant
from calibration.cache import Cache
from calibration.dequantise import knows
from calibration.entry import Entry, Limits, Subject
from calibration.errors import IllegalBackend, NoLegalBackend, UsageError
from calibration.launch import Launcher
from calibration.lock import device_lock
from calibration.measurement import Candidate, Identity
from calibration.reference import reference_of
from calibration.registry import all_backends, find
from calibration.runner import Reporter, Silent, Tally
from calibration.runner import calibrate as race_candidates
from calibration.workload import DEFAULT, Workload, grid
from selector.host import HostSpec
from selector.identity import converter_of, environment_of, identity
from selector.loading import downloaded
from selector.model import ModelSpec
from selector.preparing import preparations, random_checkpoint
from selector.rules import Demand, Verdict, judge

REFERENCE_OVERHEAD = 1.3
"""A float32 reference is computed where its weights, times this, fit into the memory that is free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a calibration would do."""

    spec: ModelSpec
    host: HostSpec
    identity: Identity
    cells: tuple[Workload, ...]
    workloads: tuple[Workload, ...]
    """What the user asked for, or the default: the answer is given for these."""
    verdicts: tuple[Verdict, ...]
    """Of every variant that the user's choice of backends names."""
    entries: tuple[Entry, ...]
    """The candidates, in the static order."""

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(e.candidate for e in self.entries)

    @property
    def refused(self) -> tuple[Verdict, ...]:
        return tuple(v for v in self.verdicts if not v.legal)

    @property
    def left_out(self) -> tuple[Verdict, ...]:
        return tuple(v for v in self.verdicts if v.legal and v.left_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a calibration was to do and what it did."""

    plan: Plan
    tally: Tally
    cache: str
    """Where it is kept."""


def plan(
    model: str,
    *,
    workloads: Sequence[Workload | str] = (),
    backends: Sequence[str] = (),
    allow_lossy: bool = False,
    max_kl: float | None = None,
    trust_remote_code: bool = False,
    tensor_parallel: int = 1,
    host: HostSpec | None = None,
) -> Plan:
    """Judge every backend for `model` here and say what would be measured.

    Args:
        model: a folder, a hub id or `shape:NAME`.
        workloads: what the cells must bracket; by default ordinary use.
        backends: only these, as `backend` or `backend:variant`.

    Raises:
        ModelError, UsageError: the model, a workload or a backend is not known.
    """
    asked = tuple(w if isinstance(w, Workload) else Workload.parse(w) for w in workloads)
    wanted = _known_labels(backends)
    here = host or HostSpec.detect()
    spec = ModelSpec.read(model)
    cells = _within(grid(asked, gpu=here.device.kind != "cpu"), spec.max_position)
    largest = max(cells, key=lambda c: c.context_tokens * c.batch)
    demand = Demand(
        workload=largest,
        allow_lossy=allow_lossy,
        max_kl=max_kl,
        trust_remote_code=trust_remote_code,
        tensor_parallel=tensor_parallel,
        requested=frozenset(wanted),
    )
    verdicts = tuple(v for v in judge(spec, here, demand) if not wanted or _named(v.candidate, wanted))
    return Plan(
        spec=spec,
        host=here,
        identity=identity(spec, here, device_count=tensor_parallel),
        cells=cells,
        workloads=asked or (DEFAULT,),
        verdicts=verdicts,
        entries=tuple(entry_of(v.candidate, here) for v in verdicts if v.legal and not v.left_out),
    )


def calibrate(
    model: str,
    *,
    workloads: Sequence[Workload | str] = (),
    backends: Sequence[str] = (),
    allow_lossy: bool = False,
    max_kl: float | None = None,
    rounds: int = 3,
    budget_s: float | None = None,
    random_weights: bool = False,
    again: bool = False,
    trust_remote_code: bool = False,
    tensor_parallel: int = 1,
    cache: Cache | str | Path | None = None,
    host: HostSpec | None = None,
    store: ArtifactStore | None = None,
    reporter: Reporter | None = None,
    limits: Limits | None = None,
) -> Calibration:
    """Time every candidate for `model` on this host and keep the samples.

    Args:
        rounds: launches of a candidate at most.
        budget_s: seconds for all of it; what was not measured by then is named in the tally.
        random_weights: time random weights of the model's shape (always so for `shape:NAME`).
        again: measure anew what is already in the cache.
        cache: an open cache, a path or a SQLAlchemy URL.

    Raises:
        ModelError, UsageError, CacheError, ArtifactError: with the value and the mend.
        IllegalBackend: every backend that `backends` names is refused.
        NoLegalBackend: every backend is refused.
        DeviceBusy: another calibration holds the device.
    """
    if rounds < 1:
        raise UsageError(f"a calibration needs 1 round or more; found {rounds}")
    telling = reporter or Silent()
    planned = plan(
        model,
        workloads=workloads,
        backends=backends,
        allow_lossy=allow_lossy,
        max_kl=max_kl,
        trust_remote_code=trust_remote_code,
        tensor_parallel=tensor_parallel,
        host=host,
    )
    telling.event("plan", plan=planned)
    if not planned.entries:
        raise _nothing_to_measure(planned, forced=bool(backends))
    artifacts = store or ArtifactStore()
    made = preparations(planned.spec, planned.entries, artifacts, random_weights=random_weights)
    telling.event("preparations", made=made)
    opened = cache if isinstance(cache, Cache) else Cache.open(cache)
    try:
        with device_lock(planned.host.device.name):
            subject = subject_of(
                planned,
                artifacts,
                telling,
                random_weights=random_weights,
                trust_remote_code=trust_remote_code,
                tensor_parallel=tensor_parallel,
            )
            tally = race_candidates(
                planned.entries,
                subject,
                planned.cells,
                opened,
                artifacts,
                telling,
                reference=reference_for(planned),
                rounds=rounds,
                budget_s=budget_s,
                again=again,
                limits=limits,
            )
        return Calibration(plan=planned, tally=tally, cache=opened.location)
    finally:
        if opened is not cache:
            opened.close()


def entry_of(candidate: Candidate, host: HostSpec) -> Entry:
    """A candidate with its interpreter and the versions that are installed there."""
    backend = find(candidate.backend)
    installation = host.installations[candidate.backend]
    variant = backend.variant(candidate.variant)
    return Entry(
        candidate=candidate,
        variant=variant,
        python=installation.python,
        environment=environment_of(backend, host),
        converter=converter_of(backend, variant, host),
        prepare_rate=backend.facts.prepare_s_per_gib,
        overflows=host.lacks(backend.facts.overflows_without.get(variant.precision)),
        source=_foreign_source(backend),
    )


def _foreign_source(backend: Backend) -> str:
    """The file of a backend that is not one of ours."""
    import inspect

    module = type(backend).__module__
    return "" if module.startswith("calibration.backends.") else inspect.getfile(type(backend))


def _known_labels(backends: Sequence[str]) -> tuple[str, ...]:
    """The labels as given, each a known backend or variant."""
    for label in backends:
        name, _, variant = label.partition(":")
        known = [v.name for v in find(name).variants]
        if variant and variant not in known:
            raise UsageError(f"unknown variant {label!r}", f"variants of {name}: {', '.join(known)}")
    return tuple(backends)


def _named(candidate: Candidate, labels: Sequence[str]) -> bool:
    return candidate.backend in labels or candidate.label in labels


def _within(cells: tuple[Workload, ...], max_position: int) -> tuple[Workload, ...]:
    """The cells, with prompts as long as the model's context can hold at most.

    Args:
        max_position: 0 where the config names no limit.
    """
    if max_position == 0:
        return cells
    fitting = []
    for cell in cells:
        output = min(cell.output_tokens, max(1, max_position // 4))
        prompt = min(cell.prompt_tokens, max(1, max_position - output))
        fitting.append(dataclasses.replace(cell, prompt_tokens=prompt, output_tokens=output))
    return tuple(dict.fromkeys(fitting))


def _nothing_to_measure(planned: Plan, *, forced: bool) -> IllegalBackend | NoLegalBackend:
    lines = [f"  {v.candidate.label}: {r.text}" for v in planned.refused for r in v.reasons]
    lines += [f"  {v.candidate.label}: left out, {v.left_out}" for v in planned.left_out]
    kind = IllegalBackend if forced else NoLegalBackend
    return kind(
        f"no backend can be calibrated for {planned.spec.name} here\n" + "\n".join(lines),
        f"see autobackend explain {planned.spec.name}",
    )


def subject_of(
    planned: Plan,
    store: ArtifactStore,
    reporter: Reporter,
    *,
    random_weights: bool = False,
    trust_remote_code: bool = False,
    tensor_parallel: int = 1,
) -> Subject:
    """The model with weights on the disk: its own, or random ones made once.

    Raises:
        ModelError: its weights cannot be had.
        ArtifactError: random ones cannot be made.
    """
    spec, host = planned.spec, planned.host
    if random_weights or spec.name.startswith("shape:"):
        folder, weights = random_checkpoint(spec, store, reporter, host)
    else:
        local = Path(spec.name).exists() and spec.has_weights
        folder, weights = spec.place if local else downloaded(spec), spec.weights_identity
    free = host.device.free_bytes if host.device.kind == "cpu" else host.memory_bytes
    return Subject(
        name=spec.name,
        model_dir=folder,
        weights_identity=weights,
        identity=planned.identity,
        dtype=spec.dtype,
        vocab_size=spec.vocab_size,
        device=host.device.kind,
        threads=host.cores,
        cpus=host.bound_cpus,
        memory_limit_bytes=int(free * 0.95),
        trust_remote_code=trust_remote_code,
        tensor_parallel=tensor_parallel,
        max_position=spec.max_position,
        sliding_window=spec.sliding_window,
        parameters=spec.parameters,
    )


def reference_for(planned: Plan) -> Callable[[Launcher], Answers | None]:
    """transformers in float32 on the CPU where that fits into its memory, else in the model's dtype on the device."""
    spec, host = planned.spec, planned.host
    plain: Variant = all_backends()["transformers"].variant("eager")
    free = host.device.free_bytes if host.device.kind == "cpu" else host.memory_bytes
    quant = spec.quant
    dequantised = knows(quant.method, quant.bits, quant.version)
    # transformers reads a .gguf file by dequantising it.
    plain_weights = quant.method in {"none", "gguf"} or dequantised
    wide = plain_weights and spec.parameters * 4 * REFERENCE_OVERHEAD < free
    precision = "fp32" if wide else "model"
    variant = dataclasses.replace(
        plain,
        name=f"reference-{precision}",
        precision=precision,
        options={**plain.options, "dtype": "float32" if wide else "auto"},
    )
    return reference_of(
        dataclasses.replace(
            entry_of(Candidate(backend="transformers", variant=plain.name), host),
            candidate=Candidate(backend="transformers", variant=variant.name),
            variant=variant,
            device="cpu" if wide else "",
        ),
        dequantised=dequantised and wide,
    )
