"""What is said beside an answer: what it lacks, and what is good to know."""

from collections.abc import Iterable
from dataclasses import dataclass

from selector.answer import Source
from selector.choice.larger_batch import larger_batch
from selector.choice.pick import Pick
from selector.context import Question
from selector.evidence import Evidence
from selector.ranking import Ranked
from selector.targets import SURE, percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What a selection says beside its answer."""

    question: Question
    known: Evidence
    pick: Pick

    def warnings(self) -> Iterable[str]:
        """What the answer lacks, each with the command that mends it."""
        name, label, known = self.question.spec.name, self.pick.label, self.known
        failure = known.failed.get(label)
        if failure:
            when = " with other versions" if label in known.outdated else ""
            yield f"{label} failed here{when}: {failure.kind}, {failure.message}. Measure again: {self._calibrate}"
        elif self.pick.source is Source.STALE:
            changed = ", ".join(known.stale[label].differences)
            yield f"{label} was measured with other versions ({changed}). Measure again: {self._calibrate}"
        elif self.pick.source is Source.RULES and not self.question.demand.forced:
            yield f"{name} was never measured on this host; this is the static order. Measure it: {self._calibrate}"
        if self.question.demand.targets and self.pick.ranked is None:
            yield f"whether {label} meets {self.question.demand.targets} is not known. Measure it: {self._calibrate}"
        elif self.pick.ranked is not None and not self.pick.ranked.meets:
            yield self.missed(self.pick.ranked)
        if self.pick.source in {Source.MEASURED, Source.STALE} and (origin := known.unchecked.get(label)):
            yield f"{label} was {origin}; its output is unchecked for {name}. Check it: {self._calibrate}"

    def notes(self) -> Iterable[str]:
        """What is good to know beside the answer."""
        origin, ranked = self.pick.origin, self.pick.ranked
        if origin is not None:
            here = origin.identity.host == self.question.host.identifier
            where = "here" if here else "on another host with the same device"
            yield f"{origin.model} was measured {where}; {self.question.spec.name} was not"
        if ranked is not None:
            yield from self._surest(ranked)
            yield from larger_batch(self.question.demand, self.question.spec.name, self.pick.ranking, ranked)
        if self.pick.source is not Source.MEASURED or ranked is None:
            return
        for s in self.pick.stale:
            if s.e2e_s is not None and s.e2e_s < ranked.e2e_s:
                changed = ", ".join(s.differences)
                yield f"{s.candidate.label} was faster before {changed}. Measure it again: {self._calibrate}"

    def missed(self, answer: Ranked) -> str:
        """That the targets are missed, by how much, and how unlikely it is that they are met."""
        targets, demand = self.question.demand.targets, self.question.demand
        misses = [
            f"{name} of {time:.3g} s is {_excess(time / target)}"
            for name, target, time in targets.against(answer.ttft_s, answer.tpot_s)
            if time > target
        ]
        missed = " and its ".join(misses) or "medians do, but most of its launches miss one"
        told = f"its {missed} for {demand.workload.label}"
        if demand.forced:
            return f"{self.pick.label} does not meet {targets}: {told} ({percent(answer.chance or 0.0)} likely to meet)"
        return (
            f"no candidate that was measured meets {targets}; {self.pick.label} is the nearest: {told}"
            f" ({percent(answer.chance or 0.0)} likely to meet)"
        )

    def _surest(self, answer: Ranked) -> Iterable[str]:
        """A candidate that is likelier to meet the targets than an answer that is not sure to."""
        if answer.chance is None or not answer.meets or answer.chance >= SURE:
            return
        demand = self.question.demand
        told = f"{self.pick.label} meets {demand.targets} with a probability of {percent(answer.chance)}"
        others = (r for r in self.pick.ranking if r.distance <= answer.distance and demand.names(r.candidate.label))
        surest = max(others, key=lambda r: r.nearness)
        if surest is answer:
            yield f"{told}; no other is surer"
        else:
            times = demand.objective.of(surest) / demand.objective.of(answer)
            worse = f"{times:.2f} times as much {demand.objective.measure}"
            yield f"{told}; {surest.candidate.label} does with {percent(surest.chance or 0.0)}, at {worse}"

    @property
    def _calibrate(self) -> str:
        return self.question.demand.command("calibrate", self.question.spec.name)


def _excess(ratio: float) -> str:
    """`4.7 % too long`, `2.9 times its target`."""
    more = 100 * (ratio - 1)
    return f"{more:.{more < 10:d}f} % too long" if ratio < 2 else f"{ratio:.1f} times its target"
