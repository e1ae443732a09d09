"""What is said beside an answer: what it lacks, and what is good to know."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from calibration.load.use import title_of
from calibration.measurement import OutputVerdict
from selector.answer import Source
from selector.choice.larger_batch import larger_batch
from selector.choice.met import foretold, surest, unmet
from selector.choice.picked import Pick
from selector.demand.objective import Objective
from selector.demand.targets import percent, seconds
from selector.evidence.inherited import Inherited, inherited
from selector.evidence.provenance import Provenance
from selector.predict.prediction import Predicted
from selector.question import Known, Question
from selector.served.arms import Way
from selector.served.ranking import ServedRanked


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What a selection says beside its answer."""

    question: Question
    known: Known
    pick: Pick
    provenance: tuple[Provenance, ...] = ()

    def warnings(self) -> Iterable[str]:
        """What the answer lacks, each with the command that mends it."""
        name, label, known = self.question.spec.name, self.pick.label, self.known.evidence
        if self._served is not None:
            yield from self._of_served(self._served)
            return
        if self.question.demand.loads:
            yield self._not_served()
        failure = known.failed.get(label)
        if failure:
            when = " with other versions" if label in known.outdated else ""
            yield f"{label} failed here{when}: {failure.kind}, {failure.message}. Measure again: {self._calibrate}"
        elif self.pick.source is Source.STALE:
            changed = ", ".join(known.stale[label].differences)
            yield f"{label} was measured with other versions ({changed}). Measure again: {self._calibrate}"
        elif not self.question.demand.forced:
            yield from self._not_measured()
        if self.question.demand.targets and self.pick.ranked is None:
            chance = foretold(self.question, self.pick)
            chance = chance or f"whether {label} meets {self.question.demand.targets} is not known"
            yield f"{chance}. Measure it: {self._calibrate}"
        elif missed := unmet(self.question, self.pick):
            yield missed
        if self.pick.source in {Source.MEASURED, Source.STALE} and (origin := known.unchecked.get(label)):
            yield f"{label} was {origin}; its output is unchecked for {name}. Check it: {self._calibrate}"

    def notes(self) -> Iterable[str]:
        """What is good to know beside the answer."""
        origin, ranked = self.pick.origin, self.pick.ranked
        if replay := self.question.demand.replay_of(self.question.demand.use):
            yield from replay.sentences()
        yield from self._of_fleet()
        if self._served is not None:
            yield from self._way(self._served)
            return
        if origin is not None:
            name, here = self.question.spec.name, origin.identity.host == self.question.host.identifier
            where = "here" if here else "on another host with the same device"
            this = f", not {self.question.host.where}" if origin.model == name else f"; {name} was not"
            yield f"{origin.model} was measured {where}{this}"
        if self.question.demand.forced and self.pick.ranked is None and (row := self.pick.expected):
            yield f"{self.pick.label} was never measured on {self._place}; it is predicted to {self._take(row)}"
        if ranked is not None:
            yield from surest(self.question, self.pick, ranked)
            yield from larger_batch(self.question.demand, self.question.spec.name, self.pick.ranking, ranked)
        if self.pick.source is not Source.MEASURED or ranked is None:
            return
        for s in self.pick.stale:
            if s.e2e_s is not None and s.e2e_s < ranked.e2e_s:
                changed = ", ".join(s.differences)
                yield f"{s.candidate.label} was faster before {changed}. Measure it again: {self._calibrate}"

    def _of_fleet(self) -> Iterable[str]:
        """That launches behind the answer are the fleet's, of which host and how old."""
        launches = sum(part.launches for part in self.provenance)
        for part in self.provenance:
            if part.level.name == "fleet":
                made_at = part.level.made_at
                snapshot = "" if made_at is None else f"; the snapshot is of {_day(made_at)}"
                yield (
                    f"{part.launches} of {launches} launches of {self.pick.label} were read from the fleet's cache"
                    f" {part.level.location} (host {part.host}, the newest of {_day(part.newest)}{snapshot})"
                )

    @property
    def _served(self) -> ServedRanked | None:
        """The answer as it was served under load; None where it stands on something else."""
        return self.pick.served[0] if self.pick.served else None

    def _of_served(self, answer: ServedRanked) -> Iterable[str]:
        """What an answer lacks that was measured under load."""
        label, name, asked = self.pick.label, self.question.spec.name, self.question.demand.use
        if answer.load != asked:
            yield (
                f"{title_of(asked)} was not measured as served {self.question.host.where}; this is the answer for"
                f" another part of it, {answer.load.title}. Measure it: {self._calibrate}"
            )
        if self.pick.source is Source.STALE:
            changed = ", ".join(self.known.served().stale[label].differences)
            yield f"{label} was served with other versions ({changed}). Measure again: {self._calibrate}"
        if answer.agreement.verdict is OutputVerdict.UNCHECKED:
            why = answer.agreement.detail
            yield f"the output of {label} is unchecked for {name} ({why}). Check it: {self._calibrate}"
        elif answer.as_served.verdict is OutputVerdict.UNCHECKED:
            why = answer.as_served.detail
            yield f"{label} was not checked as served ({why}). Check it: {self.question.calibrate_command('--again')}"
        if missed := unmet(self.question, self.pick):
            yield missed

    def _not_served(self) -> str:
        """That what follows is about a batch."""
        demand = self.question.demand
        return (
            f"{title_of(demand.use)} was not measured as served {self.question.host.where}; this is the answer for the"
            f" static batch {demand.workload.label}. Measure it: {self._calibrate}"
        )

    def _way(self, answer: ServedRanked) -> Iterable[str]:
        """That the figures are not of this very load, and how far they may be off."""
        if answer.way is Way.MEASURED:
            return
        off = "by how much nobody knows" if answer.error is None else f"by {percent(answer.error)} at a measured level"
        yield (
            f"{answer.load.title} is {answer.way} from other numbers of streams, which is off {off}."
            f" Measure it: {self._calibrate}"
        )

    def _not_measured(self) -> Iterable[str]:
        """That the whole model was never measured here, and what the answer stands on instead."""
        name, label, prediction = self.question.spec.name, self.pick.label, self.pick.prediction
        match self.pick.source:
            case Source.RULES if self.question.demand.objective is Objective.MEMORY:
                why = "nothing tells what it will take of memory, so this is the static order"
                yield f"{name} was never measured on {self._place}; {why}. Measure it: {self._calibrate}"
            case Source.RULES:
                why = "nothing is known of a model and a host like these, so this is the static order"
                yield f"{name} was never measured on {self._place}; {why}. Measure it: {self._calibrate}"
            case Source.PREDICTED if prediction and (row := self.pick.expected):
                learned = f"{_count(prediction.models, 'model')} on {_count(prediction.hosts, 'host')}"
                yield (
                    f"{name} was never measured on {self._place}; by launches of {learned}, {label} is predicted to"
                    f" {self._take(row)}, and is the best with a probability of {percent(row.p_best)}."
                    f" Make sure: {self._calibrate}"
                )
            case Source.LAYERS:
                where = f"{label} was measured on {self.known.evidence.layers[label][0].rung}"
                takes = f"; the whole is predicted to {self._take(row)}" if (row := self.pick.expected) else ""
                yield f"{where} of {name} alone{takes}. Make sure: {self.question.calibrate_command('--full')}"
            case _:
                pass

    def inherited(self) -> Inherited | None:
        """What the answer rests on where another host gave it for this very shape; None of other answers.

        Raises:
            CacheError: the cache cannot be read.
        """
        question, origin = self.question, self.pick.origin
        here = question.identity
        if origin is None or origin.identity.fingerprint != here.fingerprint or origin.identity.host == here.host:
            return None
        return inherited(
            question.cache,
            here,
            origin.identity.host,
            kind=question.host.device.kind,
            workload=question.demand.workload,
        )

    def _take(self, row: Predicted) -> str:
        """`take 12.3 s (10.1 to 15 s)`, where the interval is what 90 % of launches take."""
        low, high = row.ci90
        first = self.question.demand.objective is Objective.TTFT
        time = f"{seconds(row.ttft_s if first else row.e2e_s)} ({seconds(low).removesuffix(' s')} to {seconds(high)})"
        return f"give the first token after {time}" if first else f"take {time}"

    @property
    def _place(self) -> str:
        return self.question.host.place

    @property
    def _calibrate(self) -> str:
        return self.question.calibrate_command()


def _day(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).date().isoformat()


def _count(names: Sequence[str], word: str) -> str:
    return f"{len(names)} {word}{'s' * (len(names) != 1)}"
