"""race_served(): start the candidates as servers in rounds, put them under load, and keep each launch at once."""

import uuid
from collections.abc import Sequence
from dataclasses import replace

from calibration.events import (
    CandidateOut,
    Event,
    RaceEnded,
    Reporter,
    RoundBegan,
)
from calibration.launch.checker import MakeReference, no_reference
from calibration.launch.session import Session
from calibration.launch.workshop import Workshop
from calibration.load.load import Load
from calibration.load.use import batch_of
from calibration.measurement import Served
from calibration.race.bounds import Bounds
from calibration.race.known import resumable
from calibration.served.arms import arm_of, standings_of, values_of
from calibration.served.known import KnownServed, known_served
from calibration.served.place import Serving
from calibration.served.standings import LEADERS, Arm, Standings
from calibration.served.tally import ServedTally
from calibration.served.turns import Turns
from calibration.supervision.launch_spec import LaunchSpec, Subject


def race_served(
    candidates: Sequence[LaunchSpec],
    subject: Subject,
    serving: Serving,
    workshop: Workshop,
    *,
    reference: MakeReference = no_reference,
    bounds: Bounds | None = None,
    again: bool = False,
) -> ServedTally:
    """Race the candidates as servers; every launch is in the cache before the next one begins.

    Each is checked first, where its output was not yet compared with the reference's, and once more as it is served:
    who answers wrong there takes no load. Who cannot be within the band of the best any more is not started again, and
    it is over once the best is known as surely as `bounds` asks for; or all take all rounds (`serving.full`). At the
    end the leaders take one stream and twice as many as were asked for, too, so that what lies between can be told,
    unless `serving` says that they do not.

    Args:
        candidates: who is expected to be best comes first.
        bounds: nothing is begun that is not expected to end within the budget.
    """
    began, bounds, cache = workshop.clock(), bounds or Bounds(), workshop.cache
    deadline = workshop.deadline(bounds.budget_s)
    known = (
        KnownServed() if again else known_served(candidates, subject.identity, serving.loads, serving.hold.slots, cache)
    )
    cells = tuple(dict.fromkeys(map(batch_of, serving.loads)))
    agreements = {} if again else dict(resumable(candidates, subject.identity, cells, cache).agreements)
    with workshop.folder() as folder:
        alone = workshop.launcher(
            subject,
            cells,
            calibration_id=known.calibration_id or uuid.uuid4().hex,
            folder=folder,
            deadline=deadline,
            reference=reference,
            agreements=agreements,
        )
        turns = Turns(candidates, serving, alone, known, workshop, shares=bounds.shares)
        race = _Race(turns, serving, alone.session, bounds, workshop.reporter)
        ended = race.run()
    workshop.reporter.report(RaceEnded(why=ended))
    started = {outcome.candidate.label for outcome in turns.outcomes}
    standings = race.standings
    return ServedTally(
        calibration_id=alone.session.calibration_id,
        loads=serving.loads,
        outcomes=tuple(turns.outcomes),
        fresh=frozenset(o.run_id for o in turns.outcomes) - {o.run_id for o in known.launches},
        out=race.out,
        ended=ended,
        sureness=standings.sureness,
        picks=tuple(dict.fromkeys(arm.label for arm in standings.leaders())),
        unmeasured=tuple(spec.label for spec in candidates if spec.label not in started),
        check_s=alone.checker.seconds + turns.checks.seconds,
        seconds=workshop.clock() - began,
    )


class _Race:
    """The loop: whose turn it is, who is out, and whether it is over."""

    def __init__(
        self, turns: Turns, serving: Serving, session: Session, bounds: Bounds, reporter: Reporter[Event]
    ) -> None:
        self._turns, self._serving, self._session = turns, serving, session
        self._bounds, self._reporter = bounds, reporter
        self.out: dict[str, str] = {}

    @property
    def standings(self) -> Standings:
        """Where the arms stand."""
        return standings_of(
            [launch for launch in self._launches() if launch.candidate.label not in self._turns.unable],
            self._serving,
            lossy=[label for label, spec in self._turns.specs.items() if spec.variant.lossy],
            device_kind=self._session.subject.device,
            sure=self._bounds.sure,
        )

    def run(self) -> str:
        """Race; returns why it ended."""
        number = 0
        while True:
            number += 1
            arms = self._arms(number)
            self._reporter.report(
                RoundBegan(
                    number=number, of=max(number, self._bounds.rounds), candidates=tuple(arm.label for arm in arms)
                )
            )
            for place, arm in enumerate(arms):
                if not self._is_done(arm, number):
                    if not self._turns.affords(arm):
                        return "budget"
                    self._turns.take(arm, number, arms[place + 1 :])
                if self._session.deadline.is_past():
                    return "budget"
            self._report_out(number)
            standing = [arm for arm in arms if self._stands(arm)]
            if self._turns.given_up and not standing:
                return "budget"
            if why := self.standings.over(standing, number, self._bounds.rounds):
                whole = not self._serving.levels or self._levels(number + 1)
                self._report_out(number + 1)
                return why if whole else "budget"

    def _launches(self) -> list[Served]:
        """Those under the loads that were asked for."""
        slots = self._serving.hold.slots
        served = [o for o in self._turns.outcomes if isinstance(o, Served) and o.slots == slots]
        return [launch for launch in served if values_of(launch, self._serving)]

    def _arms(self, number: int) -> list[Arm]:
        """Who is in a round, in order: first all, as they are expected to do; then the best first; at last the leaders
        that were launched once only.
        """
        threads = self._serving.hold.threads
        if number == 1:
            return [Arm(label=label, threads=threads) for label in self._turns.specs if label not in self._turns.unable]
        standings = self.standings
        if number > self._bounds.rounds:
            return standings.short(self._bounds.rounds)
        arms = [arm for arm in standings.ordered() if self._stands(arm)]
        if self._serving.fewer_threads and threads > 1:
            for leader in standings.leaders():
                other = Arm(label=leader.label, threads=threads - 1)
                if other not in standings.history and leader.threads == threads:
                    arms.insert(arms.index(leader) + 1, other)
        return arms

    def _stands(self, arm: Arm) -> bool:
        standings = self.standings
        return arm in standings.history and arm not in standings.out() and arm.label not in self._turns.unable

    def _is_done(self, arm: Arm, number: int) -> bool:
        return arm.label in self._turns.unable or any(
            arm_of(launch) == arm and launch.round == number for launch in self._launches()
        )

    def _report_out(self, number: int) -> None:
        standings = self.standings
        remaining = {arm.label for arm in standings.history if self._stands(arm)}
        for arm, why in standings.out().items():
            if arm.label not in remaining and arm.label not in self.out:
                self.out[arm.label] = why
                self._reporter.report(CandidateOut(candidate=arm.label, number=number, why=why))
        self.out |= {label: why for label, why in self._turns.unable.items() if label not in self.out}

    def _levels(self, number: int) -> bool:
        """Measure the leaders with one stream and with twice as many; whether there was time for it."""
        for arm in self.standings.leaders()[:LEADERS]:
            due = [load for load in _other_levels(self._serving.loads) if load not in self._turns.levels_of(arm)]
            if not due:
                continue
            if not self._turns.affords(arm):
                return False
            self._turns.take_levels(arm, due, number)
            if self._session.deadline.is_past():
                return False
        return True


def _other_levels(loads: Sequence[Load]) -> list[Load]:
    """One stream, and twice as many as each closed loop asks for: with them its own level is bracketed."""
    levels = [replace(load, streams=n) for load in loads if load.closed for n in (1, 2 * load.streams)]
    return [level for level in dict.fromkeys(levels) if level not in loads]
