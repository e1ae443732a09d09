"""Turns: what becomes of a candidate whose turn it is; it is checked, served, and what it leaves is kept at once."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from calibration.events import LaunchBegan, LaunchEnded, ServerBegan, ServerGivenUp
from calibration.launch.launcher import Launcher
from calibration.launch.workshop import Workshop
from calibration.load.load import Load
from calibration.measurement import Agreement, Answered, Failure, FailureKind, Outcome, Served, Unserved
from calibration.served.check import ServedChecker, known_verdicts
from calibration.served.known import KnownServed, levels_of
from calibration.served.launch import ServerLauncher
from calibration.served.pace import Pace
from calibration.served.place import Serving
from calibration.served.standings import Arm
from calibration.supervision.deadline import GivenUp
from calibration.supervision.launch_spec import LaunchSpec, Skipped

BUDGET_ENDED: Final = "the budget ended"


class Turns:
    """Of one race.

    Args:
        alone: launches engines without a server, to check their output.
        known: what earlier runs left.
        shares: see Pace.
    """

    def __init__(
        self,
        candidates: Sequence[LaunchSpec],
        serving: Serving,
        alone: Launcher,
        known: KnownServed,
        workshop: Workshop,
        *,
        shares: float,
    ) -> None:
        self.specs = {spec.label: spec for spec in candidates}
        session, reporter = alone.session, workshop.reporter
        self._serving, self._session, self._alone = serving, session, alone
        self._cache, self._reporter = workshop.cache, reporter
        self._agreements = alone.checker.agreements
        known_as_served = known_verdicts(known.launches)
        self.checks = ServedChecker(
            session=session, reporter=reporter, checker=alone.checker, ask=serving.ask, agreements=known_as_served
        )
        """Of what is served."""
        self._servers = ServerLauncher(
            session=session, reporter=reporter, start=serving.start, measure=serving.measure, checks=self.checks
        )
        self._pace = Pace(session.deadline, shares, least_s=sum(load.least_s for load in serving.loads))
        self.outcomes: list[Outcome] = list(known.launches)
        self.unable = {o.candidate.label: _why_unable(o) for o in known.launches if isinstance(o, Unserved)}
        """Candidate label: why it is not started again."""
        self.given_up = set[str]()
        """Labels of those whom the budget ended before they had shown anything."""

    def affords(self, arm: Arm) -> bool:
        """Whether a launch will probably end in time."""
        return self._pace.affords(arm)

    def take(self, arm: Arm, number: int, waiting: Sequence[Arm]) -> None:
        """Check a candidate where that is due, serve it and keep what comes of it."""
        clock, label = self._session.clock, arm.label
        agreement = self._verdict(label, number, self._pace.left_s(arm, waiting))
        if agreement is None:
            return
        began, left_s = clock(), self._pace.left_s(arm, waiting)
        hold = replace(self._serving.hold, threads=arm.threads)
        self._reporter.report(ServerBegan(candidate=label, slots=hold.slots, threads=hold.threads, left_s=left_s))
        share_s = self._pace.share_s(arm, waiting)
        left = self._servers.launch(self.specs[label], hold, self._serving.loads, number, agreement, share_s=share_s)
        if isinstance(left, Skipped):
            self._give_up(label)
            return
        self._pace.count(label, clock() - began)
        self._keep(left)

    def take_levels(self, arm: Arm, due: Sequence[Load], number: int) -> None:
        """Serve a candidate under other levels of the loads that were asked for, with as many slots as these need.

        A server that cannot hold so many fails at nothing that was asked for, so nothing is kept of that.
        """
        label, left_s = arm.label, self._pace.left_s(arm, ())
        agreement = self._verdict(label, number, left_s)
        if agreement is None:
            return
        slots = max(self._serving.hold.slots, *(load.streams for load in due))
        hold = replace(self._serving.hold, threads=arm.threads, slots=slots)
        self._reporter.report(ServerBegan(candidate=label, slots=hold.slots, threads=hold.threads, left_s=left_s))
        left = self._servers.launch(self.specs[label], hold, due, number, agreement)
        match left:
            case Skipped():
                self._reporter.report(ServerGivenUp(candidate=label, why=BUDGET_ENDED))
            case [Unserved(message=message, kind=kind)] if kind is not FailureKind.WRONG_OUTPUT:
                why = f"not with {hold.slots} slots: {message}"
                self._reporter.report(ServerGivenUp(candidate=label, why=why))
            case _:
                self._keep([one for one in left if isinstance(one, Served) or one.kind is FailureKind.WRONG_OUTPUT])

    def levels_of(self, arm: Arm) -> set[Load]:
        """The loads that an arm has taken."""
        launches = [o for o in self.outcomes if isinstance(o, Served)]
        return levels_of(launches, arm.label, arm.threads)

    def _verdict(self, label: str, number: int, left_s: float | None) -> Agreement | None:
        """On a candidate's output, of now or of an earlier launch; None where it is wrong or cannot be had."""
        spec = self.specs[label]
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
        with suppress(GivenUp):  # the server then fails for the same reason, and that is kept
            # What it converts is there, or made now: a server that converted would be waited for in vain.
            if spec.variant.prepares:
                log = self._session.folder / f"{label.replace(':', '-')}.log"
                log.touch()
                self._session.converter.convert(spec, log, self._session.deadline)
        return self._agreements[label]

    def _give_up(self, label: str) -> None:
        self.given_up.add(label)
        self._reporter.report(ServerGivenUp(candidate=label, why=BUDGET_ENDED))

    def _keep(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            self.outcomes.append(outcome)
            self._cache.add(outcome)
            self._reporter.report(LaunchEnded(outcome=outcome))
            if isinstance(outcome, Failure):
                self.unable[outcome.candidate.label] = _why_unable(outcome)


def _why_unable(failure: Failure) -> str:
    return f"{failure.kind} in {failure.stage}"
