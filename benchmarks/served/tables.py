"""A report's sections: sentences, a table and a list under a title, as Markdown and for a terminal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from selector.screens.text import columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a report."""

    title: str
    sentences: tuple[str, ...] = ()
    """A paragraph each."""
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    """As long as the head."""
    points: tuple[str, ...] = ()
    """A list below."""


def markdown(sections: Iterable[Section], *, level: int = 3) -> str:
    """The sections, each under a heading of this level."""
    return "\n\n".join("\n\n".join(_blocks(section, level)) for section in sections) + "\n"


def plain(sections: Iterable[Section], *, across: int) -> str:
    """The same for a terminal of this width."""
    blocks = []
    for section in sections:
        lines = [section.title.upper()]
        for sentence in section.sentences:
            lines += columns([(sentence,)], across=across)
        lines += columns([section.head, *section.rows]) if section.rows else []
        lines += columns([("-", point) for point in section.points], gap=1, across=across)
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _blocks(section: Section, level: int) -> Sequence[str]:
    """Heading, paragraphs, table and list."""
    blocks = [f"{'#' * level} {section.title}", *section.sentences]
    if section.rows:
        rule = tuple("---" for _ in section.head)
        blocks.append("\n".join(map(_line, (section.head, rule, *section.rows))))
    if section.points:
        blocks.append("\n".join(f"- {point}" for point in section.points))
    return blocks


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
