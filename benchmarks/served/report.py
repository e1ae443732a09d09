"""The study as sections: the pick beside what else one would take, one stream beside many, the form between levels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median

from benchmarks.served.cells import (
    CLASSES,
    HALVES,
    Cell,
    Chosen,
    always,
    beyond_noise,
    cells_of,
    differences,
    names_of,
    over,
    over_best,
)
from benchmarks.served.form import FIGURES, Told, exactness, told_levels
from benchmarks.served.recorded import BATCH, UNMEASURED, Recorded
from benchmarks.served.tables import Section
from benchmarks.study.regret import Summary, geomean
from calibration.load.load import Load
from calibration.race.bounds import BAND
from selector.screens.text import day, figure, plural, share

_JUDGED = (
    "What chooses is not what judges: a choice by the launches of the first round is judged by those of the later ones,"
    " and the other way round. Ratios are of seconds a token, geometric mean (worst)."
)
_ALWAYS = (
    "Of a backend the variant counts that did best in the rounds that choose, which favours it. A variant that was out"
    " after its first launch is judged by that one, bad luck included."
)
_ERRORS = (
    "Each number of streams between two others was left out, and told by them, launch by launch: how far off that was,"
    " median (worst)."
)


def report(recorded: Sequence[Recorded], left_out: Mapping[str, Mapping[str, float]] | None = None) -> list[Section]:
    """All sections.

    Args:
        recorded: never empty.
        left_out: model: label of a candidate that was not served: how many times slower than the best it is predicted.
    """
    named = _named(recorded)
    cells = [cell for one in named for cell in cells_of(one)]
    of_classes = {name: [cell for cell in cells if cell.precision == name] for name in CLASSES}
    classes = {name: own for name, own in of_classes.items() if own}
    return [
        _measured(named, cells),
        *(_picks(name, own) for name, own in classes.items()),
        *(_always(name, own) for name, own in classes.items()),
        *_crossings(cells),
        *_form([told for one in named for told in told_levels(one)], cells),
        *_gaps(named, left_out or {}),
    ]


def _named(recorded: Sequence[Recorded]) -> list[Recorded]:
    """Models of several hosts are named with their host."""
    if len({one.host for one in recorded}) == 1:
        return list(recorded)
    return [replace(one, model=f"{one.name}, {one.host}") for one in recorded]


def _measured(recorded: Sequence[Recorded], cells: Sequence[Cell]) -> Section:
    newest = max(launch.started_at for one in recorded for r in one.records for launch in r.launches)
    devices = ", ".join(dict.fromkeys(one.device for one in recorded))
    rows = []
    for one in recorded:
        for load in one.loads:
            of_load = exactness(one, load)
            least, middle = of_load.requests
            rows.append((
                one.name,
                load.label,
                f"{of_load.points}" + (f", {of_load.void} void" if of_load.void else ""),
                f"{middle} ({least})",
                "-" if of_load.error is None else f"± {share(of_load.error)}",
            ))  # fmt: skip
    twice = Summary.of(differences(cells))
    repeated = (
        "No candidate was served in both halves."
        if twice is None
        else f"The same candidate under the same load took {twice.geomean:.3f} (worst {twice.worst:.3f}) times as long"
        f" in its slower half as in its quicker one, over {plural(twice.n, 'pair')}."
    )
    return Section(
        title="What was served",
        sentences=(f"{devices}, up to {day(newest)}. {_JUDGED}", repeated),
        head=("model", "load", "points", "requests of a point, median (least)", "sampling error of tok/s, median"),
        rows=tuple(rows),
    )


def _picks(name: str, cells: Sequence[Cell]) -> Section:
    policies = [policy for policy in (BATCH, UNMEASURED) if any(policy in cell.without for cell in cells)]
    rows = []
    for cell in cells:
        label, seconds = _fastest(cell)
        rows.append((
            cell.model,
            cell.load.label,
            f"{label}, {figure(1.0 / seconds)} tok/s" if seconds else "-",
            _both(cell.picks),
            _mean(over_best(cell)),
            _mean(beyond_noise(cell)),
            *(_answer(cell, policy) for policy in policies),
        ))  # fmt: skip
    pick = (
        f"The pick takes {_told(over_best(cell) for cell in cells)} times as long as the best of the half that judges"
        f" it, and {_told(beyond_noise(cell) for cell in cells)} beyond what the two differ from themselves."
    )
    costs = {policy: [ratio for c in cells for ratio in over(c, _fixed(c, policy), c.picks)] for policy in policies}
    others = [
        f"What `select` answers for {policy} takes {_told([ratios])} times as long as the pick."
        for policy, ratios in costs.items()
        if ratios
    ]
    return Section(
        title=f"The pick, {name}",
        sentences=(" ".join([pick, *others]),),
        head=(
            *("model", "load", "fastest", "pick", "/ best", "beyond noise"),
            *(f"for {policy} (/ pick)" for policy in policies),
        ),
        rows=tuple(rows),
    )


def _always(name: str, cells: Sequence[Cell]) -> Section:
    loads = sorted({cell.load for cell in cells}, key=lambda load: (load.streams, load.label))
    costs: dict[str, dict[Load, list[float]]] = {}
    for each in names_of(cells):
        costs[each] = {
            load: [r for cell in cells if cell.load == load for r in over(cell, always(cell, each), cell.picks)]
            for load in loads
        }
    every = {each: [ratio for ratios in by_load.values() for ratio in ratios] for each, by_load in costs.items()}
    served = sorted((each for each in costs if every[each]), key=lambda each: (geomean(every[each]), each))
    rows = [
        (
            f"`{each}`",
            *(_told([ratios]) for ratios in costs[each].values()),
            _told([every[each]]),
            f"{sum(bool(over(cell, always(cell, each), cell.picks)) for cell in cells)} of {len(cells)}",
        )
        for each in served
    ]
    return Section(
        title=f"Always the same engine over the pick, {name}",
        sentences=(_ALWAYS,),
        head=("always", *(load.label for load in loads), "all", "loads"),
        rows=tuple(rows),
    )


def _crossings(cells: Sequence[Cell]) -> list[Section]:
    """The pick for the fewest streams beside that for the most."""
    by_model: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        by_model.setdefault((cell.host, cell.model, cell.precision), []).append(cell)
    rows, few_at_many, many_at_few = [], list[float](), list[float]()
    choices = differ = 0
    for own in by_model.values():
        few, many = own[0], own[-1]
        both = [half for half in HALVES if half in few.picks and half in many.picks]
        choices += len(both)
        differ += sum(few.picks[half] != many.picks[half] for half in both)
        there, back = over(many, few.picks, many.picks), over(few, many.picks, few.picks)
        few_at_many, many_at_few = [*few_at_many, *there], [*many_at_few, *back]
        rows.append((
            *(few.model, few.precision, _both(few.picks), _both(many.picks)),
            *(_mean(there), _mean(back)),
        ))  # fmt: skip
    if not choices:
        return []
    few_label, many_label = (f"c{cells[place].load.streams}" for place in (0, -1))
    costly = sum(ratio > 1.0 + BAND for ratio in few_at_many)
    sentence = (
        f"In {differ} of {plural(choices, 'choice')} (each model, each class, each half) the pick for {few_label} is"
        f" not the pick for {many_label}. Under {many_label} it takes {_told([few_at_many])} times as long as the pick"
        f" for that, more than {share(BAND)} longer in {costly} of {len(few_at_many)}; the pick for {many_label} under"
        f" {few_label} {_told([many_at_few])}."
    )
    return [
        Section(
            title="The best for one stream is not the best for many",
            sentences=(sentence,),
            head=(
                *("model", "precision", f"pick for {few_label}", f"pick for {many_label}"),
                *(f"the first under {many_label}", f"the second under {few_label}"),
            ),
            rows=tuple(rows),
        )
    ]


def _form(told: Sequence[Told], cells: Sequence[Cell]) -> list[Section]:
    """What is told of a level by those around it, beside what was measured there."""
    if not told:
        return []
    by_backend: dict[str, list[Told]] = {}
    for one in sorted(told, key=lambda one: one.candidate):
        by_backend.setdefault(one.candidate.partition(":")[0], []).append(one)
    groups = {**{f"`{name}`": own for name, own in by_backend.items()}, "all": list(told)}
    rows = [(name, f"{len(own)}", *(_error(own, of) for of in FIGURES)) for name, own in groups.items()]
    inner = [cell for cell in cells if cell.told]
    same = sum(cell.told[half] == cell.picks.get(half) for cell in inner for half in cell.told)
    labels = ", ".join(sorted({one.load.label for one in told}))
    picks = (
        f"The pick by what is told is the pick by what was measured in {same} of"
        f" {plural(sum(len(cell.told) for cell in inner), 'choice')}; it takes"
        f" {_told(over(cell, cell.told, cell.picks) for cell in inner)} times as long."
    )
    return [
        Section(
            title="Told by the levels around",
            sentences=(f"{labels}. {_ERRORS}", picks),
            head=("backend", "launches", *FIGURES.values()),
            rows=tuple(rows),
        )
    ]


def _gaps(recorded: Sequence[Recorded], left_out: Mapping[str, Mapping[str, float]]) -> list[Section]:
    points = [
        f"{model.removeprefix('shape:')}: {', '.join(f'`{label}` {times:.1f}' for label, times in own.items())}"
        for model, own in left_out.items()
        if own
    ]
    failed = {(one.name, label): failure for one in recorded for label, failure in one.failed.items()}
    failures = [
        f"{name}: `{label}` {failure.kind} ({failure.stage}): {failure.message.splitlines()[0]}"
        for (name, label), failure in failed.items()
    ]
    sections = []
    if points:
        sentence = "Predicted to be so many times slower than the best of their class, where they come nearest to it:"
        sections.append(Section(title="Left out", sentences=(sentence,), points=tuple(points)))
    if failures:
        sections.append(Section(title="Failed", points=tuple(failures)))
    return sections


def _fastest(cell: Cell) -> tuple[str, float]:
    """Of those that were served in most halves: the label with the least time, and that; 0 where there is none."""
    most = max(map(len, cell.times.values()), default=0)
    means = {label: geomean(list(t.values())) for label, t in cell.times.items() if t and len(t) == most}
    return min(means.items(), key=lambda item: item[1], default=("", 0.0))


def _fixed(cell: Cell, policy: str) -> Chosen:
    return dict.fromkeys(HALVES, cell.without[policy]) if policy in cell.without else {}


def _answer(cell: Cell, policy: str) -> str:
    if policy not in cell.without:
        return "-"
    return f"{cell.without[policy]} ({_mean(over(cell, _fixed(cell, policy), cell.picks))})"


def _both(chosen: Chosen) -> str:
    """One label, or those of both halves where they differ."""
    return " / ".join(dict.fromkeys(chosen[half] for half in HALVES if half in chosen)) or "-"


def _mean(ratios: Sequence[float]) -> str:
    return f"{geomean(ratios):.3f}" if ratios else "not served"


def _told(groups: Iterable[Sequence[float]]) -> str:
    """`1.012 (1.080)`: of all ratios together."""
    summary = Summary.of(ratio for ratios in groups for ratio in ratios)
    return f"{summary.geomean:.3f} ({summary.worst:.3f})" if summary else "-"


def _error(told: Sequence[Told], of: str) -> str:
    off = [abs(one.ratios[of] - 1.0) for one in told if of in one.ratios]
    return f"{share(median(off))} ({share(max(off))})" if off else "-"
