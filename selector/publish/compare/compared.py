"""A comparison as a table and a sentence, for the terminal."""

from collections.abc import Iterable

from selector.publish.compare.compare import Comparison
from selector.screens.text import columns, plural


def comparison_lines(comparison: Comparison, across: int | None = None) -> Iterable[str]:
    """What changed, the worse first; nothing where nothing did."""
    several = len(comparison.hosts) > 1
    rows = [
        (
            "worse" if change.worse else "",
            *((change.host,) if several else ()),
            *(change.model, str(change.kind), change.of, f"{change.before} -> {change.now}"),
        )
        for change in comparison.changes
    ]
    head = ("", *(("host",) if several else ()), "model", "change", "of", "before -> now")
    return columns([head, *rows], across=across) if rows else []


def comparison_sentence(comparison: Comparison) -> str:
    """`6 models, 120 candidates and 48 winners compared: 2 changes are worse, 1 is not`."""
    counts = ", ".join((
        plural(comparison.models, "model"),
        plural(comparison.candidates, "candidate"),
        plural(comparison.winners, "winner"),
    ))  # fmt: skip
    worse, others = len(comparison.worse), len(comparison.changes) - len(comparison.worse)
    if not comparison.changes:
        return f"compared {counts}: nothing changed"
    return f"compared {counts}: {plural(worse, 'change')} for the worse, {plural(others, 'other change')}"
