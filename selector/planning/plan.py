"""plan(): which candidates a calibration of a model would measure here, and on which cells."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from calibration.errors import UsageError
from calibration.measurement import Candidate, Identity
from calibration.registry import find, foreign_source
from calibration.supervision.launch_spec import LaunchSpec
from calibration.workload import DEFAULT, Workload, grid
from selector.demand import Demand
from selector.host.spec import HostSpec
from selector.identity import converter_of, environment_of, identity
from selector.model.spec import ModelSpec
from selector.rules.judge import Verdict, judge


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
    entries: tuple[LaunchSpec, ...]
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


def entry_of(candidate: Candidate, host: HostSpec) -> LaunchSpec:
    """A candidate with its interpreter and the versions that are installed there."""
    backend = find(candidate.backend)
    installation = host.installations[candidate.backend]
    variant = backend.variant(candidate.variant)
    return LaunchSpec(
        candidate=candidate,
        variant=variant,
        python=installation.python,
        environment=environment_of(backend, host),
        converter=converter_of(backend, variant, host),
        prepare_rate=backend.facts.prepare_s_per_gib,
        overflows=host.lacks(backend.facts.overflows_without.get(variant.precision)),
        source=foreign_source(backend),
    )


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
