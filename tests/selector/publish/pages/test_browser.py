"""The page in a real Chromium, with the results of all hosts in results/hosts: what its reader sees and can do."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.measurement import Agreement, OutputVerdict
from calibration.registry import all_backends
from calibration.workload import grid
from selector.identity import environment_of
from selector.predict.limits.roofline import Needs
from selector.publish.hosts.host_file import HostResults, read
from selector.publish.matrix.figures import View
from selector.publish.matrix.matrix import Matrix, State, matrix
from selector.publish.matrix.not_launched import not_launched_of
from selector.publish.pages.html import html
from selector.publish.pages.picks import best_of_backend, launched, slowness
from selector.publish.pages.tables import Line, anchors, backends_of, compared, host_lines, lines
from selector.publish.pages.wording import TITLES, called
from tests.calibration.probes import GIVEN as PROBE
from tests.selector.launches import rounds, served
from tests.selector.publish.chromium import CHROMIUM, DRIVER, ENTER, ESCAPE, SPACE, TAB, Browser, wait_until
from tests.selector.publish.published import CHAT, CT2, EAGER, HOST, KEY, MODEL, SDPA, published

pytestmark = [
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (apt-get install chromium chromium-driver)"
    ),
    pytest.mark.slow,
]

FOLDER = Path(__file__).parents[4] / "results" / "hosts"

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


@pytest.fixture(scope="module")
def results() -> Matrix:
    hosts = sorted((read(path) for path in FOLDER.glob("*.json")), key=lambda host: (host.device, host.host))
    return matrix(hosts, [f"{name}:{v.name}" for name, b in all_backends().items() for v in b.variants])


@pytest.fixture(scope="module")
def page(results: Matrix, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results") / "matrix.html"
    path.write_text(html(results), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with Browser() as started:
        yield started


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """A window of 1400 x 900 in which nothing is emulated; no test may leave a word on its console."""
    chromium.scripts(run=True)
    chromium.media()
    chromium.resize(1400)
    chromium.complaints()
    yield chromium
    assert chromium.complaints() == []


@pytest.fixture
def host(results: Matrix) -> HostResults:
    """The host with most rows."""
    return max(results.hosts, key=lambda host: len(results.of(host)))


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


# ---- A host at a time


def test_the_control_shows_the_rows_of_one_host(browser: Browser, page: Path, results: Matrix) -> None:
    browser.open(page)
    assert len(results.hosts) > 1
    assert browser.run(HEADS)[1:] == [host.device for host in results.hosts]
    for host in results.hosts:
        browser.click(f'.hosts a[href="#{host.host}"]')
        assert browser.address() == host.host
        assert browser.run(ROWS) == models(results, host)
        assert browser.run(HEADS) == ["model", *backends_of(results.of(host), results)]
        current = 'return [...document.querySelectorAll(".hosts [aria-current]")].map(link => link.hash)'
        assert browser.run(current) == [f"#{host.host}"]
        sections = 'return [...document.querySelectorAll(".host")].filter(s => s.checkVisibility()).map(s => s.id)'
        assert browser.run(sections) == [host.host]
    browser.back()
    wait_until(lambda: browser.run(ROWS) == models(results, results.hosts[-2]))
    assert browser.address() == results.hosts[-2].host
    browser.open(page)
    browser.click(f'.hosts a[href="#{results.hosts[0].host}"]')
    browser.back()
    wait_until(lambda: browser.run(VISIBLE, "#all"))


def test_a_link_opens_its_host_and_its_model(browser: Browser, page: Path, results: Matrix, host: HostResults) -> None:
    browser.open(page, host.host)
    assert browser.run(ROWS) == models(results, host)
    last = anchors(results)[results.of(host)[-1].identity]
    browser.open(page, last)
    assert browser.run(ROWS) == models(results, host)
    top = "return document.getElementById(arguments[0]).getBoundingClientRect().top"
    wait_until(lambda: 0 <= browser.run(top, last) < 900)


def test_a_host_in_the_table_of_all_is_a_link_to_it(browser: Browser, page: Path, host: HostResults) -> None:
    browser.open(page)
    browser.click(f'#all thead a[href="#{host.host}"]')
    assert browser.address() == host.host
    assert browser.run(VISIBLE, f'[id="{host.host}"]')


# ---- Views, workloads, filters, order


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


# ---- The whole story


def test_a_cell_opens_the_story_of_its_variant(
    browser: Browser, page: Path, results: Matrix, host: HostResults
) -> None:
    browser.open(page, host.host)
    browser.click(".chosen .squares td a.best")
    address = browser.address()
    model, _, label = address.partition("/")
    row = next(row for row in results.of(host) if anchors(results)[row.identity] == model)
    square = next(s for s in launched(row) if s.label == label)
    story = browser.run("return document.querySelector('dialog[open]').textContent")
    figure = square.figures[View.END_TO_END, results.workloads[0].label]
    assert square.measurement is not None
    assert figure.best
    for words in (label, row.model, host.device, "the last on ", square.measurement.agreement.detail):
        assert words in story
    for workload in results.workloads_of(host):
        assert called(workload) in story
    for cell in square.cells:
        assert cell.workload.label in story
    for name, version in square.measurement.environment.items():
        assert f"{name} {version}" in story
    assert f"autobackend calibrate {row.model} " in story
    assert f" --backends {label}" in story
    browser.press(ESCAPE)
    wait_until(lambda: browser.address() == host.host)
    assert not browser.run("return document.querySelector('dialog').open")
    # The address of a story can be shared; the back button closes it.
    browser.open(page, address)
    assert browser.run("return document.querySelector('dialog[open]').textContent") == story
    browser.press(ESCAPE)
    wait_until(lambda: browser.address() == model)


def test_the_back_button_closes_a_story(browser: Browser, page: Path, host: HostResults) -> None:
    browser.open(page, host.host)
    browser.click(".chosen .variants a")
    assert browser.run("return document.querySelector('dialog').open")
    browser.back()
    wait_until(lambda: not browser.run("return document.querySelector('dialog').open"))
    assert browser.address() == host.host


def test_a_refusal_and_a_failure_tell_every_reason(browser: Browser, page: Path, results: Matrix) -> None:
    ids = anchors(results)
    story = "return document.querySelector('dialog[open]').textContent"
    row = next(row for row in results.rows if not_launched_of(row))
    group = not_launched_of(row)[0]
    browser.open(page, row.identity.host)
    browser.click(f'[data-id="{ids[row.identity]}"] td[data-backend="{group.backend}"] a')
    for each in not_launched_of(row):
        if each.backend == group.backend:
            assert each.reason in browser.run(story)
    failed, square = next((row, s) for row in results.rows for s in row.squares if s.state is State.FAILED)
    browser.open(page, f"{ids[failed.identity]}/{square.label}")
    words = browser.run(story)
    assert square.reasons[0] in words
    assert f" --backends {square.label}" in words


def test_a_stale_variant_says_what_changed(browser: Browser, tmp_path: Path) -> None:
    old = {**environment_of(all_backends()["transformers"], HOST), "torch": "2.12.0"}
    launches = [*rounds(EAGER, KEY, HOST, (1.0, 1.0), environment=old), *rounds(CT2, KEY, HOST, (2.0, 2.0))]
    results = matrix([published(*launches)])
    path = tmp_path / "matrix.html"
    path.write_text(html(results), encoding="utf-8")
    browser.open(path)
    (row,) = results.rows
    backends = backends_of(results.rows, results)
    assert browser.run(CELLS) == [[in_words(lines(row, b, View.END_TO_END, CHAT)) for b in backends]]
    assert browser.run("return document.querySelector('.squares a.stale .tag').textContent") == "stale"
    browser.click(".squares a.stale")
    story = browser.run("return document.querySelector('dialog[open]').textContent")
    assert "stale; since then: torch 2.12.0 -> 2.13.0" in story
    assert "torch 2.12.0" in story.partition("Versions")[2]


def test_a_story_of_a_probed_machine_says_what_was_reached(browser: Browser, tmp_path: Path) -> None:
    needed = {c.label: Needs(step_bytes=22e7, operations=1e11, dtype="int8") for c in grid()}
    host = replace(published(*rounds(SDPA, KEY, HOST, (1.0, 1.0))), probe=PROBE, needs={MODEL: {"": {SDPA: needed}}})
    path = tmp_path / "matrix.html"
    path.write_text(html(matrix([host])), encoding="utf-8")
    browser.open(path)
    browser.click(".squares a.measured")
    story = browser.run("return document.querySelector('dialog[open]').textContent")
    assert "of the machine6.0 % of int8, 25 % of memory" in story
    assert "cellTTFTTPOTprefill reachesdecode of memory" in story
    assert "6.0 % of int825 %" in story


def test_a_figure_says_that_its_output_is_unchecked(browser: Browser, tmp_path: Path) -> None:
    unchecked = Agreement(verdict=OutputVerdict.UNCHECKED, detail="no reference")
    results = matrix([published(*rounds(SDPA, KEY, HOST, (1.0, 1.0), agreement=unchecked))])
    path = tmp_path / "matrix.html"
    path.write_text(html(results), encoding="utf-8")
    for scripts in (True, False):
        browser.scripts(run=scripts)
        browser.open(path)
        assert browser.run("return document.querySelector('.squares .tag').textContent") == "unchecked"


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


# ---- Dark, print, narrow, keyboard, no script


def test_dark(browser: Browser, page: Path, host: HostResults) -> None:
    colours = """const of = css => getComputedStyle(document.querySelector(css));
        return [of("body").backgroundColor, of("body").color, of(".chosen td:has(a.best)").backgroundColor]"""
    seen = {}
    for scheme in ("light", "dark"):
        browser.media(prefers_color_scheme=scheme)
        browser.open(page, host.host)
        seen[scheme] = [brightness(colour) for colour in browser.run(colours)]
    (paper, ink, best), (dark_paper, dark_ink, dark_best) = seen["light"], seen["dark"]
    assert paper > 0.9 and ink < 0.2 and best > 0.8
    assert dark_paper < 0.2 and dark_ink > 0.8 and dark_best < 0.3


def brightness(colour: str) -> float:
    """0 black to 1 white, of `rgb(251, 251, 249)`."""
    return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / (3 * 255)


def test_the_best_is_told_without_colour(browser: Browser, page: Path, host: HostResults) -> None:
    browser.open(page, host.host)
    marks = """return [".best .mark", ".tied .mark"].map(css => document.querySelector(`.chosen ${css}`).textContent)"""
    assert browser.run(marks) == ["★", "≈"]
    assert browser.run("return getComputedStyle(document.querySelector('.chosen a.best .value')).fontWeight") == "700"


def test_print(browser: Browser, page: Path, results: Matrix, host: HostResults) -> None:
    browser.media("print", prefers_color_scheme="dark")
    browser.open(page, host.host)
    assert [css for css in (".filters", ".hosts", "dialog") if browser.run(VISIBLE, css)] == []
    for css in ("h1", ".chosen h2", ".chosen .squares", ".chosen .variants", ".chosen .reasons", ".chosen .versions"):
        assert browser.run(VISIBLE, css), css
    assert browser.run(ROWS) == models(results, host)
    cut = """return [...document.querySelectorAll(".chosen .scroll")]
        .filter(part => getComputedStyle(part).overflowX !== "visible").length"""
    assert browser.run(cut) == 0
    of = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
    paper, ink = map(brightness, browser.run(of))
    assert (paper, ink) == (1.0, 0.0)
    # All on the paper, nothing cut off at its side: A4 landscape within the margins is 1046 CSS pixels wide.
    browser.resize(1046)
    assert browser.run("return document.documentElement.scrollWidth") <= 1046
    pdf = browser.cdp("Page.printToPDF", preferCSSPageSize=True)["data"]
    assert len(pdf) > 10_000


@pytest.mark.parametrize("width", [320, 480, 768])
def test_narrow_screens_scroll_down_only(browser: Browser, page: Path, results: Matrix, width: int) -> None:
    across = "return document.documentElement.scrollWidth"
    browser.resize(width)
    row = results.rows[0]
    story = f"{anchors(results)[row.identity]}/{launched(row)[0].label}"
    for fragment in ("all", *(host.host for host in results.hosts), story):
        browser.open(page, fragment)
        browser.run("document.querySelector('.legend').open = true")
        assert browser.run(across) == width
    dialog = "const d = document.querySelector('dialog'); return d.scrollWidth - d.clientWidth"
    assert browser.run(dialog) <= 0


def test_a_phone_names_the_backend_of_each_figure(browser: Browser, page: Path, host: HostResults) -> None:
    browser.resize(320)
    browser.open(page, host.host)
    label = """const cell = document.querySelector(".chosen tr.row td");
        return [getComputedStyle(cell, "::before").content, cell.dataset.backend]"""
    content, backend = browser.run(label)
    assert content.strip('"').replace('" "', "") == backend


FOCUSED = """const e = document.activeElement;
    return [e.tagName, e.name || e.hash || e.textContent.trim().slice(0, 40), getComputedStyle(e).outlineStyle]"""


def test_the_keyboard_reaches_every_control_and_story(browser: Browser, page: Path, results: Matrix) -> None:
    browser.open(page)
    reached = []
    for _ in range(60):
        browser.press(TAB)
        reached.append(browser.run(FOCUSED))
        if reached[-1][0] == "A" and "/" in reached[-1][1]:
            break
    names = [name for _, name, _ in reached]
    assert names[: 1 + len(results.hosts)] == ["#all", *(f"#{host.host}" for host in results.hosts)]
    for control in ("What the signs mean", "view", "workload", "model", "quant", "backend"):
        assert control in names, control
    tags = [tag for tag, _, _ in reached]
    assert {"SUMMARY", "INPUT", "SELECT", "BUTTON", "A"} <= set(tags)
    assert [entry for entry in reached if entry[2] in {"none", ""}] == []  # the focus is seen everywhere
    # The cell that has the focus opens with Enter, closes with Escape, and has the focus again.
    browser.press(ENTER)
    wait_until(lambda: browser.run("return document.querySelector('dialog').open"))
    assert f"#{browser.address()}" == reached[-1][1]
    assert browser.run("return document.activeElement.closest('dialog') !== null")
    browser.press(ESCAPE)
    wait_until(lambda: not browser.run("return document.querySelector('dialog').open"))
    wait_until(lambda: browser.run(FOCUSED)[1] == reached[-1][1])


def test_space_opens_the_legend_and_sorts(browser: Browser, page: Path, host: HostResults) -> None:
    browser.open(page, host.host)
    browser.run("document.querySelector('.legend summary').focus()")
    browser.press(SPACE)
    wait_until(lambda: browser.run("return document.querySelector('.legend').open"))
    browser.run("document.querySelector('.chosen th[data-backend=openvino] button').focus()")
    browser.press(SPACE)
    sorts = "return document.querySelector('.chosen th[data-backend=openvino]').getAttribute('aria-sort')"
    wait_until(lambda: browser.run(sorts) == "ascending")


def test_without_a_script_the_page_is_read_and_its_host_chosen(
    browser: Browser, page: Path, results: Matrix, host: HostResults
) -> None:
    browser.scripts(run=False)
    browser.open(page)
    shown = 'return [...document.querySelectorAll(".host")].filter(s => s.checkVisibility()).map(s => s.id)'
    assert browser.run(shown) == ["all"]
    assert not browser.run(VISIBLE, ".filters")
    browser.click(f'.hosts a[href="#{host.host}"]')
    assert browser.run(shown) == [host.host]
    border = """const of = css => getComputedStyle(document.querySelector(css)).borderTopColor;
        return of(`.hosts a[href="#${arguments[0]}"]`) !== of('.hosts a[href="#all"]')"""
    assert browser.run(border, host.host)
    workload = results.workloads_of(host)[0].label
    rows = results.of(host)
    backends = backends_of(rows, results)
    assert browser.run(ROWS) == models(results, host)
    assert browser.run(CELLS) == [
        [in_words(lines(row, backend, View.END_TO_END, workload)) for backend in backends] for row in rows
    ]
    variants = f"""return [...document.querySelectorAll('[id="{host.host}"] .variants tbody tr:not(.group)')]
        .filter(row => row.checkVisibility()).length"""
    assert browser.run(variants) == sum(len(launched(row)) for row in rows)
    reasons = f"""return document.querySelector('[id="{host.host}"] .reasons').textContent"""
    for row in rows:
        for group in not_launched_of(row):
            assert group.reason in browser.run(reasons)
    # A cell leads to its model's variants, and stays with its host.
    browser.click(f'[id="{host.host}"] .squares td a.best')
    assert browser.address() in anchors(results).values()
    assert browser.run(shown) == [host.host]


def test_a_single_host_needs_no_choice(browser: Browser, results: Matrix, host: HostResults, tmp_path: Path) -> None:
    path = tmp_path / "matrix.html"
    path.write_text(html(matrix([host])), encoding="utf-8")
    for scripts in (True, False):
        browser.scripts(run=scripts)
        browser.open(path)
        assert browser.run(ROWS) == models(results, host)
        assert not browser.run(VISIBLE, "#all")
