"""calibrate(): race the candidates, and keep every launch before the next one begins."""

from collections.abc import Sequence
from functools import partial

from calibration.conversion.convert import Original, converting_s
from calibration.events import LaunchBegan, LaunchEnded, LaunchGivenUp, RaceEnded, RoundBegan
from calibration.launch.checker import MakeReference, no_reference
from calibration.launch.launcher import Launcher
from calibration.launch.workshop import Workshop
from calibration.measurement import Answered, Measurement
from calibration.race.bounds import Bounds
from calibration.race.known import Known, resumable
from calibration.race.rounds.budget import Budget
from calibration.race.rounds.state import Race
from calibration.race.tally import Tally
from calibration.supervision.deadline import Deadline
from calibration.supervision.launch_spec import LaunchSpec, Skipped, Subject
from calibration.workload import Workload


def calibrate(
    candidates: Sequence[LaunchSpec],
    subject: Subject,
    cells: Sequence[Workload],
    workshop: Workshop,
    *,
    reference: MakeReference = no_reference,
    bounds: Bounds | None = None,
    again: bool = False,
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
    began, bounds, reporter = workshop.clock(), bounds or Bounds(), workshop.reporter
    known = Known() if again else resumable(candidates, subject.identity, cells, workshop.cache)
    race = Race(candidates, known, cells=len(cells), bounds=bounds)
    converts_s = partial(converting_s, original=Original.of(subject), store=workshop.store)
    budget = Budget(bounds, workshop.clock, converts_s)
    with workshop.folder() as folder:
        launcher = workshop.launcher(
            subject,
            cells,
            calibration_id=race.calibration_id,
            folder=folder,
            deadline=Deadline(budget.deadline, workshop.clock),
            reference=reference,
            agreements=known.agreements,
        )
        while not race.ended:
            race.begin_round()
            reporter.report(RoundBegan(number=race.round, of=bounds.rounds, candidates=race.order))
            while spec := race.next_launch():
                if budget.allows(spec):
                    _launch(spec, launcher, race, budget, workshop)
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
        check_s=launcher.checker.seconds,
        seconds=workshop.clock() - began,
    )


def _launch(spec: LaunchSpec, launcher: Launcher, race: Race, budget: Budget, workshop: Workshop) -> None:
    """Launch a candidate, keep what comes of it, and report it."""
    reporter = workshop.reporter
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
    workshop.cache.add(outcome)
    reporter.report(LaunchEnded(outcome=outcome))
