"""What is said beside an answer: what it lacks, and what is good to know."""

from collections.abc import Iterable
from dataclasses import dataclass

from selector.answer import Source
from selector.choice.pick import Pick
from selector.context import Question
from selector.evidence import Evidence


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
        if self.pick.source in {Source.MEASURED, Source.STALE} and (origin := known.unchecked.get(label)):
            yield f"{label} was {origin}; its output is unchecked for {name}. Check it: {self._calibrate}"

    def notes(self) -> Iterable[str]:
        """What is good to know beside the answer."""
        origin, ranked = self.pick.origin, self.pick.ranked
        if origin is not None:
            here = origin.identity.host == self.question.host.identifier
            where = "here" if here else "on another host with the same device"
            yield f"{origin.model} was measured {where}; {self.question.spec.name} was not"
        if self.pick.source is not Source.MEASURED or ranked is None:
            return
        for s in self.pick.stale:
            if s.e2e_s is not None and s.e2e_s < ranked.e2e_s:
                changed = ", ".join(s.differences)
                yield f"{s.candidate.label} was faster before {changed}. Measure it again: {self._calibrate}"

    @property
    def _calibrate(self) -> str:
        return self.question.demand.command("calibrate", self.question.spec.name)
