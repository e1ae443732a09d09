"""Matrix -> one self-contained HTML page: readable without a script, better with one."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from selector.publish.matrix.matrix import Matrix
from selector.publish.matrix.not_launched import not_launched_on
from selector.publish.matrix.rerun import command
from selector.publish.pages import tables
from selector.publish.pages.embedded import embedded
from selector.publish.pages.picks import launched, shown_first
from selector.publish.pages.served import HEAD as SERVED_HEAD
from selector.publish.pages.served import served_tables
from selector.publish.pages.wording import (
    AS_SERVED,
    LEGEND,
    OF_THE_MACHINE,
    TITLES,
    called,
    converted,
    machine,
    models_of,
    precision,
    reached,
)
from selector.screens.text import day, output, plural, seconds, size


def html(matrix: Matrix) -> str:
    """The page."""
    pages = Environment(
        loader=PackageLoader("selector.publish.pages"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,
    )
    anchors = tables.anchors(matrix)
    return pages.get_template("matrix.html.j2").render(
        matrix=matrix,
        newest=max((host.published_at for host in matrix.hosts), default=0.0),
        compared=tables.compared(matrix) if len(matrix.hosts) > 1 else [],
        first=lambda host: shown_first(matrix.workloads_of(host)),
        first_of_all=shown_first(matrix.workloads),
        backends_of=tables.backends_of,
        lines=tables.lines,
        host_lines=tables.host_lines,
        line=tables.line,
        anchor=lambda row: anchors[row.identity],
        launched=launched,
        not_launched=not_launched_on,
        served=served_tables,
        served_head=SERVED_HEAD,
        as_served=AS_SERVED,
        models_of=models_of,
        launches=lambda rows: sum(square.launches for row in rows for square in row.squares),
        commands=lambda rows: list(dict.fromkeys(command(row.model, rerun) for row in rows for rerun in row.reruns)),
        quants=sorted({row.identity.quant for row in matrix.rows}),
        titles=TITLES,
        legend=LEGEND,
        embedded=embedded(matrix, anchors),
        called=called,
        converted=converted,
        machine=machine,
        of_the_machine=OF_THE_MACHINE,
        reached=reached,
        precision=precision,
        day=day,
        output=output,
        plural=plural,
        seconds=seconds,
        size=size,
    )
