"""The page in Chromium: dark, in print, on a narrow screen, without colours."""

import re
from pathlib import Path

import pytest

from selector.publish.hosts.host_file import HostResults
from selector.publish.matrix.matrix import Matrix
from selector.publish.pages.picks import launched
from selector.publish.pages.tables import anchors
from tests.selector.publish.chromium import Browser
from tests.selector.publish.pages.in_chromium.shown import IN_CHROMIUM, ROWS, VISIBLE, models

pytestmark = IN_CHROMIUM


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
