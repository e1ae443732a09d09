"""The map as one self-contained SVG: colours, hatches and letters say the same; readable light and dark, no script."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from calibration.errors import UsageError
from calibration.whole_file import write_whole
from selector.map.cells import Cell, Won
from selector.map.marks import DIRECTIONS, candidates, mark, question, sentence, signs, story, title
from selector.map.winner_map import WinnerMap

_WIDE, _HIGH = 58, 26
"""Of a cell, pixels."""
_MARGIN, _AXIS, _LINE = 24, 54, 20
_ROOM = 1100
"""Panels stand side by side up to here."""
_LEAST = 860
"""Width that the legend's lines need."""
_LETTER = 8
"""Width of a letter of the bold 13 pixel font in the mean; a longer line would leave the drawing."""

_COLOURS = ("#7fb8e6", "#f5b84d", "#6fcfae", "#f0908a", "#d9c8f2", "#f3e36b", "#c9b29b", "#b7dd79")
"""Light enough for black letters, and told apart by people who see no red or no green (after Okabe and Ito)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    """A cell as it is drawn."""

    x: int
    y: int
    letters: str
    title: str
    kind: str
    """Its classes: `c0`, with `far` where it is extrapolated and `missed` where it misses the targets; `nothing`."""
    hatch: str
    """The class of the candidate that is as good; empty where none is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    """The grid of one batch."""

    x: int
    y: int
    batch: int
    boxes: tuple[_Box, ...]


def svg(drawn: WinnerMap, *, now: float | None = None) -> str:
    """The drawing."""
    pages = Environment(
        loader=PackageLoader("selector.map"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,
    )
    axes = drawn.axes
    panel_wide, panel_high = _AXIS + _WIDE * len(axes.prompts), 2 * _LINE + _HIGH * len(axes.outputs) + 10
    beside = max(1, min(len(axes.batches), (_ROOM + _MARGIN) // (panel_wide + _MARGIN)))
    wide = max(_LEAST, 2 * _MARGIN + beside * panel_wide + (beside - 1) * _MARGIN)
    letters_across = int((wide - 2 * _MARGIN) / _LETTER)
    told = [("head", title(drawn, now)), ("", question(drawn)), ("", DIRECTIONS)]
    head = [(kind, line) for kind, text in told for line in textwrap.wrap(text, letters_across)]
    top = _MARGIN + _LINE * len(head) + 10
    panels = tuple(
        _panel(drawn, place, _MARGIN + place % beside * (panel_wide + _MARGIN), top + place // beside * panel_high)
        for place in range(len(axes.batches))
    )
    legend = top + -(-len(panels) // beside) * panel_high + _LINE
    signs_told = [(sign, textwrap.wrap(text, letters_across - 12)) for sign, text in signs(drawn)]
    tail = textwrap.wrap(sentence(drawn), letters_across)
    lines = len(drawn.letters) + sum(len(told) for _, told in signs_told) + len(tail) + 1
    return pages.get_template("map.svg.j2").render(
        wide=wide,
        high=legend + lines * _LINE + _MARGIN,
        margin=_MARGIN,
        axis=_AXIS,
        line=_LINE,
        cell_wide=_WIDE,
        cell_high=_HIGH,
        head=head,
        panels=panels,
        axes=axes,
        legend=legend,
        colours=_COLOURS,
        hatches=sorted({box.hatch for panel in panels for box in panel.boxes if box.hatch}),
        candidates=[(_kind(drawn, row[1]), *row) for row in candidates(drawn)],
        signs=signs_told,
        tail=tail,
        spoken=f"{title(drawn, now)}: {sentence(drawn)}",
    )


def write_svg(drawn: WinnerMap, path: Path) -> None:
    """Write the drawing.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        write_whole(path, svg(drawn), mode=0o644)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", "name another file with --svg") from error


def _panel(drawn: WinnerMap, place: int, x: int, y: int) -> _Panel:
    return _Panel(x=x, y=y, batch=drawn.axes.batches[place], boxes=tuple(_boxes(drawn, place)))


def _boxes(drawn: WinnerMap, batch: int) -> Iterator[_Box]:
    axes = drawn.axes
    for row, output in enumerate(reversed(range(len(axes.outputs)))):
        for prompt in range(len(axes.prompts)):
            cell = drawn.cells[axes.at(prompt, output, batch)]
            yield _Box(
                x=_AXIS + prompt * _WIDE,
                y=_LINE + row * _HIGH,
                letters=mark(drawn, cell),
                title=story(drawn, cell),
                kind=_kinds(drawn, cell),
                hatch=_kind(drawn, cell.rival) if isinstance(cell, Won) and cell.rival else "",
            )


def _kinds(drawn: WinnerMap, cell: Cell) -> str:
    if not isinstance(cell, Won):
        return "nothing"
    return _kind(drawn, cell.label) + " far" * cell.extrapolated + " missed" * cell.missed


def _kind(drawn: WinnerMap, label: str) -> str:
    return f"c{list(drawn.letters).index(label) % len(_COLOURS)}"
