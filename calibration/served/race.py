"""race_served(): start the candidates as servers in rounds, put them under load, and keep each launch at once."""

import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.events import (
    CandidateOut,
    Event,
    LaunchBegan,
    LaunchEnded,
    RaceEnded,
    Reporter,
    RoundBegan,
    ServerBegan,
    ServerGivenUp,
)
from calibration.launch.checker import Checker, MakeReference, no_reference
from calibration.launch.launcher import Launcher
from calibration.launch.session import Session
from calibration.load.load import Load
from calibration.load.use import batch_of
from calibration.measurement import Agreement, Answered, Failure, FailureKind, Outcome, Served, Unserved
from calibration.race.bounds import Bounds
from calibration.race.known import resumable
from calibration.served.arms import arm_of, standings_of, values_of
from calibration.served.check import ServedChecker, known_verdicts
from calibration.served.known import KnownServed, known_served, levels_of
from calibration.served.launch import ServerLauncher
from calibration.served.pace import Pace
from calibration.served.place import Serving
from calibration.served.standings import LEADERS, Arm, Standings
from calibration.served.tally import ServedTally
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.launch_spec import LaunchSpec, Limits, Skipped, Subject


def race_served(
    candidates: Sequence[LaunchSpec],
    subject: Subject,
    serving: Serving,
    cache: Cache,
    store: ArtifactStore,
    reporter: Reporter[Event],
    *,
    reference: MakeReference = no_reference,
    bounds: Bounds | None = None,
    again: bool = False,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.monotonic,
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
    began, bounds = clock(), bounds or Bounds()
    deadline = Deadline(None, clock).within(bounds.budget_s)
    known = (
        KnownServed() if again else known_served(candidates, subject.identity, serving.loads, serving.hold.slots, cache)
    )
    cells = tuple(dict.fromkeys(map(batch_of, serving.loads)))
    agreements = {} if again else dict(resumable(candidates, subject.identity, cells, cache).agreements)
    with tempfile.TemporaryDirectory(prefix="autobackend-", ignore_cleanup_errors=True) as folder:
        session = Session(
            calibration_id=known.calibration_id or uuid.uuid4().hex,
            subject=subject,
            cells=cells,
            store=store,
            folder=Path(folder),
            reporter=reporter,
            limits=limits or Limits(),
            deadline=deadline,
        )
        checker = Checker(session=session, make_reference=reference, agreements=agreements)
        race = _Race(candidates, serving, session, checker, known, cache, bounds, reporter)
        ended = race.run()
    reporter.report(RaceEnded(why=ended))
    started = {outcome.candidate.label for outcome in race.outcomes}
    standings = race.standings
    return ServedTally(
        calibration_id=session.calibration_id,
        loads=serving.loads,
        outcomes=tuple(race.outcomes),
        fresh=frozenset(o.run_id for o in race.outcomes) - {o.run_id for o in known.launches},
        out=race.out,
        ended=ended,
        sureness=standings.sureness,
        picks=tuple(dict.fromkeys(arm.label for arm in standings.leaders())),
        unmeasured=tuple(spec.label for spec in candidates if spec.label not in started),
        check_s=checker.seconds + race.checks.seconds,
        seconds=clock() - began,
    )


class _Race:
    """The loop: who is next, check, serve, keep."""

    def __init__(
        self,
        candidates: Sequence[LaunchSpec],
        serving: Serving,
        session: Session,
        checker: Checker,
        known: KnownServed,
        cache: Cache,
        bounds: Bounds,
        reporter: Reporter[Event],
    ) -> None:
        self._specs = {spec.label: spec for spec in candidates}
        self._serving, self._session, self._cache = serving, session, cache
        self._bounds, self._reporter = bounds, reporter
        self._alone = Launcher(session=session, checker=checker)
        self._agreements = checker.agreements
        known_as_served = known_verdicts(known.launches)
        self.checks = ServedChecker(
            session=session, reporter=reporter, checker=checker, ask=serving.ask, agreements=known_as_served
        )
        """Of what is served."""
        self._servers = ServerLauncher(
            session=session, reporter=reporter, start=serving.start, measure=serving.measure, checks=self.checks
        )
        self._pace = Pace(session.deadline, bounds.shares, least_s=sum(load.least_s for load in serving.loads))
        self.outcomes: list[Outcome] = list(known.launches)
        self.out: dict[str, str] = {}
        self._unable = {o.candidate.label: o.message for o in known.launches if isinstance(o, Unserved)}
        """Candidate label: why it is not started again."""
        self._given_up = set[str]()
        """Labels of those whom the budget ended before they had shown anything."""

    @property
    def standings(self) -> Standings:
        """Where the arms stand."""
        return standings_of(
            [launch for launch in self._launches() if launch.candidate.label not in self._unable],
            self._serving,
            lossy=[label for label, spec in self._specs.items() if spec.variant.lossy],
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
                    if not self._pace.affords(arm):
                        return "budget"
                    self._take_turn(arm, number, arms[place + 1 :])
                if self._session.deadline.is_past():
                    return "budget"
            self._report_out(number)
            standing = [arm for arm in arms if self._stands(arm)]
            if self._given_up and not standing:
                return "budget"
            if why := self.standings.over(standing, number, self._bounds.rounds):
                whole = not self._serving.levels or self._levels(number + 1)
                self._report_out(number + 1)
                return why if whole else "budget"

    def _launches(self) -> list[Served]:
        """Those under the loads that were asked for."""
        slots = self._serving.hold.slots
        served = [o for o in self.outcomes if isinstance(o, Served) and o.slots == slots]
        return [launch for launch in served if values_of(launch, self._serving)]

    def _arms(self, number: int) -> list[Arm]:
        """Who is in a round, in order: first all, as they are expected to do; then the best first; at last the leaders
        that were launched once only.
        """
        threads = self._serving.hold.threads
        if number == 1:
            return [Arm(label=label, threads=threads) for label in self._specs if label not in self._unable]
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
        return arm in standings.history and arm not in standings.out() and arm.label not in self._unable

    def _is_done(self, arm: Arm, number: int) -> bool:
        return arm.label in self._unable or any(
            arm_of(launch) == arm and launch.round == number for launch in self._launches()
        )

    def _take_turn(self, arm: Arm, number: int, waiting: Sequence[Arm]) -> None:
        """Check a candidate where that is due, serve it and keep what comes of it."""
        clock, label = self._session.clock, arm.label
        agreement = self._verdict(label, number, self._pace.left_s(arm, waiting))
        if agreement is None:
            return
        began, left_s = clock(), self._pace.left_s(arm, waiting)
        hold = replace(self._serving.hold, threads=arm.threads)
        self._reporter.report(ServerBegan(candidate=label, slots=hold.slots, threads=hold.threads, left_s=left_s))
        share_s = self._pace.share_s(arm, waiting)
        left = self._servers.launch(self._specs[label], hold, self._serving.loads, number, agreement, share_s=share_s)
        if isinstance(left, Skipped):
            self._give_up(label)
            return
        self._pace.count(label, clock() - began)
        self._keep(left)

    def _verdict(self, label: str, number: int, left_s: float | None) -> Agreement | None:
        """On a candidate's output, of now or of an earlier launch; None where it is wrong or cannot be had."""
        spec = self._specs[label]
        if label not in self._agreements:
            self._reporter.report(LaunchBegan(candidate=label, left_s=left_s))
            outcome = self._alone.check(spec, number).outcome
            if isinstance(outcome, Skipped):
                self._give_up(label)
                return None
            self._keep([outcome])
            if not isinstance(outcome, Answered):
                return None
            self._agreements[label] = outcome.agreement  # also one that nothing could be compared for
            return outcome.agreement
        with suppress(GivenUp):
            # What it converts is there, or made now: a server that converted would be waited for in vain.
            if spec.variant.prepares:
                log = self._session.folder / f"{label.replace(':', '-')}.log"
                log.touch()
                self._session.converter.convert(spec, log, self._session.deadline)
        return self._agreements[label]

    def _give_up(self, label: str) -> None:
        self._given_up.add(label)
        self._reporter.report(ServerGivenUp(candidate=label, why=BUDGET_ENDED))

    def _keep(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            self.outcomes.append(outcome)
            self._cache.add(outcome)
            self._reporter.report(LaunchEnded(outcome=outcome))
            if isinstance(outcome, Failure):
                self._unable[outcome.candidate.label] = f"{outcome.kind} in {outcome.stage}"

    def _report_out(self, number: int) -> None:
        standings = self.standings
        remaining = {arm.label for arm in standings.history if self._stands(arm)}
        for arm, why in standings.out().items():
            if arm.label not in remaining and arm.label not in self.out:
                self.out[arm.label] = why
                self._reporter.report(CandidateOut(candidate=arm.label, number=number, why=why))
        self.out |= {label: why for label, why in self._unable.items() if label not in self.out}

    def _levels(self, number: int) -> bool:
        """Measure the leaders with one stream and with twice as many; whether there was time for it.

        A server that cannot hold twice as many fails at nothing that was asked for, so nothing is kept of that.
        """
        for arm in self.standings.leaders()[:LEADERS]:
            due = [load for load in _other_levels(self._serving.loads) if load not in self._levels_of(arm)]
            if not due:
                continue
            if not self._pace.affords(arm):
                return False
            hold = replace(
                self._serving.hold, threads=arm.threads, slots=max(self._serving.hold.slots, *(x.streams for x in due))
            )
            self._reporter.report(
                ServerBegan(
                    candidate=arm.label, slots=hold.slots, threads=hold.threads, left_s=self._pace.left_s(arm, ())
                )
            )
            left = self._servers.launch(self._specs[arm.label], hold, due, number, self._agreements[arm.label])
            match left:
                case Skipped():
                    self._reporter.report(ServerGivenUp(candidate=arm.label, why=BUDGET_ENDED))
                case [Unserved(message=message, kind=kind)] if kind is not FailureKind.WRONG_OUTPUT:
                    why = f"not with {hold.slots} slots: {message}"
                    self._reporter.report(ServerGivenUp(candidate=arm.label, why=why))
                case _:
                    self._keep([one for one in left if isinstance(one, Served) or one.kind is FailureKind.WRONG_OUTPUT])
            if self._session.deadline.is_past():
                return False
        return True

    def _levels_of(self, arm: Arm) -> set[Load]:
        launches = [o for o in self.outcomes if isinstance(o, Served)]
        return levels_of(launches, arm.label, arm.threads)


BUDGET_ENDED: Final = "the budget ended"


def _other_levels(loads: Sequence[Load]) -> list[Load]:
    """One stream, and twice as many as each closed loop asks for: with them its own level is bracketed."""
    levels = [replace(load, streams=n) for load in loads if load.closed for n in (1, 2 * load.streams)]
    return [level for level in dict.fromkeys(levels) if level not in loads]
