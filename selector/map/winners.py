"""The winner of every workload of a map: what `select` answers there, found in one go."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from calibration.cache.cache import Cache
from calibration.errors import IllegalBackend, NoLegalBackend, NotCalibrated
from calibration.workload import Workload
from selector import context as contexts
from selector.answer import Source
from selector.choice.candidates import find_candidates
from selector.choice.pick import pick
from selector.context import Context
from selector.demand.demand import Demand, DemandOptions
from selector.host.spec import HostSpec
from selector.map.axes import Axes
from selector.map.cells import Barred, Cell, Won
from selector.map.legality import verdicts_of
from selector.map.winner_map import WinnerMap
from selector.question import Known, Question
from selector.rules.judge import Verdict, judge


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
