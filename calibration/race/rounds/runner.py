"""calibrate(): race the candidates, and keep every launch before the next one begins."""

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from calibration.cache.cache import Cache
from calibration.conversion.convert import Original, converting_s
from calibration.conversion.store import ArtifactStore
from calibration.events import Event, LaunchBegan, LaunchEnded, LaunchGivenUp, RaceEnded, Reporter, RoundBegan
from calibration.launch.checker import Checker, MakeReference, no_reference
from calibration.launch.launcher import Launcher
from calibration.launch.session import Session
from calibration.measurement import Answered, Measurement
from calibration.race.bounds import Bounds
from calibration.race.known import Known, resumable
from calibration.race.rounds.budget import Budget
from calibration.race.rounds.state import Race
from calibration.race.tally import Tally
from calibration.supervision.deadline import Deadline
from calibration.supervision.launch_spec import LaunchSpec, Limits, Skipped, Subject
from calibration.workload import Workload


def calibrate(
    candidates: Sequence[LaunchSpec],
    subject: Subject,
    cells: Sequence[Workload],
    cache: Cache,
    store: ArtifactStore,
    reporter: Reporter[Event],
    *,
    reference: MakeReference = no_reference,
    bounds: Bounds | None = None,
    again: bool = False,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Tally:
    """Race the candidates in rounds; every launch is in the cache before the next one begins.

    A calibration that was interrupted goes on: its launches are taken from the cache, and only what is missing or stale
    is measured. One that had ended is answered from the cache, unless `again`. Where another model of the same shape
    was timed with today's versions, its times are taken, and each candidate is launched once, for its output alone.

    Args:
        candidates: in the static order.
        cells: the workloads that are measured of each.
        reference: makes (or finds) the reference's answers; called once, before the first check.
        bounds: a launch that the budget, or its share of the budget, ends keeps the cells that it has timed. A
            conversion and the reference do not count to a launch's share: later ones need not do them again.
    """
    began, bounds = clock(), bounds or Bounds()
    known = Known() if again else resumable(candidates, subject.identity, cells, cache)
    race = Race(candidates, known, cells=len(cells), bounds=bounds)
    budget = Budget(bounds, clock, partial(converting_s, original=Original.of(subject), store=store))
    with tempfile.TemporaryDirectory(prefix="autobackend-", ignore_cleanup_errors=True) as folder:
        session = Session(
            calibration_id=race.calibration_id,
            subject=subject,
            cells=tuple(cells),
            store=store,
            folder=Path(folder),
            reporter=reporter,
            limits=limits or Limits(),
            deadline=Deadline(budget.deadline, clock),
        )
        checker = Checker(session=session, make_reference=reference, agreements=dict(known.agreements))
        launcher = Launcher(session=session, checker=checker)
        while not race.ended:
            race.begin_round()
            reporter.report(RoundBegan(number=race.round, of=bounds.rounds, candidates=race.order))
            while spec := race.next_launch():
                if budget.allows(spec):
                    _launch(spec, launcher, race, budget, cache, reporter)
            for out in race.end_round(budget_spent=budget.spent):
                reporter.report(out)
    reporter.report(RaceEnded(why=race.ended))
    measured = {o.candidate.label for o in race.outcomes}
    fresh = race.outcomes[len(known.launches) :]
    return Tally(
        calibration_id=race.calibration_id,
        outcomes=tuple(race.outcomes),
        fresh=frozenset(o.run_id for o in fresh),
        agreements={**known.agreements, **{o.candidate.label: o.agreement for o in fresh if isinstance(o, Answered)}},
        out=race.out,
        ended=race.ended,
        unmeasured=tuple(spec.label for spec in candidates if spec.label not in measured),
        check_s=checker.seconds,
        seconds=clock() - began,
    )


def _launch(
    spec: LaunchSpec, launcher: Launcher, race: Race, budget: Budget, cache: Cache, reporter: Reporter[Event]
) -> None:
    """Launch a candidate, keep what comes of it, and report it."""
    reporter.report(LaunchBegan(candidate=spec.label, left_s=budget.remaining_s(spec, race)))
    share_s, upcoming = budget.share_s(spec, race.waiting), budget.reached(spec, race.waiting)
    if race.is_timed(spec):
        launched = launcher.check(spec, race.round, share_s=share_s, upcoming=upcoming)
    else:
        promising = race.promising(spec)
        launched = launcher.launch(spec, race.round, share_s=share_s, promising=promising, upcoming=upcoming)
    outcome = launched.outcome
    race.add(spec, outcome)
    if race.cut_short(outcome):
        kept, of = len(outcome.cells) if isinstance(outcome, Measurement) else 0, len(launcher.session.cells)
        reporter.report(LaunchGivenUp(candidate=spec.label, seconds=launched.seconds, cells=kept, of=of))
    if isinstance(outcome, Skipped):
        budget.count(spec, None)
        return
    budget.count(spec, launched.seconds - launched.once_s)
    cache.add(outcome)
    reporter.report(LaunchEnded(outcome=outcome))
