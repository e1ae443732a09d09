"""The report: a confusion matrix by backend, and every pair in which rules and truth disagree, with its cause."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.rule_truth.cases.kept import Kept
from benchmarks.rule_truth.judging import Pair, Pairing, count, engine_of

_COLUMNS = (Pairing.RIGHT_YES, Pairing.RIGHT_NO, Pairing.FALSE_YES, Pairing.FALSE_NO, Pairing.UNKNOWN)


def report_markdown(pairs: Sequence[Pair], cases: Mapping[str, Kept]) -> str:
    """Tables for people."""
    lines = [
        "# Rules and truth",
        "",
        "Written by `make rule-truth`: what the rules say of small models, beside what loading showed (truth.jsonl).",
        "",
        *matrix(count(pairs)),
        "",
    ]
    for pairing, title in (
        (Pairing.FALSE_YES, "Legal, but it fails or is wrong"),
        (Pairing.FALSE_NO, "Refused, but right"),
    ):
        lines += [f"## {title}", ""]
        chosen = [pair for pair in pairs if pair.pairing is pairing]
        if not chosen:
            lines += ["None.", ""]
            continue
        lines += ["| candidate | case | kind | cause |", "| --- | --- | --- | --- |"]
        lines += [
            f"| `{p.trial.candidate}` | `{p.trial.case}` | {cases[p.trial.config].kind} | {_cell(cause(p))} |"
            for p in chosen
        ]
        lines.append("")
    return "\n".join(lines)


def matrix(engines: Mapping[str, Mapping[Pairing, int]]) -> list[str]:
    """The confusion matrix as a table, from what `count` gives."""
    lines = [
        f"| engine | pairs | agree | {' | '.join(_COLUMNS)} |",
        f"| --- | {' | '.join(['---:'] * (len(_COLUMNS) + 2))} |",
    ]
    for engine, row in sorted(engines.items()):
        agree = row[Pairing.RIGHT_YES] + row[Pairing.RIGHT_NO]
        known = sum(row.values()) - row[Pairing.UNKNOWN]
        share = f"{agree / known:.0%}" if known else ""
        lines.append(f"| {engine} | {sum(row.values())} | {share} | {' | '.join(str(row[c]) for c in _COLUMNS)} |")
    return lines


def cause(pair: Pair) -> str:
    """Why the truth is another than the rules'."""
    trial = pair.trial
    if pair.reasons:
        return "; ".join(pair.reasons)
    where = f"{trial.verdict} ({trial.stage})" if trial.stage and trial.stage != "check" else trial.verdict
    return f"{where}: {trial.message}"


def report_json(pairs: Sequence[Pair]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "engines": {name: {str(p): n for p, n in row.items()} for name, row in sorted(count(pairs).items())},
        "disagreements": [
            {
                "case": p.trial.case,
                "candidate": p.trial.candidate,
                "engine": engine_of(p.trial.candidate),
                "pairing": str(p.pairing),
                "verdict": p.trial.verdict,
                "message": p.trial.message,
                "reasons": list(p.reasons),
            }
            for p in pairs
            if p.pairing in {Pairing.FALSE_YES, Pairing.FALSE_NO}
        ],
    }


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")[:300]
