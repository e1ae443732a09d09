"""explain(model) -> Explanation: which variants can run the model, and every reason why the others cannot."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Unpack

from calibration.load.use import Use
from calibration.registry import find
from selector import context as contexts
from selector.context import Context
from selector.demand.demand import Demand, DemandOptions
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.predict.limits.floor import least_tpot_s
from selector.rules.judge import Verdict, judge


class Group(StrEnum):
    """What a verdict means to a user."""

    RUNS = "runs here now"
    ON_REQUEST = "runs on request"
    AFTER_A_CHANGE = "runs after a change"
    TOO_LARGE = "too large here"
    NOT = "not by this backend"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The verdicts of every variant of the backends asked about, in the static order."""

    model: str
    spec: ModelSpec
    host: HostSpec
    demand: Demand
    verdicts: tuple[Verdict, ...]

    @property
    def workload(self) -> Use:
        return self.demand.use

    @property
    def groups(self) -> dict[Group, tuple[Verdict, ...]]:
        """The verdicts by what they mean, in the order of Group; empty groups are left out."""
        groups: dict[Group, list[Verdict]] = {meaning: [] for meaning in Group}
        for verdict in self.verdicts:
            groups[group(verdict, self.host.device.kind)].append(verdict)
        return {meaning: tuple(verdicts) for meaning, verdicts in groups.items() if verdicts}

    def least_tpot_s(self, verdict: Verdict) -> float | None:
        """On a machine that one does not hold: what no engine can beat; None where that is not known."""
        if self.host.what_if is None:
            return None
        devices = self.demand.tensor_parallel
        return least_tpot_s(self.spec, self.host, verdict.candidate, self.demand.workload, devices=devices)

    def to_json(self) -> dict[str, Any]:
        """What `autobackend explain --json` prints."""
        what_if = self.host.what_if
        return {
            "model": self.model,
            "architecture": self.spec.architecture,
            "quant": self.spec.quant.label,
            "device": self.host.device.name,
            "workload": self.workload.label,
            **({} if what_if is None else {"what_if": what_if.to_json()}),
            "verdicts": [
                {
                    **asdict(v.candidate),
                    "legal": v.legal,
                    "group": titled(group(v, self.host.device.kind), self.host),
                    "left_out": v.left_out,
                    "needed_bytes": v.needed_bytes,
                    "memory": None if v.memory is None else asdict(v.memory),
                    "longest_context_tokens": None if v.most is None else v.most.context_tokens,
                    "largest_batch": None if v.most is None else v.most.batch,
                    **({} if what_if is None else {"least_tpot_s": self.least_tpot_s(v) if v.legal else None}),
                    "reasons": [asdict(r) for r in v.reasons],
                    "notes": list(v.notes),
                }
                for v in self.verdicts
            ],
        }


def explain(
    model: str | Path,
    demand: Demand | None = None,
    *,
    host: HostSpec | None = None,
    context: Context | None = None,
    **options: Unpack[DemandOptions],
) -> Explanation:
    """Judge every backend, or those that are named, for `model` on this host.

    May be called from several threads at once: see Context.

    Args:
        model: a folder, a hub id or `shape:NAME`.
        demand: what is wanted; or, more briefly, `options`: see DemandOptions. Memory must hold its workload.
        host: another machine than this one: see what_if.
        context: what earlier calls have read; by default what all calls of this program share.

    Raises:
        ModelError, UsageError: the model or an argument cannot be used.
    """
    wanted, shared = Demand.of(demand, **options).answerable(), context or contexts.DEFAULT
    spec, here = shared.model(model), host or shared.host()
    wanted = wanted.for_positions(spec.max_position)
    # Requests that come and go wait where an engine queues; the sequences of a batch are all there at once.
    served = bool(wanted.loads) and not wanted.batches
    judged = judge(spec, here, wanted.for_one(wanted.largest), served=served, with_most=True)
    verdicts = tuple(v for v in judged if wanted.names(v.candidate.label))
    return Explanation(model=spec.name, spec=spec, host=here, demand=wanted, verdicts=verdicts)


def group(verdict: Verdict, device_kind: str) -> Group:
    """What a verdict means to a user of such a device."""
    candidate = verdict.candidate
    if verdict.legal:
        if not verdict.left_out:
            return Group.RUNS
        devices = find(candidate.backend).variant(candidate.variant).devices
        return Group.NOT if devices and device_kind not in devices else Group.ON_REQUEST
    if all(reason.mend for reason in verdict.reasons):
        return Group.AFTER_A_CHANGE
    if {reason.rule for reason in verdict.reasons} <= {"memory_fit", "installed", "importable"}:
        return Group.TOO_LARGE
    return Group.NOT


def titled(meaning: Group, host: HostSpec) -> str:
    """What a group is called: of a machine that one does not hold nothing runs here or now."""
    if host.what_if is None:
        return str(meaning)
    return {Group.RUNS: "runs there", Group.TOO_LARGE: "too large there"}.get(meaning, str(meaning))
