"""The study as Markdown."""

import math
from collections.abc import Callable, Iterable, Sequence

from benchmarks.foresight.groups import LeftOut
from benchmarks.foresight.study import CLASSES, MODEL, MOST_TRIED, POLICIES, Case, Fold

GOALS = {LeftOut.HOST_AND_MODEL: (1.10, 1.015), LeftOut.HOST: (1.03, 1.005)}
"""Geomean of the first pick, and of the best of the first three."""

_METHOD = (
    "A group is a cell of a model on a host; its truth is, for each candidate, the median of all launches in results/."
    " What stands in a heading is left out of all that is known; the variances of the model of times are estimated anew"
    " from the rest. Then the candidates are put in order, and the best of the first k is compared with the best of"
    " all: geometric mean over the groups, and the worst. `plain medians` order by the median logarithm of a"
    " candidate's time over its group's mean, in the known groups of the same model (host left out), of the same host"
    " (model left out), or in all. `static order` is what `select` answers where nothing is known. `random` is the"
    " mean over all orders."
)
_MIXTURES = (
    "One model of results/ is a mixture of experts. Where it is left out nothing tells how engines compute one, and"
    " they differ by up to four times: so the tables tell of dense models apart."
)


def report(folds: Sequence[Fold], *, digest: str, command: str, speed: dict[str, float]) -> str:
    """The whole page."""
    cases = [case for fold in folds for case in fold.cases]
    lines = [
        "# How good is an answer before anything was measured?",
        "",
        f"Made by `{command}` from what ships with autobackend ({digest}).",
        "",
        _METHOD,
        "",
        _MIXTURES,
        "",
    ]
    for left_out in LeftOut:
        lines += [f"## {left_out.capitalize()}", ""]
        of_fold = [case for case in cases if case.left_out is left_out]
        for of in CLASSES:
            lines += [*_class(left_out, of, [case for case in of_fold if case.of == of]), ""]
    lines += ["## Do the intervals hold?", "", *_coverage(folds), ""]
    lines += ["## How long it takes", "", *_speed(folds, speed)]
    return "\n".join(lines).rstrip() + "\n"


def _class(left_out: LeftOut, of: str, cases: Sequence[Case]) -> list[str]:
    dense = [case for case in cases if not case.group.mixture]
    counts = f"{len(cases)} groups, {len(dense)} of them of dense models"
    rows = [(policy, *_figures(cases, policy), *_figures(dense, policy)) for policy in POLICIES]
    head = ("", *(f"first {k}" for k in range(1, MOST_TRIED + 1)), *(f"dense, first {k}" for k in (1, 3)))
    rows = [(*row[: 1 + MOST_TRIED], row[1 + MOST_TRIED], row[3 + MOST_TRIED]) for row in rows]
    return [f"### {of.capitalize()} ({counts})", "", *_table(head, rows), *_goal(left_out, cases)]


def _goal(left_out: LeftOut, cases: Sequence[Case]) -> list[str]:
    if left_out not in GOALS:
        return []
    sentences = []
    for k, goal in zip((1, 3), GOALS[left_out], strict=True):
        value = _geomean(case.log_regrets[MODEL][k - 1] for case in cases)
        what = "first pick" if k == 1 else f"best of the first {k}"
        sentences.append(f"{what} {value:.3f}, goal {goal:g}: {'met' if value <= goal else 'not met'}")
    expected = _geomean(math.log(case.expected_regret) for case in cases)
    return ["", f"{'; '.join(sentences).capitalize()}. The model itself expected {expected:.3f} of its pick."]


def _figures(cases: Sequence[Case], policy: str) -> list[str]:
    by_k = [[case.log_regrets[policy][k] for case in cases] for k in range(MOST_TRIED)]
    return [f"{_geomean(logs):.3f}, {math.exp(max(logs)):.2f}" for logs in by_k]


def _coverage(folds: Sequence[Fold]) -> list[str]:
    rows = []
    for left_out in LeftOut:
        own = [fold for fold in folds if fold.cases and fold.cases[0].left_out is left_out]
        share = sum(fold.inside for fold in own) / sum(fold.times for fold in own)
        met = "held" if 0.85 <= share <= 0.95 else "not held"
        off = math.exp(math.sqrt(sum(fold.squares for fold in own) / sum(fold.times for fold in own)))
        rows.append((str(left_out), f"{share:.1%}", f"{off:.2f}", str(sum(fold.times for fold in own)), met))
    head = ("", "of the times inside their 90 % interval", "typical factor off", "times", "goal: 85 to 95 %")
    return _table(head, rows)


def _speed(folds: Sequence[Fold], speed: dict[str, float]) -> list[str]:
    fits = [fold.fit_s for fold in folds]
    rows = [
        ("estimating the variances, in a fold (when results/ is distilled)", f"{sorted(fits)[len(fits) // 2]:.1f} s"),
        *((what, f"{1e3 * seconds:.1f} ms") for what, seconds in speed.items()),
    ]
    return _table(("", "time"), rows)


def _geomean(logs: Iterable[float]) -> float:
    values = list(logs)
    return math.exp(sum(values) / len(values))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    line: Callable[[Sequence[str]], str] = lambda cells: f"| {' | '.join(cells)} |"  # noqa: E731
    return [line(head), line(["---", *("---:" for _ in head[1:])]), *map(line, rows)]
