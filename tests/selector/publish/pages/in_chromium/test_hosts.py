"""The page in Chromium: a host at a time, with a script and without."""

from pathlib import Path

from selector.publish.hosts.host_file import HostResults
from selector.publish.matrix.figures import View
from selector.publish.matrix.matrix import Matrix, matrix
from selector.publish.matrix.not_launched import not_launched_of
from selector.publish.pages.html import html
from selector.publish.pages.picks import launched
from selector.publish.pages.tables import anchors, backends_of, lines
from tests.selector.publish.chromium import Browser, wait_until
from tests.selector.publish.pages.in_chromium.shown import CELLS, HEADS, IN_CHROMIUM, ROWS, VISIBLE, in_words, models

pytestmark = IN_CHROMIUM


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
