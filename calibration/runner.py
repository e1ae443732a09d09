"""calibrate(entries, subject, cells, cache, reporter): the loop, on one screen."""

import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from calibration import launch, race
from calibration.agreement import Answers
from calibration.artifact import ArtifactStore
from calibration.cache import Cache
from calibration.entry import Entry, Limits, Skipped, Subject
from calibration.environment import POLICY
from calibration.launch import Launcher
from calibration.measurement import Cell, Failure, Measurement, Outcome
from calibration.workload import Workload

SHARES = 3.0
"""A first launch is given up after so many times its share of what is left of the budget: a candidate that slow hardly
wins, and the others come to their turn. One that is the fastest so far at anything goes on."""
LONG_LOAD_S = 60.0
"""A load this long costs more than the cells of an ordinary calibration."""

__all__ = ["Entry", "Limits", "Reporter", "Subject", "Tally", "calibrate"]


class Reporter(Protocol):
    """Told what happens, for a progress display."""

    def event(self, name: str, **fields: Any) -> None:
        """`name`: reference, round, launch, prepare, ahead, load, check, cell, measured, failed, given up, out, end."""


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
    """Why it ended: `one left`, `none left`, `tied`, `rounds`, `budget`; `load`: loads cost minutes, one was clear."""
    unmeasured: tuple[str, ...]
    """Labels of candidates without any launch, when the budget was spent."""
    check_s: float
    """Seconds spent on references and correctness checks."""
    seconds: float


def calibrate(
    entries: Sequence[Entry],
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
        for number in range(1, rounds + 1):
            standing = [e for e in entries if e.label not in out and not _failed(outcomes, e)]
            order = _order(entries, standing, outcomes, number)
            reporter.event("round", number=number, of=rounds, candidates=order)
            missing = [label for label in order if not _done(outcomes, _of(label, standing), number)]
            for place, label in enumerate(missing):
                entry = _of(label, standing)
                left = None if deadline is None else deadline - clock()
                # Before anything was measured an estimate alone ends nothing.
                if left is not None and took and left < _expected(label, took) + launcher.converting_s([entry]):
                    ended = "budget"
                    continue
                converting_s = launcher.converting_s(_of(name, standing) for name in missing[place:])
                left_s = _time_left(order, label, number, rounds, took, converting_s, left)
                reporter.event("launch", candidate=label, left_s=left_s)
                launch_began, once_before = clock(), launcher.once_s
                share = None if left is None or label in took else SHARES * left / (len(missing) - place)
                ahead = partial(_ahead, rivals=_rivals(entries, outcomes, entry))
                later = [_of(name, standing) for name in missing[place + 1 :]]
                upcoming = _affordable(launcher, entry, later, took, left)
                outcome = launcher.launch(entry, number, calibration_id, deadline, share, ahead, upcoming)
                kept = len(outcome.cells) if isinstance(outcome, Measurement) else 0
                if isinstance(outcome, Skipped) or (isinstance(outcome, Measurement) and kept < len(cells)):
                    ended = "budget"
                    took_s = clock() - launch_began
                    reporter.event("given up", candidate=label, seconds=took_s, cells=kept, of=len(cells))
                if isinstance(outcome, Skipped):
                    continue
                took[label] = clock() - launch_began - (launcher.once_s - once_before)
                cache.add(outcome)
                outcomes.append(outcome)
                fresh.add(outcome.run_id)
                reporter.event("measured" if isinstance(outcome, Measurement) else "failed", outcome=outcome)
            history = _history(entries, outcomes, number)
            for label in _beaten(entries, history) - out.keys():
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
            why = "budget" if ended == "budget" else _over(entries, _without(history, out), rounds)
            if why:
                ended = why
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


def _resumable(entries: Sequence[Entry], subject: Subject, cells: Iterable[Workload], cache: Cache) -> list[Outcome]:
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
    mine = sorted((o for o in found if o.identity == identity), key=lambda o: o.started_at)
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


def _of(label: str, entries: Iterable[Entry]) -> Entry:
    return next(e for e in entries if e.label == label)


def _done(outcomes: Iterable[Outcome], entry: Entry, number: int) -> bool:
    return any(o.candidate == entry.candidate and o.round == number for o in outcomes)


def _failed(outcomes: Iterable[Outcome], entry: Entry) -> bool:
    return any(o.candidate == entry.candidate and isinstance(o, Failure) for o in outcomes)


def _order(entries: Sequence[Entry], standing: Iterable[Entry], outcomes: Sequence[Outcome], number: int) -> list[str]:
    """The order of a round: of what is known before it, so that an interrupted one goes on in the same."""
    labels = [e.label for e in standing]
    lossy = {e.label: int(re.sub(r"\D", "", e.variant.precision) or 0) for e in entries if e.variant.lossy}
    if number == 1:
        return race.first_order(labels, lossy)
    return race.order(labels, _history(entries, outcomes, number - 1), lossy)


def _history(entries: Sequence[Entry], outcomes: Sequence[Outcome], rounds: int) -> race.Standing:
    """One row a candidate that never failed: its cells in each round, None where it was not launched."""
    history: race.Standing = {}
    for entry in entries:
        launches: list[dict[Workload, tuple[float, float | None]] | None] = [None] * rounds
        for outcome in outcomes:
            if isinstance(outcome, Measurement) and outcome.candidate == entry.candidate and outcome.round <= rounds:
                launches[outcome.round - 1] = _times(outcome.cells)
        if any(launches) and not _failed(outcomes, entry):
            history[entry.label] = launches
    return history


def _rivals(entries: Iterable[Entry], outcomes: Iterable[Outcome], entry: Entry) -> list[dict[Workload, race.Times]]:
    """The cells of the others' launches: of a candidate that is not lossy those of its like only."""
    lossy = {e.label for e in entries if e.variant.lossy}
    return [
        _times(o.cells)
        for o in outcomes
        if isinstance(o, Measurement)
        and o.candidate != entry.candidate
        and (entry.variant.lossy or o.candidate.label not in lossy)
    ]


def _ahead(cells: Iterable[Cell], rivals: Collection[Mapping[Workload, race.Times]]) -> bool:
    return race.ahead(_times(cells), rivals)


def _times(cells: Iterable[Cell]) -> dict[Workload, race.Times]:
    return {c.workload: (c.ttft_s, c.tpot_s) for c in cells}


def _without(history: race.Standing, out: Mapping[str, int]) -> race.Standing:
    return {label: launches for label, launches in history.items() if label not in out}


def _beaten(entries: Iterable[Entry], history: race.Standing) -> set[str]:
    """Who is out: a lossy candidate by any other, one that is not by its like only.

    Who asks without allowing lossy candidates must find the best of the others measured to the end.
    """
    lossy = {e.label for e in entries if e.variant.lossy}
    exact = {label: launches for label, launches in history.items() if label not in lossy}
    return race.eliminate(exact) | (race.eliminate(history) & lossy)


def _over(entries: Iterable[Entry], standing: race.Standing, rounds: int) -> str | None:
    """Why the race is over: it is so for the lossy candidates and for the others, each among themselves."""
    lossy = {e.label for e in entries if e.variant.lossy}
    groups = [{n: h for n, h in standing.items() if (n in lossy) is kind} for kind in (False, True)]
    whys = [race.finished(group, rounds) for group in groups if group]
    return next((w for w in whys if w), "none left") if all(whys) else None


def _loads_long(outcomes: Iterable[Outcome]) -> bool:
    """Whether loading is what a launch costs: then one round is followed by a rematch of the leaders only (A B B A)."""
    loads = [o.load_s for o in outcomes if isinstance(o, Measurement)]
    return bool(loads) and median(loads) > LONG_LOAD_S


def _expected(label: str, took: Mapping[str, float]) -> float:
    """Seconds that the next launch of a candidate will take: as its last, or as the others' on average."""
    return took.get(label, sum(took.values()) / len(took) if took else 0.0)


def _affordable(
    launcher: Launcher, entry: Entry, later: Sequence[Entry], took: Mapping[str, float], left: float | None
) -> Sequence[Entry]:
    """Those of the later candidates that the budget will probably reach."""
    if left is None:
        return later
    costs = (_expected(e.label, took) + launcher.converting_s([e]) for e in (entry, *later))
    return [e for e, spent in zip((entry, *later), accumulate(costs), strict=True) if spent <= left][1:]


def _time_left(
    order: Sequence[str],
    label: str,
    number: int,
    rounds: int,
    took: Mapping[str, float],
    converting_s: float,
    budget_left: float | None,
) -> float | None:
    """Seconds to the end if nobody drops out; None while nothing is known."""
    if not took:
        return budget_left
    rest = converting_s + sum(_expected(name, took) for name in order[order.index(label) :])
    rest += (rounds - number) * sum(_expected(name, took) for name in order)
    return rest if budget_left is None else min(rest, budget_left)
