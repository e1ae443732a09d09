"""survey(): which machines of the library can run a model, and what stands in the way on the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from calibration.load.use import Use
from selector.context import Context
from selector.demand.demand import Demand
from selector.explanation import Explanation, Group, explain, group
from selector.host.spec import HostSpec
from selector.machines.what_if import library
from selector.rules.judge import Verdict
from selector.rules.rule import Reason


class Obstacle(StrEnum):
    """What stands in a variant's way; what nobody can mend comes first."""

    DEVICE = "device"
    """It is for another kind of device, or for more of them."""
    MODEL = "model"
    """No machine would do: the engine does not run this model, or not as it is asked for."""
    CAPABILITY = "compute capability"
    INSTRUCTIONS = "instructions"
    MEMORY = "memory"
    NOT_ASKED = "on request"
    """It runs if it is asked for: it is lossy, or slow to start."""


_OF_RULES = {
    "device_kind": Obstacle.DEVICE,
    "compute_capability": Obstacle.CAPABILITY,
    "machine_code": Obstacle.CAPABILITY,
    "instruction_set": Obstacle.INSTRUCTIONS,
    "memory_fit": Obstacle.MEMORY,
}
_BY_TEXT = {
    "tensor_parallel": ("devices of one product", Obstacle.DEVICE),
    "dtype": ("compute capability", Obstacle.CAPABILITY),
    "quant_format": ("compute capability", Obstacle.CAPABILITY),
}
"""Rules that look at the machine and at the model: the words of a sentence that is about the machine."""
_ORDER = list(Obstacle)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """What the rules say of the model on one machine."""

    explanation: Explanation

    @property
    def host(self) -> HostSpec:
        return self.explanation.host

    @property
    def runs(self) -> tuple[Verdict, ...]:
        """The candidates, in the static order."""
        return tuple(v for v in self.explanation.verdicts if v.legal and not v.left_out)

    @property
    def refused(self) -> Mapping[Obstacle, tuple[Verdict, ...]]:
        """The variants of backends of which none runs, by what stands in the backend's way, in the order of Obstacle.

        That is what stands in the way of the variant that is nearest to running.
        """
        able = {verdict.candidate.backend for verdict in self.runs}
        by_backend: dict[str, list[Verdict]] = {}
        for verdict in self.explanation.verdicts:
            if verdict.candidate.backend not in able:
                by_backend.setdefault(verdict.candidate.backend, []).append(verdict)
        found: dict[Obstacle, list[Verdict]] = {obstacle: [] for obstacle in Obstacle}
        for verdicts in by_backend.values():
            obstacles = [obstacle_of(verdict, self.host) for verdict in verdicts]
            nearest = max(obstacles, key=_ORDER.index)
            found[nearest] += [v for v, obstacle in zip(verdicts, obstacles, strict=True) if obstacle is nearest]
        return {obstacle: tuple(verdicts) for obstacle, verdicts in found.items() if verdicts}

    def to_json(self) -> dict[str, Any]:
        """As `autobackend explain --all-hosts --json` prints it."""
        device = self.host.device
        return {
            "host": self.host.place,
            "device": device.name,
            "devices": len(self.host.devices),
            "free_bytes": device.free_bytes,
            "first": self.runs[0].candidate.label if self.runs else None,
            "candidates": [
                {
                    "candidate": v.candidate.label,
                    "needed_bytes": v.needed_bytes,
                    "least_tpot_s": self.explanation.least_tpot_s(v),
                }
                for v in self.runs
            ],
            "refused": [
                {
                    "candidate": v.candidate.label,
                    "obstacle": str(obstacle_of(v, self.host)),
                    "reasons": [reason.text for reason in v.reasons] or [v.left_out],
                }
                for v in self.explanation.verdicts
                if v.reasons or v.left_out
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the rules say of a model on every machine of the library."""

    model: str
    demand: Demand
    machines: tuple[Surveyed, ...]
    """GPUs first, then processors; the largest memory first."""

    @property
    def workload(self) -> Use:
        return self.demand.use

    @property
    def able(self) -> tuple[Surveyed, ...]:
        """The machines that run it."""
        return tuple(machine for machine in self.machines if machine.runs)

    def to_json(self) -> dict[str, Any]:
        """What `autobackend explain --all-hosts --json` prints."""
        return {
            "model": self.model,
            "workload": self.workload.label,
            "hosts": [machine.to_json() for machine in self.machines],
        }


def survey(model: str | Path, demand: Demand, *, context: Context | None = None) -> Survey:
    """Judge every backend, or those that are named, for `model` on every machine of the library.

    Raises:
        ModelError, UsageError: the model or an argument cannot be used.
    """
    explanations = [explain(model, demand, host=host, context=context) for host in library(demand.tensor_parallel)]
    return Survey(
        model=explanations[0].model,
        demand=demand,
        machines=tuple(Surveyed(explanation=explanation) for explanation in explanations),
    )


def obstacle_of(verdict: Verdict, host: HostSpec) -> Obstacle:
    """What stands in the way of a variant that is refused or left out."""
    if not verdict.reasons:
        asked = group(verdict, host.device.kind) is Group.ON_REQUEST
        return Obstacle.NOT_ASKED if asked else Obstacle.DEVICE
    return min((_obstacle(reason) for reason in verdict.reasons), key=_ORDER.index)


def backends_of(verdicts: Sequence[Verdict]) -> list[str]:
    """The names of the backends, each once."""
    return list(dict.fromkeys(verdict.candidate.backend for verdict in verdicts))


def _obstacle(reason: Reason) -> Obstacle:
    words, obstacle = _BY_TEXT.get(reason.rule, ("", Obstacle.MODEL))
    if words and words in reason.text:
        return obstacle
    return _OF_RULES.get(reason.rule, Obstacle.MODEL)
