"""calibrate(entries, subject, cells, cache, reporter): the loop, on one screen."""

import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from calibration.cache.cache import Cache
from calibration.check.agreement import Answers
from calibration.conversion.store import ArtifactStore
from calibration.environments.versions import POLICY
from calibration.launch import launcher as launch
from calibration.launch.launcher import Launcher
from calibration.measurement import Check, Failure, Measurement, Outcome
from calibration.race import decisions as race
from calibration.race import history as standing
from calibration.supervision.launch_spec import LaunchSpec, Limits, Skipped, Subject
from calibration.workload import Workload

SHARES = 3.0
"""A first launch is given up after so many times its share of what is left of the budget: a candidate that slow hardly
wins, and the others come to their turn. One that is the fastest so far at anything goes on."""
LONG_LOAD_S = 60.0
"""A load this long costs more than the cells of an ordinary calibration."""

__all__ = ["LaunchSpec", "Limits", "Reporter", "Subject", "Tally", "calibrate"]


class Reporter(Protocol):
    """Told what happens, for a progress display."""

    def event(self, name: str, **fields: Any) -> None:
        """`name`: reference, round, launch, prepare, alongside, load, check, cell, measured, failed, given up, out,
        end.
        """


class Silent:
    """A reporter that shows nothing."""

    def event(self, name: str, **fields: Any) -> None:
        """Show nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What a calibration did."""

    calibration_id: str
    outcomes: tuple[Outcome, ...]
    """Everything known of this calibration, oldest first, what an earlier run had left included."""
    fresh: frozenset[str]
    """run_ids measured by this run."""
    out: Mapping[str, int]
    """Candidate label: the round after which it was out of the race."""
    ended: str
    """Why it ended: `one left`, `none left`, `tied`, `rounds`; `load`: loads cost minutes, one was clear; `budget`: it
    left something undecided."""
    unmeasured: tuple[str, ...]
    """Labels of candidates without any launch, when the budget was spent."""
    check_s: float
    """Seconds spent on references and correctness checks."""
    seconds: float


def calibrate(
    entries: Sequence[LaunchSpec],
    subject: Subject,
    cells: Sequence[Workload],
    cache: Cache,
    store: ArtifactStore,
    reporter: Reporter,
    *,
    reference: Callable[[Launcher], Answers | None] = launch.no_reference,
    rounds: int = 3,
    budget_s: float | None = None,
    again: bool = False,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Tally:
    """Race the candidates in rounds; every launch is in the cache before the next one begins.

    A calibration that was interrupted goes on: its launches are taken from the cache, and only what is missing or stale
    is measured. One that had ended is answered from the cache, unless `again`.

    Args:
        entries: the candidates, in the static order.
        cells: the workloads that are measured of each.
        reference: makes (or finds) the reference's answers; called once, before the first check.
        rounds: launches of a candidate at most.
        budget_s: no launch begins that is not expected to end within it; one that overruns it is given up, and so is
            a first one that takes more than SHARES times its part of it; the cells that it timed are kept. A conversion
            and the reference do not count to a launch's part: later ones need not do them again.
    """
    began = clock()
    deadline = None if budget_s is None else began + budget_s
    known = [] if again else _resumable(entries, subject, cells, cache)
    calibration_id = known[-1].calibration_id if known else uuid.uuid4().hex
    outcomes, fresh, out, took, ended = list(known), set[str](), dict[str, int](), dict[str, float](), "rounds"
    with tempfile.TemporaryDirectory(prefix="autobackend-") as folder:
        launcher = Launcher(
            subject=subject,
            cells=tuple(cells),
            store=store,
            folder=Path(folder),
            reporter=reporter,
            limits=limits or Limits(),
            make_reference=reference,
            clock=clock,
            agreements={o.candidate.label: o.agreement for o in known if isinstance(o, Measurement)},
            deadline=deadline,
        )
        spent, unsure = False, set[str]()
        for number in range(1, rounds + 1):
            still = [e for e in entries if e.label not in out and not standing.failed(outcomes, e)]
            order = standing.order(entries, still, outcomes, number)
            reporter.event("round", number=number, of=rounds, candidates=order)
            missing = [label for label in order if not _done(outcomes, _of(label, still), number)]
            while missing:
                label, *missing = standing.hopeful_first(entries, missing, outcomes) if number == 1 else missing
                entry, later = _of(label, still), [_of(name, still) for name in missing]
                left = None if deadline is None else deadline - clock()
                # Before anything was measured an estimate alone ends nothing.
                if left is not None and took and left < _expected(label, took) + launcher.converting_s([entry]):
                    spent = True
                    continue
                left_s = _time_left(launcher, [entry, *later], order, rounds - number, took, left)
                reporter.event("launch", candidate=label, left_s=left_s)
                launch_began, once_before = clock(), launcher.once_s
                outcome = launcher.launch(
                    entry,
                    number,
                    calibration_id,
                    deadline,
                    share_s=None if left is None or label in took else SHARES * left / (1 + len(later)),
                    promising=partial(standing.ahead, rivals=standing.rivals(entries, outcomes, entry)),
                    upcoming=_affordable(launcher, entry, later, took, left),
                )
                kept = len(outcome.cells) if isinstance(outcome, Measurement) else 0
                spent = spent or (deadline is not None and clock() >= deadline)
                unsure.discard(label)
                if isinstance(outcome, Skipped) or (isinstance(outcome, Measurement) and kept < len(cells)):
                    unsure.add(label)
                    took_s = clock() - launch_began
                    reporter.event("given up", candidate=label, seconds=took_s, cells=kept, of=len(cells))
                if isinstance(outcome, Skipped):
                    continue
                took[label] = clock() - launch_began - (launcher.once_s - once_before)
                cache.add(outcome)
                outcomes.append(outcome)
                fresh.add(outcome.run_id)
                reporter.event("measured" if isinstance(outcome, Measurement) else "failed", outcome=outcome)
            history = standing.history(entries, outcomes, number)
            for label in standing.beaten(entries, history) - out.keys():
                out[label] = number
                reporter.event("out", candidate=label, number=number)
            if number == 1 and _loads_long(outcomes):
                pair = race.rematch(history, long_load=True)
                for label in history.keys() - pair - out.keys() if pair else ():
                    out[label] = number
                    reporter.event("out", candidate=label, number=number)
                if not pair:
                    ended = "load"
                    break
            why = standing.over(entries, {n: h for n, h in history.items() if n not in out}, rounds)
            if spent or why:
                ended = "budget" if spent or unsure - out.keys() else str(why)
                break
        shutil.rmtree(launcher.folder, ignore_errors=True)
    measured = {o.candidate.label for o in outcomes}
    tally = Tally(
        calibration_id=calibration_id,
        outcomes=tuple(outcomes),
        fresh=frozenset(fresh),
        out=out,
        ended=ended,
        unmeasured=tuple(e.label for e in entries if e.label not in measured),
        check_s=launcher.check_s,
        seconds=clock() - began,
    )
    reporter.event("end", tally=tally)
    return tally


def _resumable(
    entries: Sequence[LaunchSpec], subject: Subject, cells: Iterable[Workload], cache: Cache
) -> list[Outcome]:
    """The launches of the newest calibration of this subject that still hold, oldest first.

    A launch holds when its environment and policy are today's and it has every cell that is asked for. A launch killed
    by the budget or by the user leaves no row, so it is simply missing.
    """
    wanted, environments = set(cells), {e.label: dict(e.environment) for e in entries}
    identity = subject.identity
    found = cache.find(
        architecture=identity.architecture,
        quant=identity.quant,
        device=identity.device,
        fingerprint=identity.fingerprint,
    )
    mine = sorted((o for o in found if o.identity == identity and not isinstance(o, Check)), key=lambda o: o.started_at)
    holds = [
        o
        for o in mine
        if o.policy == POLICY
        and dict(o.environment) == environments.get(o.candidate.label)
        and (isinstance(o, Failure) or wanted <= {c.workload for c in o.cells})
    ]
    measured = [o for o in holds if isinstance(o, Measurement)]
    newest = measured[-1].calibration_id if measured else None
    return [o for o in holds if o.calibration_id == newest]


def _of(label: str, entries: Iterable[LaunchSpec]) -> LaunchSpec:
    return next(e for e in entries if e.label == label)


def _done(outcomes: Iterable[Outcome], entry: LaunchSpec, number: int) -> bool:
    return any(o.candidate == entry.candidate and o.round == number for o in outcomes)


def _loads_long(outcomes: Iterable[Outcome]) -> bool:
    """Whether loading is what a launch costs: then one round is followed by a rematch of the leaders only (A B B A)."""
    loads = [o.load_s for o in outcomes if isinstance(o, Measurement)]
    return bool(loads) and median(loads) > LONG_LOAD_S


def _expected(label: str, took: Mapping[str, float]) -> float:
    """Seconds that the next launch of a candidate will take: as its last, or as the others' on average."""
    return took.get(label, sum(took.values()) / len(took) if took else 0.0)


def _affordable(
    launcher: Launcher, entry: LaunchSpec, later: Sequence[LaunchSpec], took: Mapping[str, float], left: float | None
) -> Sequence[LaunchSpec]:
    """Those of the later candidates that the budget will probably reach."""
    if left is None:
        return later
    costs = (_expected(e.label, took) + launcher.converting_s([e]) for e in (entry, *later))
    return [e for e, spent in zip((entry, *later), accumulate(costs), strict=True) if spent <= left][1:]


def _time_left(
    launcher: Launcher,
    rest: Sequence[LaunchSpec],
    order: Sequence[str],
    rounds: int,
    took: Mapping[str, float],
    budget_left: float | None,
) -> float | None:
    """Seconds to the end if nobody drops out; None while nothing is known.

    Args:
        rest: of the round.
        order: of the whole round.
        rounds: that come after it.
    """
    if not took:
        return budget_left
    seconds = launcher.converting_s(rest) + sum(_expected(entry.label, took) for entry in rest)
    seconds += rounds * sum(_expected(label, took) for label in order)
    return seconds if budget_left is None else min(seconds, budget_left)
