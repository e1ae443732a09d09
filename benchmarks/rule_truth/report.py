"""The report: a confusion matrix by engine, and every pair in which rules and truth disagree, with its cause."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.rule_truth.cases.kept import Kept
from benchmarks.rule_truth.judging import Pair, Pairing, engine_of
from benchmarks.rule_truth.known.known import DISAGREEMENTS, Disagreement, Known, key_of

EXPLAINED = "explained"
"""Column: how many of the false ones are in the list of known disagreements."""
_COLUMNS = (Pairing.RIGHT_YES, Pairing.RIGHT_NO, Pairing.FALSE_YES, Pairing.FALSE_NO, EXPLAINED, Pairing.UNKNOWN)
_TITLES = {Pairing.FALSE_YES: "Legal, but it fails or is wrong", Pairing.FALSE_NO: "Refused, but right"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What the rules of an earlier commit said of the same pairs."""

    commit: str
    engines: Mapping[str, Mapping[str, int]]
    """As `count` gives them."""


def report_markdown(
    pairs: Sequence[Pair],
    cases: Mapping[str, Kept],
    known: Known,
    errors: Sequence[str],
    before: Before | None = None,
) -> str:
    """Tables for people.

    Args:
        errors: of the list of known disagreements.
    """
    lines = [
        "# Rules and truth",
        "",
        "Written by `make rule-truth`: what the rules say of small models, beside what loading showed (truth.jsonl).",
        "Of the false ones those are explained that stand below with their cause and a reference.",
        "",
        *matrix(count(pairs, known)),
        "",
    ]
    if before:
        lines += [before_sentence(before.commit), "", *matrix(before.engines), ""]
    for pairing, title in _TITLES.items():
        unexplained = [pair for pair in pairs if pair.pairing is pairing and not known.explains(pair)]
        lines += [f"## {title}", "", *_unexplained(unexplained, cases), ""]
    for pairing, title in _TITLES.items():
        lines += [f"## {title}: explained", "", *_explained(pairs, pairing, known), ""]
    if errors:
        lines += ["## Errors of the list", "", *(f"- {error}" for error in errors), ""]
    return "\n".join(lines)


def count(pairs: Sequence[Pair], known: Known) -> dict[str, dict[str, int]]:
    """Engine: how many pairs of each kind, and how many of the false ones are explained."""
    table = dict[str, dict[str, int]]()
    for pair in pairs:
        row = table.setdefault(engine_of(pair.trial.candidate), dict.fromkeys(map(str, _COLUMNS), 0))
        row[str(pair.pairing)] += 1
        row[EXPLAINED] += known.explains(pair) is not None
    return table


def matrix(engines: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The confusion matrix as a table, from what `count` gives."""
    lines = [
        f"| engine | pairs | agree | {' | '.join(_COLUMNS)} |",
        f"| --- | {' | '.join(['---:'] * (len(_COLUMNS) + 2))} |",
    ]
    for engine, row in sorted(engines.items()):
        pairs = sum(row[pairing] for pairing in Pairing)
        agree, checked = row[Pairing.RIGHT_YES] + row[Pairing.RIGHT_NO], pairs - row[Pairing.UNKNOWN]
        share = f"{agree / checked:.0%}" if checked else ""
        lines.append(f"| {engine} | {pairs} | {share} | {' | '.join(str(row[c]) for c in _COLUMNS)} |")
    return lines


def before_sentence(commit: str) -> str:
    """What stands above the matrix of earlier rules."""
    return f"The rules of commit {commit} said of the same pairs:"


def cause(pair: Pair) -> str:
    """Why the truth is another than the rules'."""
    trial = pair.trial
    if pair.reasons:
        return "; ".join(pair.reasons)
    where = f"{trial.verdict} ({trial.stage})" if trial.stage and trial.stage != "check" else trial.verdict
    return f"{where}: {trial.message}"


def report_json(pairs: Sequence[Pair], known: Known, before: Before | None = None) -> dict[str, Any]:
    """The same for programs."""
    then = {"commit": before.commit, "engines": dict(sorted(before.engines.items()))} if before else None
    return {
        "engines": dict(sorted(count(pairs, known).items())),
        "before": then,
        "disagreements": [
            {
                "case": p.trial.case,
                "candidate": p.trial.candidate,
                "engine": engine_of(p.trial.candidate),
                "pairing": str(p.pairing),
                "verdict": p.trial.verdict,
                "message": p.trial.message,
                "reasons": list(p.reasons),
                "known": _known(known.explains(p)),
            }
            for p in pairs
            if p.pairing in DISAGREEMENTS
        ],
    }


def _known(disagreement: Disagreement | None) -> dict[str, str] | None:
    if disagreement is None:
        return None
    return {"cause": disagreement.cause, "reference": disagreement.reference, "seen": disagreement.seen}


def _unexplained(pairs: Sequence[Pair], cases: Mapping[str, Kept]) -> list[str]:
    if not pairs:
        return ["None."]
    return [
        "| candidate | case | kind | cause |",
        "| --- | --- | --- | --- |",
        *(
            f"| `{p.trial.candidate}` | `{p.trial.case}` | {cases[p.trial.config].kind} | {_cell(cause(p))} |"
            for p in pairs
        ),
    ]


def _explained(pairs: Sequence[Pair], pairing: Pairing, known: Known) -> list[str]:
    """A line for each that is listed, with all its pairs."""
    by_cause = dict[Disagreement, list[Pair]]()
    for pair in pairs:
        if pair.pairing is pairing and (disagreement := known.explains(pair)):
            by_cause.setdefault(disagreement, []).append(pair)
    if not by_cause:
        return ["None."]
    lines = ["| candidates | cases | cause | reference | seen in |", "| --- | --- | --- | --- | --- |"]
    for disagreement, explained in by_cause.items():
        labels, names = (_each(key_of(pair)[part] for pair in explained) for part in (1, 0))
        words = (disagreement.cause, disagreement.reference, disagreement.seen)
        lines.append(f"| {labels} | {names} | {' | '.join(map(_cell, words))} |")
    return lines


def _each(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())[:300]
