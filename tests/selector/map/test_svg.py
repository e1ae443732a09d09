"""The map as an SVG: its cells one by one, what it is made of, and how a browser shows it."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from calibration.cache.cache import Cache
from calibration.errors import UsageError
from selector.map.axes import Axes
from selector.map.marks import mark, story
from selector.map.svg import svg, write_svg
from selector.map.winner_map import WinnerMap
from selector.map.winners import winners
from tests.selector.answering import HOST, MODEL, SPEC
from tests.selector.map.mapped import two_regions
from tests.selector.publish.chromium import CHROMIUM, DRIVER, Browser

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def drawn(cache: Cache) -> WinnerMap:
    cache.add(*two_regions())
    return winners(MODEL, Axes.parse("128,512,8192", "8,64", "1,4"), cache=cache, host=HOST)


def read(text: str) -> ET.Element:
    return ET.fromstring(text)


def panels(drawing: ET.Element) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """The head of each grid, and of each cell its letters and what is drawn below them, from the top left on."""
    for panel in drawing.iter(f"{SVG}g"):
        if panel.get("class") == "panel":
            head = panel.find(f"{SVG}text")
            assert head is not None
            cells = [
                (
                    cell.findtext(f"{SVG}text") or "",
                    *(r.get("fill") or r.get("class") or "" for r in cell if r.tag == f"{SVG}rect"),
                )
                for cell in panel.findall(f"{SVG}g")
            ]
            yield head.text or "", cells


def test_a_small_one_cell_by_cell(drawn: WinnerMap) -> None:
    a, b, nothing = "cell c0", "cell c1", ("-", "cell nothing")
    assert list(panels(read(svg(drawn)))) == [
        ("batch 1", [("A", a), ("A", a), nothing, ("A/B", a, "url(#hatch-c1)"), ("B", b), nothing]),
        ("batch 4", [("A", a), ("B/A", b, "url(#hatch-c0)"), nothing, ("B", b), ("B", b), nothing]),
    ]


def test_what_is_extrapolated_is_faded(drawn: WinnerMap, cache: Cache) -> None:
    far = winners(MODEL, Axes.parse("64", "8", "1,8"), cache=cache, host=HOST)
    assert [cells for _, cells in panels(read(svg(far)))] == [[("A", "cell c0")], [("B?", "cell c1 far", "fade")]]


def test_what_misses_the_targets_is_crossed_out(cache: Cache) -> None:
    cache.add(*two_regions())
    drawing = read(svg(winners(MODEL, Axes.parse("64,1024", "8", "1"), cache=cache, host=HOST, ttft_s=0.2)))
    assert [cells for _, cells in panels(drawing)] == [[("A", "cell c0"), ("B!", "cell c1 missed")]]
    assert [path.get("class") for path in drawing.iter(f"{SVG}path")] == ["cross"]


def test_every_cell_has_the_letters_of_the_text_and_its_story(drawn: WinnerMap) -> None:
    cells = [g for g in read(svg(drawn)).iter(f"{SVG}g") if g.find(f"{SVG}title") is not None]
    told = {(cell.findtext(f"{SVG}title"), cell.findtext(f"{SVG}text")) for cell in cells}
    assert told == {(story(drawn, cell), mark(drawn, cell)) for cell in drawn.cells.values()}
    assert len(cells) == len(drawn.cells) == 12


def test_it_needs_nothing_beside_itself(drawn: WinnerMap) -> None:
    text = svg(drawn)
    assert not re.search(r"<script|javascript:|href|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    hatches = set(re.findall(r"url\(#([\w-]+)\)", text))
    assert hatches == set(re.findall(r'<pattern id="([\w-]+)"', text))
    assert "prefers-color-scheme: dark" in text


def test_a_name_cannot_leave_its_place(cache: Cache, tmp_path: Path) -> None:
    folder = tmp_path / '<b>&"model'
    folder.mkdir()
    (folder / "config.json").write_bytes((SPEC.folder / "config.json").read_bytes())
    cache.add(*two_regions())
    text = svg(winners(folder, Axes.parse("64", "8", "1"), cache=cache, host=HOST))
    assert "<b>" not in text
    assert f"{folder} on " in (read(text).findtext(f"{SVG}title") or "")


def test_a_file_that_cannot_be_written_is_said(drawn: WinnerMap, tmp_path: Path) -> None:
    write_svg(drawn, tmp_path / "map.svg")
    assert (tmp_path / "map.svg").read_text() == svg(drawn)
    with pytest.raises(UsageError, match=r"cannot be written: "):
        write_svg(drawn, tmp_path / "nowhere" / "map.svg")


INSIDE = """
    const view = document.documentElement.viewBox.baseVal;
    return [...document.querySelectorAll("text")].filter(text => {
        const box = text.getBoundingClientRect();
        return box.left < 0 || box.right > view.width || box.top < 0 || box.bottom > view.height;
    }).map(text => text.textContent)"""
NARROW = """
    return [...document.querySelectorAll(".panel > g")].filter(cell =>
        cell.querySelector("text").getBBox().width > cell.querySelector("rect").getBBox().width
    ).map(cell => cell.textContent)"""
CONTRAST = """
    const luminance = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number)
        .map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const fill = element => getComputedStyle(element).fill;
    const page = luminance(fill(document.querySelector(".page")));
    const mixed = cell => {
        const below = fill(cell.querySelector(".cell")), fade = cell.querySelector(".fade");
        if (below === "none") return page;
        if (!fade) return luminance(below);
        const share = Number(getComputedStyle(fade).fillOpacity);
        const parts = [below, fill(fade)].map(c => c.match(/[\\d.]+/g).map(Number));
        return luminance(`rgb(${[0, 1, 2].map(i => parts[0][i] * (1 - share) + parts[1][i] * share)})`);
    };
    const cells = [...document.querySelectorAll(".panel > g")]
        .map(cell => ratio(luminance(fill(cell.querySelector("text"))), mixed(cell)));
    const words = [...document.querySelectorAll("text")].filter(text => !text.classList.contains("on"))
        .map(text => ratio(luminance(fill(text)), page));
    return Math.min(...cells, ...words)"""


@pytest.mark.slow
@pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (apt-get install chromium chromium-driver)"
)
def test_a_browser_shows_all_of_it_readable_dark_and_light(drawn: WinnerMap, tmp_path: Path) -> None:
    """Every word is inside the drawing, every cell holds its letters, and all have the contrast of WCAG 2 (4.5)."""
    write_svg(replace(drawn, device="AMD EPYC (x86_64_v4 + avx512_bf16 avx512_vnni) " * 4), tmp_path / "map.svg")
    with Browser() as browser:
        for scheme in ("light", "dark"):
            browser.media(prefers_color_scheme=scheme)
            browser.open(tmp_path / "map.svg")
            assert browser.run(INSIDE) == []
            assert browser.run(NARROW) == []
            assert browser.run(CONTRAST) >= 4.5, scheme
        assert browser.complaints() == []
