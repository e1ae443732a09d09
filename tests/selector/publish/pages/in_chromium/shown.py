"""What the page shows, as its script's reader sees it: rows, heads, cells; and how a control is set."""

import pytest

from selector.publish.hosts.host_file import HostResults
from selector.publish.matrix.matrix import Matrix
from selector.publish.pages.tables import Line
from tests.selector.publish.chromium import CHROMIUM, DRIVER

IN_CHROMIUM = [
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (apt-get install chromium chromium-driver)"
    ),
    pytest.mark.slow,
]

ROWS = """return [...document.querySelectorAll("tr.row")].filter(row => row.checkVisibility())
    .map(row => row.cells[0].firstChild.textContent)"""

IDS = "return [...document.querySelectorAll('.chosen tr.row')].map(row => row.dataset.id)"

HEADS = """return [...document.querySelectorAll(".squares thead th")].filter(head => head.checkVisibility())
    .map(head => head.textContent)"""

CELLS = """return [...document.querySelectorAll("tr.row")].filter(row => row.checkVisibility())
    .map(row => [...row.cells].slice(1).map(cell => [...cell.children].map(line => line.textContent)))"""

CHOOSE = """
    const form = document.querySelector(".filters");
    form.elements.view.value = arguments[0];
    form.dispatchEvent(new Event("input"));
    if (arguments[1]) {
        form.elements.workload.value = arguments[1];
        form.dispatchEvent(new Event("input"));
    }
    return document.querySelector(".chosen .title").textContent"""

FILL = """
    const control = document.querySelector(`[name=${arguments[0]}]`);
    control.value = arguments[1];
    control.dispatchEvent(new Event("input", { bubbles: true }))"""

VISIBLE = "return document.querySelector(arguments[0])?.checkVisibility() ?? false"


def models(results: Matrix, host: HostResults) -> list[str]:
    return [row.model for row in results.of(host)]


def in_words(cell: list[Line]) -> list[str]:
    """As a cell's text shows them: mark, figure, variant, tags."""
    return [
        (f"{line.mark} " if line.mark else "")
        + line.text
        + (line.name if line.percent is not None else "")
        + "".join(line.tags)
        for line in cell
    ]
