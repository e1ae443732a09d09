"""What is said beside an answer: warnings and notes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from selector.answer import Source, Stale
from selector.demand import Demand
from selector.evidence import Elsewhere, Evidence
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.ranking import Ranked


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What a selection says beside its answer."""

    spec: ModelSpec
    host: HostSpec
    demand: Demand
    pick: str
    source: Source
    origin: Elsewhere | None
    known: Evidence
    ranking: tuple[Ranked, ...]

    def warnings(self) -> Iterable[str]:
        """What the answer lacks, each with the command that mends it."""
        again = self.demand.command("calibrate", self.spec.name)
        failure = self.known.failed.get(self.pick)
        if failure:
            when = " with other versions" if self.pick in self.known.outdated else ""
            yield f"{self.pick} failed here{when}: {failure.kind}, {failure.message}. Measure again: {again}"
        elif self.source is Source.STALE:
            changed = ", ".join(self.known.stale[self.pick].differences)
            yield f"{self.pick} was measured with other versions ({changed}). Measure again: {again}"
        elif self.source is Source.RULES and not self.demand.forced:
            yield f"{self.spec.name} was never measured on this host; this is the static order. Measure it: {again}"
        if self.source in {Source.MEASURED, Source.STALE} and (origin := self.known.unchecked.get(self.pick)):
            unchecked = f"its output is unchecked for {self.spec.name}"
            yield f"{self.pick} was {origin}; {unchecked}. Check it: {again}"

    def notes(self, stale: Sequence[Stale]) -> Iterable[str]:
        """What is good to know beside the answer."""
        if self.origin is not None:
            here = self.origin.identity.host == self.host.identifier
            where = "here" if here else "on another host with the same device"
            yield f"{self.origin.model} was measured {where}; {self.spec.name} was not"
        chosen = next((r for r in self.ranking if r.candidate.label == self.pick), None)
        if self.source is Source.MEASURED and chosen:
            for s in stale:
                if s.e2e_s is not None and s.e2e_s < chosen.e2e_s:
                    yield (
                        f"{s.candidate.label} was faster before {', '.join(s.differences)}."
                        f" Measure it again: {self.demand.command('calibrate', self.spec.name)}"
                    )
