"""Matrix -> Markdown, for a repository's pages and a job's summary."""

import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from selector.export.wording import LEGEND, TITLES, called, mark, reproduce, short, shown_first, tags
from selector.matrix import Matrix, Square, State, View
from selector.screen import day
from selector.telling import grouped

_SPECIAL = re.compile(r"([\\`*_\[\]|~#])")


def markdown(matrix: Matrix) -> str:
    """The page as Markdown (GitHub's): a table for each host and view, then what was refused or failed, and why."""
    pages = Environment(
        loader=PackageLoader("selector.export"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  Markdown: `escaped` is used on everything that is not ours
    )
    pages.filters["md"] = escaped
    template = pages.get_template("matrix.md.j2")
    return template.render(
        matrix=matrix,
        panels=[(TITLES[view], view, workload, called(workload)) for view, workload in shown_first(matrix).items()],
        legend=LEGEND,
        cell=_cell,
        why=_why,
        day=day,
        reproduce=reproduce,
    )


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in a table cell too."""
    plain = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", plain)


def _cell(square: Square, view: View, workload: str) -> str:
    figure = square.figures.get((view, workload))
    text = escaped(short(square, view, figure))
    told = " ".join([text, *map(escaped, tags(square, figure))])
    sign = mark(square, figure)
    if figure is not None and figure.best:
        return f"**{sign} {told}**"
    return f"{sign} {told}".strip()


def _why(squares: list[Square]) -> list[tuple[str, str]]:
    """(variants, reasons) of a row's refused and failed squares; variants with the same story together."""
    told = [(s.label, ", and ".join(s.reasons)) for s in squares if s.state in {State.REFUSED, State.FAILED}]
    return grouped(told)
