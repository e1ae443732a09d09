"""The page in Chromium: views, workloads, filters, order."""

import re
from dataclasses import replace
from pathlib import Path

from calibration.measurement import Agreement, OutputVerdict
from selector.publish.hosts.host_file import HostResults
from selector.publish.matrix.figures import View
from selector.publish.matrix.matrix import Matrix, matrix
from selector.publish.pages.html import html
from selector.publish.pages.picks import best_of_backend, slowness
from selector.publish.pages.tables import anchors, backends_of, compared, host_lines, lines
from selector.publish.pages.wording import TITLES, called
from tests.selector.launches import rounds, served
from tests.selector.publish.chromium import Browser
from tests.selector.publish.pages.in_chromium.shown import (
    CELLS,
    CHOOSE,
    FILL,
    HEADS,
    IDS,
    IN_CHROMIUM,
    ROWS,
    in_words,
    models,
)
from tests.selector.publish.published import CT2, HOST, KEY, SDPA, published

pytestmark = IN_CHROMIUM


def test_every_view_and_workload_of_a_host_is_as_published(browser: Browser, page: Path, results: Matrix) -> None:
    for host in results.hosts:
        browser.open(page, host.host)
        rows = results.of(host)
        backends = backends_of(rows, results)
        for view in View:
            for workload in results.workloads_of(host):
                title = browser.run(CHOOSE, view, workload.label)
                assert title == f"{TITLES[view]}, {called(workload)}"
                expected = [[in_words(lines(r, b, view, workload.label)) for b in backends] for r in rows]
                assert browser.run(CELLS) == expected


def test_every_view_and_workload_of_all_hosts_is_as_published(browser: Browser, page: Path, results: Matrix) -> None:
    browser.open(page)
    on_all_hosts = compared(results)
    for view in View:
        for workload in results.workloads:
            browser.run(CHOOSE, view, workload.label)
            expected = [
                [
                    ["· not measured"]
                    if row is None
                    else in_words(host_lines(model, row, view, workload.label)) or ["· not timed"]
                    for row in model.rows
                ]
                for model in on_all_hosts
            ]
            assert browser.run(CELLS) == expected


def test_bars_are_as_long_as_published(browser: Browser, page: Path, results: Matrix) -> None:
    widths = """return [...document.querySelectorAll(".chosen tr.row a[style]")]
        .map(line => Number(getComputedStyle(line).getPropertyValue("--w")))"""
    shown = 'return getComputedStyle(document.querySelector(".chosen a[style] .value"), "::after").height'
    browser.open(page)
    workload = results.workloads[0].label
    on_all_hosts = compared(results)
    cells = [host_lines(m, row, View.END_TO_END, workload) for m in on_all_hosts for row in m.rows if row is not None]
    assert browser.run(widths) == [line.percent for cell in cells for line in cell]
    assert browser.run(shown) != "auto"


def test_each_view_begins_with_its_own_workload(browser: Browser, page: Path, host: HostResults) -> None:
    browser.open(page, host.host)
    titles = [browser.run(CHOOSE, view, "") for view in View]
    assert [title.partition(", ")[0] for title in titles] == ["End to end", "Prefill", "Decode"]
    assert titles[0] == "End to end, chat (pp512:tg128:b1)"
    assert re.fullmatch(r"Prefill, pp\d+:tg\d+:b1", titles[1])


def test_filters(browser: Browser, page: Path, results: Matrix) -> None:
    quantised = {row.identity.host for row in results.rows if row.identity.quant != "none"}
    host = max((host for host in results.hosts if host.host in quantised), key=lambda host: len(results.of(host)))
    browser.open(page, host.host)
    every = models(results, host)
    left = "return document.querySelector('.filters output').textContent"
    browser.click("[name=model]")
    browser.press(*"Qwen")
    qwen = [name for name in every if "qwen" in name.lower()]
    assert browser.run(ROWS) == qwen
    assert browser.run(left) == f"{len(qwen)} of {len(every)} models"
    articles = 'return [...document.querySelectorAll("article[id]")].filter(a => a.checkVisibility()).length'
    assert browser.run(articles) == len(qwen)
    browser.run(FILL, "model", "")
    assert (browser.run(ROWS), browser.run(left)) == (every, "")

    quant = next(row.identity.quant for row in results.of(host) if row.identity.quant != "none")
    browser.run(FILL, "quant", quant)
    assert browser.run(ROWS) == [row.model for row in results.of(host) if row.identity.quant == quant]
    browser.run(FILL, "quant", "")

    heads = browser.run(HEADS)
    browser.click("[name=backend][value=openvino]")
    assert browser.run(HEADS) == [head for head in heads if head != "openvino"]
    parts = """return [...document.querySelectorAll("[data-backend=openvino]")]
        .filter(part => part.checkVisibility()).length"""
    assert browser.run(parts) == 0
    browser.click("[name=backend][value=openvino]")
    assert browser.run(HEADS) == heads
    assert browser.run(parts) > 0


def test_the_table_of_all_hosts_names_the_fastest_of_the_backends_that_are_wanted(browser: Browser, page: Path) -> None:
    names = 'return [...document.querySelectorAll("#all tr.row a > small:not(.tag)")].map(name => name.textContent)'
    browser.open(page)
    assert any(name.startswith("openvino:") for name in browser.run(names))
    browser.click("[name=backend][value=openvino]")
    assert browser.run(names)
    assert not any(name.startswith("openvino:") for name in browser.run(names))


def test_columns_sort(browser: Browser, page: Path, results: Matrix, host: HostResults) -> None:
    browser.open(page, host.host)
    workload = results.workloads_of(host)[0].label
    backend = "openvino"
    column = ["model", *backends_of(results.of(host), results)].index(backend)
    # By the rows' ids: a model may have several rows, with all its layers and with few.
    figures, without = dict[str, float](), list[str]()
    for row in results.of(host):
        name = anchors(results)[row.identity]
        match best_of_backend(row, backend, View.END_TO_END, workload):
            case [square, *_] if not square.lossy:
                figures[name] = slowness(View.END_TO_END, square.figures[View.END_TO_END, workload])
            case _:
                without.append(name)
    assert figures
    assert without
    button = f'.chosen .squares th[data-backend="{backend}"] button'
    slownesses = """return [...document.querySelectorAll('.chosen tr.row')]
        .map(row => row.cells[arguments[0]].slowness ?? null)"""
    sorts = "return document.querySelectorAll('.chosen .squares th')[arguments[0]].getAttribute('aria-sort')"
    browser.click(button)
    assert browser.run(sorts, column) == "ascending"
    assert browser.run(IDS) == [*sorted(figures, key=figures.__getitem__), *without]
    assert browser.run(slownesses, column) == [*sorted(figures.values()), *(None for _ in without)]
    browser.click(button)
    assert browser.run(sorts, column) == "descending"
    assert browser.run(IDS) == [*sorted(figures, key=figures.__getitem__, reverse=True), *without]
    # The order holds for what is shown next.
    browser.run(CHOOSE, View.DECODE, "")
    speeds = [value for value in browser.run(slownesses, column) if value is not None]
    assert speeds == sorted(speeds, reverse=True)
    browser.click(".chosen .squares th:first-child button")
    names = browser.run(ROWS)
    assert names == sorted(names, key=str.lower)


def test_a_row_with_a_lossy_figure_alone_is_sorted_with_those_that_have_none(browser: Browser, tmp_path: Path) -> None:
    lossy = Agreement(verdict=OutputVerdict.LOSSY, detail="KL 0.012")
    wide = replace(KEY, dtype="float32")
    faster = rounds(SDPA, wide, HOST, (1.0, 1.0), agreement=lossy)
    results = matrix([published(*rounds(SDPA, KEY, HOST, (2.0, 2.0)), *faster)])
    path = tmp_path / "matrix.html"
    path.write_text(html(results), encoding="utf-8")
    browser.open(path)
    ids = anchors(results)
    for _ in range(2):
        browser.click('.chosen .squares th[data-backend="transformers"] button')
        assert browser.run(IDS) == [ids[KEY], ids[wide]]


def test_what_was_served_is_filtered_like_the_batches(browser: Browser, tmp_path: Path) -> None:
    launches = [*rounds(SDPA, KEY, HOST, (1.0, 1.0)), *rounds(CT2, KEY, HOST, (2.0, 2.0))]
    loads = [served(SDPA, KEY, HOST, {"pp64:tg32:c8": 160.0}), served(CT2, KEY, HOST, {"pp64:tg32:c8": 80.0})]
    path = tmp_path / "matrix.html"
    path.write_text(html(matrix([published(*launches, *loads)])), encoding="utf-8")
    rows = """return [...document.querySelectorAll("table.served tbody tr")].filter(row => row.checkVisibility())
        .map(row => row.cells[0].textContent)"""
    browser.open(path)
    assert browser.run(rows) == [SDPA, CT2]
    browser.click("[name=backend][value=ctranslate2]")
    assert browser.run(rows) == [SDPA]
    browser.run(FILL, "model", "another")
    assert browser.run(rows) == []
    browser.scripts(run=False)
    browser.open(path)
    assert browser.run(rows) == [SDPA, CT2]
