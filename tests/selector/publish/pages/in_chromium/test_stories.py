"""The page in Chromium: the whole story of a variant."""

from dataclasses import replace
from pathlib import Path

from calibration.measurement import Agreement, OutputVerdict
from calibration.registry import all_backends
from calibration.workload import grid
from selector.evidence.identity import environment_of
from selector.predict.limits.roofline import Needs
from selector.publish.hosts.host_file import HostResults
from selector.publish.matrix.figures import View
from selector.publish.matrix.matrix import Matrix, State, matrix
from selector.publish.matrix.not_launched import not_launched_of
from selector.publish.pages.html import html
from selector.publish.pages.picks import launched
from selector.publish.pages.tables import anchors, backends_of, lines
from selector.publish.pages.wording import called
from tests.calibration.probes import GIVEN as PROBE
from tests.selector.launches import rounds
from tests.selector.publish.chromium import ESCAPE, Browser, wait_until
from tests.selector.publish.pages.in_chromium.shown import CELLS, IN_CHROMIUM, in_words
from tests.selector.publish.published import CHAT, CT2, EAGER, HOST, KEY, MODEL, SDPA, published

pytestmark = IN_CHROMIUM


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
