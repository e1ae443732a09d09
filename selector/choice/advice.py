"""What is said beside an answer: what it lacks, and what is good to know."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from calibration.load.use import title_of
from calibration.measurement import OutputVerdict
from calibration.race.bounds import BAND
from selector.answer import Source
from selector.choice.candidates import Candidates
from selector.choice.expectation import expect
from selector.choice.larger_batch import larger_batch
from selector.choice.pick import Pick
from selector.context import Known, Question
from selector.demand.objective import Objective
from selector.demand.targets import LIKELY, SURE, percent
from selector.evidence.inherited import Inherited, inherited
from selector.evidence.provenance import Provenance
from selector.evidence.ranking import Ranked
from selector.predict.prediction import Predicted
from selector.served.arms import Way
from selector.served.ranking import ServedRanked

REAL = 0.5
"""From this probability on a candidate that was not measured is named as one that may be faster than the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What a selection says beside its answer."""

    question: Question
    known: Known
    candidates: Candidates
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
            told = self._targets_predicted() or f"whether {label} meets {self.question.demand.targets} is not known"
            yield f"{told}. Measure it: {self._calibrate}"
        elif unmet := self.unmet():
            yield unmet
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
            here = origin.identity.host == self.question.host.identifier
            where = "here" if here else "on another host with the same device"
            yield f"{origin.model} was measured {where}; {self.question.spec.name} was not"
        if self.question.demand.forced and self.pick.ranked is None and (row := self._expected):
            yield f"{self.pick.label} was never measured on {self._place}; it is predicted to {self._take(row)}"
        if ranked is not None:
            yield from self._surest(ranked)
            yield from larger_batch(self.question.demand, self.question.spec.name, self.pick.ranking, ranked)
        if self.pick.source is not Source.MEASURED or ranked is None:
            return
        for s in self.pick.stale:
            if s.e2e_s is not None and s.e2e_s < ranked.e2e_s:
                changed = ", ".join(s.differences)
                yield f"{s.candidate.label} was faster before {changed}. Measure it again: {self._calibrate}"

    def unmet(self) -> str | None:
        """That the answer is not likely to meet the targets; None where it is, or where that is not known."""
        if self._served is not None:
            return None if self._served.meets else self._missed_under_load(self._served)
        if self.pick.ranked is not None:
            return None if self.pick.ranked.meets else self._missed(self.pick.ranked)
        row = self._expected
        return self._targets_predicted() if row and row.chance is not None and row.chance < LIKELY else None

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
                f"{title_of(asked)} was not measured as served {self._there}; this is the answer for another part of"
                f" it, {answer.load.title}. Measure it: {self._calibrate}"
            )
        if self.pick.source is Source.STALE:
            changed = ", ".join(self.known.served().stale[label].differences)
            yield f"{label} was served with other versions ({changed}). Measure again: {self._calibrate}"
        if answer.agreement.verdict is OutputVerdict.UNCHECKED:
            why = answer.agreement.detail
            yield f"the output of {label} is unchecked for {name} ({why}). Check it: {self._calibrate}"
        elif answer.as_served.verdict is OutputVerdict.UNCHECKED:
            why = answer.as_served.detail
            yield f"{label} was not checked as served ({why}). Check it: {self._calibrate} --again"
        if unmet := self.unmet():
            yield unmet

    def _not_served(self) -> str:
        """That what follows is about a batch."""
        demand = self.question.demand
        return (
            f"{title_of(demand.use)} was not measured as served {self._there}; this is the answer for the static batch"
            f" {demand.workload.label}. Measure it: {self._calibrate}"
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

    def _missed_under_load(self, answer: ServedRanked) -> str:
        targets, figures = self.question.demand.targets, answer.figures
        misses = [
            f"{name} p95 of {_seconds(time)} is {_excess(time / target)}"
            for name, target, time in targets.against(figures.ttft_p95_s, figures.tpot_p95_s)
            if time > target
        ]
        told = " and its ".join(misses) or "medians do, but most of its launches miss one"
        who = "does not meet" if self.question.demand.forced else "is the nearest, and does not meet"
        return (
            f"{self.pick.label} {who} {targets}: its {told} under {answer.load.title}"
            f" ({percent(answer.chance or 0.0)} likely to meet)"
        )

    def _missed(self, answer: Ranked) -> str:
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
            case Source.PREDICTED if prediction and (row := self._expected):
                learned = f"{_count(prediction.models, 'model')} on {_count(prediction.hosts, 'host')}"
                yield (
                    f"{name} was never measured on {self._place}; by launches of {learned}, {label} is predicted to"
                    f" {self._take(row)}, and is the best with a probability of {percent(row.p_best)}."
                    f" Make sure: {self._calibrate}"
                )
            case Source.LAYERS:
                where = f"{label} was measured on {self.known.evidence.layers[label][0].rung}"
                takes = f"; the whole is predicted to {self._take(row)}" if (row := self._expected) else ""
                yield f"{where} of {name} alone{takes}. Make sure: {self._calibrate} --full"
            case _:
                pass

    def _targets_predicted(self) -> str | None:
        """Whether the answer is expected to meet the targets; None where nothing is predicted."""
        targets, label, row = self.question.demand.targets, self.pick.label, self._expected
        if row is None:
            return None
        verb = "meet" if (row.chance or 0.0) >= LIKELY else "miss"
        times = f"TTFT {_seconds(row.ttft_s)}, TPOT {_seconds(row.tpot_s)}; {percent(row.chance or 0.0)} likely to meet"
        return f"{label} is predicted to {verb} {targets} ({times}), not measured"

    def promising(self) -> str | None:
        """That a candidate which was not measured is predicted to be faster than the answer, which was; else None.

        Raises:
            CacheError: the cache cannot be read.
        """
        if self.pick.served or self.pick.source not in {Source.MEASURED, Source.LAYERS}:
            return None
        here = self.known.evidence
        untold = [label for label in self.candidates.allowed if not here.tells_of(label)]
        prediction = untold and expect(self.question, self.known, [self.pick.label, *untold])
        if not prediction:
            return None
        rows = {row.candidate: row for row in prediction.predicted}
        likely = max((row for row in prediction.predicted if row.candidate in untold), key=lambda row: row.p_best)
        if self.pick.label not in rows:
            return None
        pair = expect(self.question, self.known, [self.pick.label, likely.candidate])
        row = next(row for row in pair.predicted if row.candidate == likely.candidate) if pair else likely
        times = self._value(rows[self.pick.label]) / self._value(row)
        if row.p_best < REAL or times <= 1 + BAND:
            return None
        return (
            f"{row.candidate} was not measured; it is predicted to be {times:.2g} times faster"
            f" (P {min(row.p_best, 0.99):.2g}). Measure it: {self._calibrate}"
        )

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

    def _value(self, row: Predicted) -> float:
        return row.ttft_s if self.question.demand.objective is Objective.TTFT else row.e2e_s

    def _take(self, row: Predicted) -> str:
        """`take 12.3 s (10.1 to 15 s)`, where the interval is what 90 % of launches take."""
        low, high = row.ci90
        first = self.question.demand.objective is Objective.TTFT
        told = f"{_seconds(self._value(row))} ({_seconds(low).removesuffix(' s')} to {_seconds(high)})"
        return f"give the first token after {told}" if first else f"take {told}"

    @property
    def _expected(self) -> Predicted | None:
        rows = self.pick.prediction.predicted if self.pick.prediction else ()
        return next((row for row in rows if row.candidate == self.pick.label), None)

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
    def _place(self) -> str:
        return self.question.host.place

    @property
    def _there(self) -> str:
        return "here" if self.question.host.what_if is None else f"on {self._place}"

    @property
    def _calibrate(self) -> str:
        command = self.question.demand.command("calibrate", self.question.spec.name)
        return command if self.question.host.what_if is None else f"{command} (on that machine)"


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value < 999.5 else f"{value:.0f} s"


def _day(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).date().isoformat()


def _count(names: Sequence[str], word: str) -> str:
    return f"{len(names)} {word}{'s' * (len(names) != 1)}"


def _excess(ratio: float) -> str:
    """`4.7 % too long`, `2.9 times its target`."""
    more = 100 * (ratio - 1)
    return f"{more:.{more < 10:d}f} % too long" if ratio < 2 else f"{ratio:.1f} times its target"
