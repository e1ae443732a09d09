"""The page in Chromium: the keyboard reaches everything."""

from pathlib import Path

from selector.publish.hosts.host_file import HostResults
from selector.publish.matrix.matrix import Matrix
from tests.selector.publish.chromium import ENTER, ESCAPE, SPACE, TAB, Browser, wait_until
from tests.selector.publish.pages.in_chromium.shown import IN_CHROMIUM

pytestmark = IN_CHROMIUM

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
