"""The winner of every workload of a map: what `select` answers there, found in one go."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from calibration.cache.cache import Cache
from calibration.errors import IllegalBackend, NoLegalBackend, NotCalibrated
from calibration.workload import Workload
from selector import context as contexts
from selector.answer import Source
from selector.choice.candidates import find_candidates
from selector.choice.pick import Pick, pick
from selector.context import Context, Known, Question
from selector.demand.demand import Demand, DemandOptions
from selector.demand.objective import Objective
from selector.demand.targets import LIKELY
from selector.evidence.comparison import median_ratio
from selector.host.spec import HostSpec
from selector.map.axes import Axes
from selector.map.legality import verdicts_of
from selector.predict.prediction import Predicted
from selector.rules.judge import Verdict, judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Won:
    """A workload and the candidate that is best at it."""

    workload: Workload
    pick: Pick

    @property
    def label(self) -> str:
        return self.pick.label

    @property
    def rival(self) -> str:
        """The first of those that are as good as it, or that are as likely to be the best; empty where none is."""
        if self.expected is None:
            return next((r.candidate.label for r in self.pick.ranking if r.candidate.label in self.pick.tie), "")
        others = [row for row in self.expectations if row.candidate != self.label]
        if not others or self.missed or self.expected.p_best >= _CLEAR:
            return ""
        return max(others, key=lambda row: row.p_best).candidate

    @property
    def expectations(self) -> tuple[Predicted, ...]:
        """What is predicted of it and of the others; empty where it was measured."""
        return self.pick.prediction.predicted if self.pick.prediction and self.pick.ranked is None else ()

    @property
    def expected(self) -> Predicted | None:
        """What is predicted of it; None where it was measured."""
        return next((row for row in self.expectations if row.candidate == self.label), None)

    @property
    def e2e_s(self) -> float | None:
        """What the workload takes, measured or predicted; None where neither is known."""
        known = self.pick.ranked or self.expected
        return None if known is None else known.e2e_s

    def times_more(self, label: str, objective: Objective) -> float | None:
        """How many times more another candidate takes; None where it was neither measured nor predicted with it."""
        if self.pick.ranked is not None:
            other = next((r for r in self.pick.ranking if r.candidate.label == label), None)
            return None if other is None else median_ratio(other, self.pick.ranked, objective)
        row = next((row for row in self.expectations if row.candidate == label), None)
        if row is None or self.expected is None:
            return None
        return row.ttft_s / self.expected.ttft_s if objective is Objective.TTFT else row.e2e_s / self.expected.e2e_s

    @property
    def extrapolated(self) -> bool:
        return self.pick.ranked is not None and not self.pick.ranked.covered

    @property
    def missed(self) -> bool:
        """No candidate meets the targets here."""
        known = self.pick.ranked or self.expected
        return known is not None and known.chance is not None and known.chance < LIKELY


@dataclass(frozen=True, slots=True, kw_only=True)
class Barred:
    """A workload that nothing runs here."""

    workload: Workload
    reason: str


Cell = Won | Barred

_TOLD = {Source.LAYERS: "from a few layers", Source.RULES: "the first of the static order"}

_CLEAR = 0.5
"""A predicted winner is a tie with the next where it is less likely than this that nobody is faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Always:
    """What it costs to take one candidate for every workload of the map."""

    geomean: float
    """Times what the best takes."""
    worst: float
    unable: int
    """Workloads that it does not run, or that it was not timed for; they are in neither figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WinnerMap:
    """Who is best where."""

    model: str
    device: str
    demand: Demand
    """Of all its workloads."""
    axes: Axes
    cells: Mapping[Workload, Cell]
    wins: Mapping[str, int]
    """Label of each winner and each first rival: how many workloads it wins, the most first."""

    @property
    def won(self) -> tuple[Won, ...]:
        return tuple(cell for cell in self.cells.values() if isinstance(cell, Won))

    @property
    def barred(self) -> tuple[Barred, ...]:
        return tuple(cell for cell in self.cells.values() if isinstance(cell, Barred))

    @property
    def letters(self) -> Mapping[str, str]:
        """Label: the letter that stands for it, A for the one with the most workloads."""
        return {label: _letter(place) for place, label in enumerate(self.wins)}

    @property
    def sources(self) -> Mapping[Source, int]:
        """Where the answers come from, and how many do."""
        return dict(Counter(cell.pick.source for cell in self.won).most_common())

    @property
    def measured_at(self) -> float | None:
        return max((cell.pick.measured_at for cell in self.won if cell.pick.measured_at is not None), default=None)

    @property
    def launches(self) -> int:
        """The most that stand behind the ranking of one workload."""
        return max((sum(r.n for r in cell.pick.ranking) for cell in self.won), default=0)

    def always(self, label: str) -> Always | None:
        """What it costs to take this candidate everywhere; None where it was timed for no workload."""
        logs = []
        for cell in self.won:
            times = cell.times_more(label, self.demand.objective)
            if times is not None:
                logs.append(math.log(max(1.0, times)))
        if not logs:
            return None
        return Always(
            geomean=math.exp(sum(logs) / len(logs)), worst=math.exp(max(logs)), unable=len(self.cells) - len(logs)
        )

    @property
    def steadiest(self) -> tuple[str, Always] | None:
        """Of the candidates that run everything that something runs: the one that costs least to take everywhere."""
        labels = {r.candidate.label for cell in self.won for r in cell.pick.ranking}
        labels |= {row.candidate for cell in self.won for row in cell.expectations}
        costs = {label: cost for label in sorted(labels) if (cost := self.always(label)) is not None}
        able = [label for label, cost in costs.items() if cost.unable == len(self.barred)]
        best = min(able, key=lambda label: costs[label].geomean, default=None)
        return None if best is None else (best, costs[best])

    def warnings(self) -> Iterable[str]:
        """What its answers lack, each with the command that mends it."""
        for source, count in self.sources.items():
            if source is not Source.MEASURED:
                where = "on the whole model with today's versions on this host"
                told = _TOLD.get(source, source)
                yield f"{count} of {len(self.cells)} answers are {told}: not measured {where}. {self._mend}"

    def notes(self) -> Iterable[str]:
        """What is good to know beside it."""
        if outside := sum(cell.extrapolated for cell in self.won):
            yield f"{outside} of {len(self.cells)} answers are extrapolated from what was measured. {self._mend}"

    @property
    def _mend(self) -> str:
        return f"Measure its corners: {self.asked.command('calibrate', self.model)}"

    @property
    def asked(self) -> Demand:
        """The demand for the corners of the map, which a calibration brackets."""
        return replace(self.demand, workloads=self.corners())

    def corners(self) -> tuple[Workload, ...]:
        """The least and the largest workload that something runs: who is measured around them is not extrapolated."""
        inside = [cell.workload for cell in self.won]
        least = min(inside, key=lambda w: (w.batch, w.context_tokens))
        largest = max(inside, key=lambda w: (w.batch, w.context_tokens))
        return tuple(dict.fromkeys((least, largest)))

    def to_json(self) -> dict[str, Any]:
        """What `autobackend map --json` prints."""
        return {
            "model": self.model,
            "device": self.device,
            "objective": str(self.demand.objective),
            "targets": {"ttft_s": self.demand.ttft_s, "tpot_s": self.demand.tpot_s},
            "prompts": list(self.axes.prompts),
            "outputs": list(self.axes.outputs),
            "batches": list(self.axes.batches),
            "candidates": [self._candidate(label) for label in self.wins],
            "cells": [self._cell(cell) for cell in self.cells.values()],
        }

    def _candidate(self, label: str) -> dict[str, Any]:
        always = self.always(label)
        return {
            "letter": self.letters[label],
            "candidate": label,
            "wins": self.wins[label],
            "always_geomean": always and always.geomean,
            "always_worst": always and always.worst,
            "unable": always and always.unable,
        }

    def _cell(self, cell: Cell) -> dict[str, Any]:
        if isinstance(cell, Barred):
            return {"workload": cell.workload.label, "candidate": None, "reason": cell.reason}
        ranked, known = cell.pick.ranked, cell.pick.ranked or cell.expected
        return {
            "workload": cell.workload.label,
            "candidate": cell.label,
            "source": str(cell.pick.source),
            "tie": list(cell.pick.tie),
            "extrapolated": cell.extrapolated,
            "ttft_s": known and known.ttft_s,
            "tpot_s": known and known.tpot_s,
            "e2e_s": known and known.e2e_s,
            "output_tps": ranked and ranked.output_tps,
            "p_best": cell.expected and cell.expected.p_best,
            "chance": known and known.chance,
            "cost_per_million_output": ranked and ranked.costs and ranked.costs.output,
            "cost_per_million_total": ranked and ranked.costs and ranked.costs.total,
        }


def winners(
    model: str | Path,
    axes: Axes,
    demand: Demand | None = None,
    *,
    cache: Cache | str | Path | None = None,
    host: HostSpec | None = None,
    context: Context | None = None,
    **options: Unpack[DemandOptions],
) -> WinnerMap:
    """What `select` answers for each workload of `axes`.

    Args:
        demand: what is wanted; its workloads do not count.
        cache, host, context: as for `select`.

    Raises:
        ModelError, UsageError, CacheError: as `select`.
        NoLegalBackend, IllegalBackend: nothing runs any of the workloads.
        NotCalibrated: nothing is known of any of them but the static order.
    """
    wanted, shared = replace(Demand.of(demand, **options).measurable(), workloads=()), context or contexts.DEFAULT
    question = shared.question(model, wanted, cache=cache, host=host)
    known = shared.known(question)
    verdicts = verdicts_of(axes, lambda w: judge(question.spec, question.host, wanted.for_one(w)))
    cells = dict(_cells(question, known, verdicts))
    drawn = WinnerMap(
        model=question.spec.name,
        device=question.host.device.name,
        demand=wanted,
        axes=axes,
        cells=cells,
        wins=_wins([cell for cell in cells.values() if isinstance(cell, Won)]),
    )
    if not drawn.won:
        # All of them are barred: the error of one of them says why.
        find_candidates(question, replace(known, verdicts=verdicts[drawn.barred[0].workload]))
    if all(cell.pick.source is Source.RULES for cell in drawn.won):
        raise NotCalibrated(
            f"{drawn.model} was never measured on this host: a map of the static order says nothing",
            f"measure it: {drawn.asked.command('calibrate', drawn.model)}",
        )
    return drawn


def _cells(
    question: Question, known: Known, verdicts: Mapping[Workload, tuple[Verdict, ...]]
) -> Iterable[tuple[Workload, Cell]]:
    runs_somewhere = {v.candidate for judged in verdicts.values() for v in judged if v.legal}
    for workload, judged in sorted(verdicts.items(), key=lambda item: _place(item[0])):
        asked = replace(question, demand=question.demand.for_one(workload))
        here = replace(known, verdicts=judged)
        try:
            candidates = find_candidates(asked, here)
        except (NoLegalBackend, IllegalBackend) as error:
            reasons = [r.text for v in judged if v.candidate in runs_somewhere for r in v.reasons]
            yield workload, Barred(workload=workload, reason=reasons[0] if reasons else error.message)
        else:
            yield workload, Won(workload=workload, pick=pick(asked, candidates, here))


def _wins(won: Sequence[Won]) -> Mapping[str, int]:
    wins = Counter(cell.label for cell in won)
    for cell in won:
        if cell.rival:
            wins.setdefault(cell.rival, 0)
    return dict(wins.most_common())


def _place(workload: Workload) -> tuple[int, int, int]:
    return workload.batch, workload.output_tokens, workload.prompt_tokens


def _letter(place: int) -> str:
    """A, B ... Z, AA, AB ..."""
    letters = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
