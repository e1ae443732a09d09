"""plan(): which candidates a calibration of a model would measure here, and on which cells."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from calibration.load.use import largest_of
from calibration.measurement import Candidate, Identity
from calibration.registry import find, foreign_source
from calibration.supervision.launch_spec import LaunchSpec
from calibration.workload import DEFAULT, Workload, grid
from selector.demand.demand import Demand, DemandOptions
from selector.evidence.identity import converter_of, environment_of, identity
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.rules.judge import Verdict, judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a calibration would do."""

    spec: ModelSpec
    host: HostSpec
    demand: Demand
    identity: Identity
    cells: tuple[Workload, ...]
    """That are timed of each candidate; none where only loads are asked for."""
    verdicts: tuple[Verdict, ...]
    """Of every variant that the user's choice of backends names."""
    launch_specs: tuple[LaunchSpec, ...]
    """The candidates, in the static order."""

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """The static batches that are answered for: what the user asked for, or the default as far as the model's
        positions reach, where no load was asked for.
        """
        return self.demand.batches or (() if self.demand.loads else within((DEFAULT,), self.spec.max_position))

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(spec.candidate for spec in self.launch_specs)

    @property
    def refused(self) -> tuple[Verdict, ...]:
        return tuple(v for v in self.verdicts if not v.legal)

    @property
    def untried(self) -> tuple[str, ...]:
        """Backends of candidates that nobody tried with the model's architecture."""
        candidates = frozenset(self.candidates)
        return tuple(
            dict.fromkeys(v.candidate.backend for v in self.verdicts if not v.tried and v.candidate in candidates)
        )

    @property
    def left_out(self) -> tuple[Verdict, ...]:
        return tuple(v for v in self.verdicts if v.legal and v.left_out)


def plan(
    model: str | Path, demand: Demand | None = None, *, host: HostSpec | None = None, **options: Unpack[DemandOptions]
) -> Plan:
    """Judge every backend, or those that are named, for `model` here and say what would be measured.

    Args:
        model: a folder, a hub id or `shape:NAME`.
        demand: what is wanted; or, more briefly, `options`: see DemandOptions. The cells bracket its workloads.

    Raises:
        ModelError, UsageError: the model or an argument cannot be used.
    """
    wanted = Demand.of(demand, **options).measurable()
    here = host or HostSpec.detect()
    spec = ModelSpec.read(model)
    wanted = wanted.for_positions(spec.max_position)
    served = tuple(map(largest_of, wanted.loads))
    cells = (*_cells(wanted, spec.max_position, gpu=here.device.kind != "cpu"), *served)
    verdicts = judge(spec, here, wanted.for_one(_largest(cells)))
    asked = (*_cells(wanted, spec.max_position), *served)
    if wanted.batches and _largest(asked) != _largest(cells):
        # A batch that nobody asked for must not cost a candidate: where it does not fit, it is not measured.
        alone = judge(spec, here, wanted.for_one(_largest(asked)))
        if sum(v.legal for v in alone) > sum(v.legal for v in verdicts):
            cells, verdicts = asked, alone
    named = tuple(verdict for verdict in verdicts if wanted.names(verdict.candidate.label))
    return Plan(
        spec=spec,
        host=here,
        demand=wanted,
        identity=identity(spec, here, device_count=wanted.tensor_parallel),
        cells=cells[: len(cells) - len(served)],
        verdicts=named,
        launch_specs=tuple(launch_spec_of(v.candidate, here, spec) for v in named if v.legal and not v.left_out),
    )


def _cells(wanted: Demand, max_position: int, *, gpu: bool = False) -> tuple[Workload, ...]:
    """The cells around the static batches; none where loads alone are asked for."""
    if wanted.loads and not wanted.batches:
        return ()
    return within(grid(wanted.batches, gpu=gpu), max_position)


def _largest(cells: tuple[Workload, ...]) -> Workload:
    return max(cells, key=lambda cell: cell.context_tokens * cell.batch)


def launch_spec_of(candidate: Candidate, host: HostSpec, model: ModelSpec | None = None) -> LaunchSpec:
    """A candidate with its interpreter and the versions that are installed there.

    Args:
        model: what it may be converted from; where it is not given, memory is foreseen as for the heaviest.
    """
    backend = find(candidate.backend)
    installation = host.installations[candidate.backend]
    variant = backend.variant(candidate.variant)
    return LaunchSpec(
        candidate=candidate,
        variant=variant,
        python=installation.python,
        environment=environment_of(backend, host),
        converter=converter_of(backend, variant, host),
        prepare_time=backend.facts.prepare_time,
        prepare_memory=backend.facts.prepare_memory_of(
            variant,
            matrices_of_16_bits=model is not None and model.matrices_of_16_bits,
            model_type=model.model_type if model else "",
        ),
        overflows=host.lacks(backend.facts.overflows_without.get(variant.precision)),
        source=foreign_source(backend),
    )


def within(cells: tuple[Workload, ...], max_position: int) -> tuple[Workload, ...]:
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
