"""The study as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.study.regret import (
    GOAL_GEOMEAN,
    GOAL_WORST,
    NEAR,
    Always,
    Case,
    Summary,
    always,
    beyond_noise,
    cross_judged,
    noise,
    picked,
    regret,
)

_METHOD = (
    "Of the candidates that the calibration measured, those that may be the best and the first of each backend were"
    " launched in two passes, the second in reverse order, and timed directly; who took more than"
    f" {NEAR:g} times as long as the best in the first pass was not timed again. A time is the geometric mean of its"
    " passes, from the call to the last token. `select` knew the calibration alone."
)
_HINDSIGHT = (
    "A backend is taken by the best of its timed variants in each cell, in hindsight, which favours it; a variant as it"
    " is. Only cells in which it was timed count; where it was left out it was predicted to be slower still."
)
_BEYOND = (
    '"Beyond noise" divides a ratio by the larger of these differences of the two that it compares, down to 1. A best'
    " that is chosen on the pass that judges it is lucky: so each pass also judges the best of the other."
)


def report(content: Mapping[str, Any], classes: Mapping[str, Sequence[Case]]) -> str:
    """The whole page.

    Args:
        content: of the JSON file.
        classes: name of a class of precision, and the cases in it.
    """
    lines = [
        "# What it costs to always take the same engine",
        "",
        f"{content['date']}, {content['host']}. Made by `{content['command']}`; raw samples in the JSON beside it.",
        "",
        f"Workloads that no calibration timed: {', '.join(content['workloads'])}. {_METHOD}",
        "",
    ]
    for name, cases in classes.items():
        lines += [f"## {name.capitalize()}", "", *_class(cases), ""]
    every = [case for cases in classes.values() for case in cases]
    lines += ["## The same thing twice", "", *_noise(every, content), ""]
    lines += ["## Left out, failed, missing", "", *_gaps(content), "", "## Versions", "", *_versions(content)]
    return "\n".join(lines).rstrip() + "\n"


def _class(cases: Sequence[Case]) -> list[str]:
    timed = [case for case in cases if case.compared]
    if not timed:
        return ["Nothing was timed."]
    lines = ["### What select picked", "", *_goal(timed), ""]
    rows = []
    for case in timed:
        best = case.best
        cost = f"{regret(case):.3f}" if case.answered else "not timed"
        beyond = f"{beyond_noise(case):.3f}" if case.answered else ""
        rows.append(
            (case.model, case.workload, f"{best} ({case.seconds(best):.3f} s)", case.pick or "none", cost, beyond)
        )
    lines += _table(("model", "workload", "best", "pick", "pick / best", "beyond noise"), rows)
    lines += ["", "### Always the same one", ""]
    lines += [
        _HINDSIGHT,
        "",
    ]
    head = ("always", "/ best, geomean", "worst", "/ pick, geomean", "cells", "left out (predicted)")
    return lines + _table(head, [_always_row(row) for row in always(timed)])


def _goal(cases: Sequence[Case]) -> list[str]:
    answered = [case for case in cases if case.answered]
    figures = {
        "pick over best of both passes": picked(answered, regret),
        "the same beyond the repeat noise": picked(answered, beyond_noise),
        "best chosen on one pass, both judged on the other": cross_judged(answered),
    }
    rows = []
    for what, summary in figures.items():
        if summary is not None:
            met = "met" if summary.met else "not met"
            rows.append((what, f"{summary.geomean:.3f}", f"{summary.worst:.3f}", str(summary.n), met))
    goal = f"goal: {GOAL_GEOMEAN:g} and {GOAL_WORST:g}"
    answered_cells = f"{len(answered)} of {len(cases)} cells have an answer of `select` that was timed."
    return [answered_cells, "", *_table(("", "geomean", "worst", "ratios", goal), rows)]


def _noise(cases: Iterable[Case], content: Mapping[str, Any]) -> list[str]:
    repeats = noise(cases)
    samples = [
        sample
        for model in content["models"].values()
        for launch in model.get("launches", ())
        for cell in launch.get("cells", ())
        for sample in cell["samples"]
    ]
    dirty = sum(1 for sample in samples if sample["dirty"])
    lines = [f"Other programs disturbed {dirty} of {len(samples)} samples."]
    if repeats is None:
        return [*lines, "Nothing was timed in both passes."]
    lines.append(
        f"The same candidate at the same workload took {repeats.geomean:.3f} times longer in its slower pass than in"
        f" its quicker one (geomean of {repeats.n}), at worst {repeats.worst:.3f}."
    )
    return [
        *lines,
        "",
        _BEYOND,
    ]


def _gaps(content: Mapping[str, Any]) -> list[str]:
    lines = []
    for model, model_content in content["models"].items():
        for workload, factors in model_content.get("left_out", {}).items():
            if factors:
                factors_text = ", ".join(f"{label} {factor:.1f}" for label, factor in factors.items())
                lines.append(
                    f"- {model} {workload}: left out, predicted times slower than the best of the class: {factors_text}"
                )
        if unknown := model_content.get("not_measured_by_the_calibration"):
            lines.append(f"- {model}: legal here, but without a measurement in the calibration: {', '.join(unknown)}")
        lines += [
            f"- {model}: {launch['candidate']['backend']}:{launch['candidate']['variant']} {launch['kind']} in pass"
            f" {launch['round']} ({launch['stage']}): {launch['message'].splitlines()[0]}"
            for launch in model_content.get("launches", ())
            if launch["record"] == "failure"
        ]
    lines += [f"- {line}" for line in content["missing"]]
    return lines or ["Nothing: every candidate was timed at every workload."]


def _versions(content: Mapping[str, Any]) -> list[str]:
    shown: dict[str, str] = {}
    for model_content in content["models"].values():
        for label, environment in model_content.get("environments", {}).items():
            versions = ", ".join(f"{name} {version}" for name, version in environment.items())
            shown.setdefault(label.partition(":")[0], versions)
    return _table(("backend", "environment"), sorted(shown.items()))


def _always_row(row: Always) -> tuple[str, ...]:
    over: Summary | None = row.over_best
    return (
        row.name,
        f"{over.geomean:.2f}" if over else "",
        f"{over.worst:.2f}" if over else "",
        f"{row.over_pick:.2f}" if row.over_pick is not None else "",
        f"{over.n if over else 0} of {row.cells}",
        f"{len(row.left_out)} (at least {min(row.left_out):.1f})" if row.left_out else "",
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
