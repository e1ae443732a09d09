"""The pages: every state in words and signs, everything escaped."""

import re
from html.parser import HTMLParser

from calibration.measurement import FailureKind
from selector.export.html import html
from selector.export.markdown import escaped, markdown
from selector.matrix import Judged, Matrix, matrix
from tests.selector.launches import LOSSY, failure, rounds
from tests.selector.test_matrix import CT2, EAGER, HOST, KEY, MODEL, SDPA, published

EVIL = "<script>alert('x')</script> | `a` **b** [c](d)"


def small(message: str = "no memory", reason: str = "needs an NVIDIA GPU; this host has none") -> Matrix:
    host = published(
        *rounds(SDPA, KEY, HOST, (1.0, 1.0)),
        *rounds(EAGER, KEY, HOST, (1.01, 1.01)),
        *rounds("ctranslate2:int8", KEY, HOST, (0.5, 0.5), agreement=LOSSY),
        failure(CT2, KEY, HOST, kind=FailureKind.OUT_OF_MEMORY, message=message),
        verdicts=(Judged(label="turbomind:default", reasons=(reason,)),),
    )
    return matrix([host], order=["turbomind:default", CT2, "ctranslate2:int8", SDPA, EAGER])


def table(page: str, title: str) -> list[list[str]]:
    """Cells of the table under a heading."""
    lines = page.split(f"### {title}")[1].strip().splitlines()
    rows = [line for line in lines[: lines.index("### Why not") if "### Why not" in lines else None] if line[:1] == "|"]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_markdown() -> None:
    page = markdown(small())
    first = page.split("### Prefill")[0]
    assert table(first, "End to end, chat (pp512:tg128:b1)") == [
        ["model", "quant", "turbomind:default", CT2, "ctranslate2:int8", SDPA, EAGER],
        ["---"] * 7,
        [
            MODEL,
            "none",
            "⊘ refused: needs an NVIDIA GPU",
            "✕ out of memory in load",
            r"\~1.91 ± 0.00 s lossy (KL 0.012)",
            r"**★ \~3.83 ± 0.00 s**",
            r"≈ \~3.87 ± 0.00 s",
        ],
    ]
    assert (
        "## AMD EPYC 7763 (zen3), 2 cores\n\nAMD EPYC 7763, 2 cores, 24.0 GiB; host `aaaaaaaaaaaa`, 2026-09-10." in page
    )
    assert (
        "### Why not\n\n"
        "- shape:smollm2-135m, turbomind:default: needs an NVIDIA GPU; this host has none\n"
        "- shape:smollm2-135m, ctranslate2:float32: out of memory in load: no memory\n"
    ) in page
    assert "```\nautobackend calibrate shape:smollm2-135m\nautobackend publish\n```" in page


def test_markdown_is_one_row_a_model_with_as_many_cells_as_its_head() -> None:
    page = markdown(small(message=EVIL, reason=EVIL))
    rows = [re.split(r"(?<!\\)\|", line) for line in page.splitlines() if line.startswith("|")]
    assert {len(row) for row in rows} == {9}
    assert "<script>" not in page


def test_markdown_escapes() -> None:
    assert escaped("a|b <i> *c* _d_ `e`\n[f] & #g") == r"a\|b &lt;i&gt; \*c\* \_d\_ \`e\` \[f\] &amp; \#g"


class Reader(HTMLParser):
    """Tags, ids, links and text of a page, and whether its elements are balanced."""

    VOID = frozenset({"meta", "input", "br", "hr", "link", "img"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if tag not in self.VOID:
            self.stack.append(tag)
        self.ids += [str(found["id"])] if "id" in found else []
        self.links += [str(found["href"])] if "href" in found else []
        self.sources += [str(found["src"])] if "src" in found else []

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_is_whole_and_stands_alone() -> None:
    page = html(small())
    read = Reader(page)
    assert read.stack == []
    assert (len(read.ids), len(read.ids)) == (len(set(read.ids)), 5)
    assert {link.removeprefix("#") for link in read.links} == set(read.ids)  # every story, and nothing outside
    assert read.sources == []
    assert not re.search(r"https?://|@import|url\(", page)
    for told in (
        "★",
        "~3.83 ± 0.00 s",
        "≈",
        "refused: needs an NVIDIA GPU",
        "out of memory in load",
        "lossy (KL 0.012)",
    ):
        assert told in read.text
    for told in ("needs an NVIDIA GPU; this host has none", "Segmentation fault", "5 of 5 greedy paths equal"):
        assert told in read.text
    assert "autobackend calibrate shape:smollm2-135m --backends transformers:sdpa" in read.text


def test_html_escapes_what_others_wrote() -> None:
    page = html(small(message=EVIL, reason=EVIL))
    assert (page.count("<script>"), page.count("</script>")) == (1, 1)
    read = Reader(page)
    assert (read.stack, EVIL in read.text) == ([], True)


def test_html_without_a_script_opens_one_table_of_each_view() -> None:
    page = html(small())
    opened = re.findall(r'<details class="panel" data-view="([^"]+)" data-workload="([^"]+)" data-first open>', page)
    assert opened == [
        ("end to end", "pp512:tg128:b1"),
        ("prefill", "pp512:tg32:b1"),
        ("decode", "pp512:tg32:b1"),
    ]


def test_empty_pages() -> None:
    empty = matrix([published()])
    assert "# Which backend runs which model fastest" in markdown(empty)
    assert Reader(html(empty)).stack == []
