"""WinnerMap: who is best where, what each would cost everywhere, and what the map lacks."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from calibration.workload import Workload
from selector.answer import Source
from selector.demand.demand import Demand
from selector.map.axes import Axes
from selector.map.cells import Barred, Cell, Won

_TOLD = {Source.LAYERS: "from a few layers", Source.RULES: "the first of the static order"}


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


def _letter(place: int) -> str:
    """A, B ... Z, AA, AB ..."""
    letters = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
