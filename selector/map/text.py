"""The map as text: a grid of letters for each batch, side by side as far as they fit, and a legend."""

import textwrap

from selector.map.marks import DIRECTIONS, candidates, mark, question, sentence, signs, title
from selector.map.winner_map import WinnerMap
from selector.screens.text import DEFAULT_WIDTH, columns

_GAP = 4


def text(drawn: WinnerMap, *, now: float | None = None, across: int | None = None) -> list[str]:
    """Its lines, at most `across` wide as far as a single grid and a legend's words allow."""
    room = across or DEFAULT_WIDTH
    lines = [line for told in (title(drawn, now), question(drawn)) for line in textwrap.wrap(told, room)]
    lines += [DIRECTIONS, ""]
    grids = [_grid(drawn, place) for place in range(len(drawn.axes.batches))]
    wide = max(len(line) for grid in grids for line in grid)
    beside = max(1, (room + _GAP) // (wide + _GAP))
    for start in range(0, len(grids), beside):
        rows = zip(*grids[start : start + beside], strict=True)
        lines += [(" " * _GAP).join(f"{line:{wide}}" for line in row).rstrip() for row in rows]
        lines.append("")
    lines += columns(candidates(drawn), "><>", across=room)
    legend = list(signs(drawn))
    lines += ["", *columns(legend, across=room)] if legend else []
    return [*lines, "", *textwrap.wrap(sentence(drawn), room)]


def _grid(drawn: WinnerMap, batch: int) -> list[str]:
    axes = drawn.axes
    rows = [
        [str(output), *(mark(drawn, drawn.cells[axes.at(x, y, batch)]) for x in range(len(axes.prompts)))]
        for y, output in enumerate(axes.outputs)
    ]
    foot = ["tg / pp", *map(str, axes.prompts)]
    return [f"batch {axes.batches[batch]}", *columns([*reversed(rows), foot], ">")]
