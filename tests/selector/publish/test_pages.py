"""The pages: every state in words and signs, everything escaped."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from calibration.measurement import FailureKind
from calibration.workload import STANDARD, Workload, grid
from selector.publish.html import html
from selector.publish.markdown import escaped, markdown
from selector.publish.matrix import Again, Judged, Matrix, matrix
from selector.publish.wording import reproduce
from tests.selector.launches import LOSSY, failure, rounds
from tests.selector.publish.test_matrix import CT2, EAGER, HOST, KEY, MODEL, SDPA, published

EVIL = "<script>alert('x')</script> | `a` **b** [c](d)"


def small(message: str = "no memory", reason: str = "needs an NVIDIA GPU; this host has none") -> Matrix:
    host = published(
        *rounds(SDPA, KEY, HOST, (1.0, 1.0)),
        *rounds(EAGER, KEY, HOST, (1.01, 1.01)),
        *[
            replace(m, prepare_s=9.25, artifact_bytes=1 << 28)
            for m in rounds("ctranslate2:int8", KEY, HOST, (0.5, 0.5), agreement=LOSSY)
        ],
        failure(CT2, KEY, HOST, kind=FailureKind.OUT_OF_MEMORY, message=message),
        verdicts=(
            Judged(label="turbomind:default", reasons=(reason,)),
            Judged(label=CT2),
            Judged(label="ctranslate2:int8", left_out="lossy (--allow-lossy)"),
            Judged(label=SDPA),
            Judged(label=EAGER),
        ),
    )
    host = replace(host, batching={"ctranslate2:int8": "one after another", SDPA: "static"})
    return matrix([host], order=["turbomind:default", CT2, "ctranslate2:int8", SDPA, EAGER])


def table(page: str, title: str) -> list[list[str]]:
    """Cells of the table under a heading."""
    lines = page.split(f"### {title}")[1].strip().splitlines()
    rows = [line for line in lines[: lines.index("### Why not") if "### Why not" in lines else None] if line[:1] == "|"]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_markdown_names_the_best_of_each_backend() -> None:
    page = markdown(small())
    first = page.split("### Prefill")[0]
    assert table(first, "End to end, chat (pp512:tg128:b1)") == [
        ["model", "quant", "turbomind", "ctranslate2", "transformers"],
        ["---"] * 5,
        [
            MODEL,
            "none",
            "⊘ refused: needs an NVIDIA GPU",
            r"int8 \~1.91 ± 0.32 s lossy (KL 0.012)",
            r"**★ sdpa \~3.83 ± 0.64 s**",
        ],
    ]
    assert (
        "## AMD EPYC 7763 (zen3), 2 cores\n\nAMD EPYC 7763, 2 cores, 24.0 GiB; host `aaaaaaaaaaaa`, 2026-09-10." in page
    )
    assert "```\nautobackend calibrate shape:smollm2-135m --allow-lossy\nautobackend publish\n```" in page


def test_markdown_shows_every_variant_of_a_model() -> None:
    page = markdown(small())
    story = page.split("### Every variant")[1].split("### Measure it again")[0]
    rows = [line for line in story.splitlines() if line.startswith("|")]
    assert [[cell.strip() for cell in row[1:-1].split("|")] for row in rows] == [
        [
            "variant", "End to end pp512:tg128:b1", "Prefill pp512:tg32:b1", "Decode pp512:tg32:b1",
            "output", "batch", "converted in", "load", "peak memory",
        ],
        ["---", "---:", "---:", "---:", "---", "---", "---:", "---:", "---:"],
        [
            "ctranslate2:int8", r"\~1.91 ± 0.32 s", "990 ± 165 tok/s", "90.9 ± 15.2 tok/s",
            "lossy (KL 0.012)", "one after another", "9.25 s, 0.2 GiB", "300 ms", "1.0 GiB",
        ],
        [
            SDPA, r"★ \~3.83 ± 0.64 s", "★ 495 ± 83 tok/s", "★ 45.5 ± 7.6 tok/s",
            "right", "static", "-", "600 ms", "1.0 GiB",
        ],
        [
            EAGER, r"≈ \~3.87 ± 0.65 s", "≈ 490 ± 82 tok/s", "≈ 45.0 ± 7.5 tok/s",
            "right", "-", "-", "606 ms", "1.0 GiB",
        ],
    ]  # fmt: skip
    assert story.endswith(
        """
- ✕ ctranslate2:float32: out of memory in load: no memory

<details><summary>Refused, left out or not tested: 1 variant of turbomind</summary>

- turbomind:default: needs an NVIDIA GPU; this host has none

</details>

"""
    )


def test_markdown_tables_have_as_many_cells_as_their_heads() -> None:
    page = markdown(small(message=EVIL, reason=EVIL))
    rows = [re.split(r"(?<!\\)\|", line) for line in page.splitlines() if line.startswith("|")]
    assert {len(row) for row in rows} == {7, 11}
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
    # Four launched variants with a story each, the model and what was not launched of it.
    assert (len(read.ids), len(read.ids)) == (len(set(read.ids)), 6)
    assert {link.removeprefix("#") for link in read.links} == set(read.ids)  # every story, and nothing outside
    assert read.sources == []
    assert not re.search(r"https?://|@import|url\(", page)
    for told in (
        "★",
        "~3.83 ± 0.64 s",
        "≈",
        "refused: needs an NVIDIA GPU",
        "out of memory in load",
        "lossy (KL 0.012)",
    ):
        assert told in read.text
    for told in ("needs an NVIDIA GPU; this host has none", "Segmentation fault", "5 of 5 greedy paths equal"):
        assert told in read.text
    for told in ("one after another", "9.25 s, 0.2 GiB", "1 variant of turbomind"):
        assert told in read.text
    for command in ("--allow-lossy", "--backends transformers:sdpa", "--backends ctranslate2:int8 --allow-lossy"):
        assert f"autobackend calibrate shape:smollm2-135m {command}\n" in read.text


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


@pytest.mark.parametrize(
    ("again", "words"),
    [
        (Again(cells=grid()), ""),
        (Again(cells=grid(gpu=True), lossy=True, devices=2), " --allow-lossy --tensor-parallel 2"),
        (
            Again(cells=grid([STANDARD["batch"], STANDARD["write"]]), backends=("openvino", "transformers:sdpa")),
            " --workload pp64:tg32:b1 --workload pp608:tg32:b4 --backends openvino,transformers:sdpa",
        ),
        (Again(cells=(Workload(prompt_tokens=9, output_tokens=3),)), " --workload pp9:tg3:b1"),
    ],
)
def test_the_command_asks_for_the_same_cells(again: Again, words: str) -> None:
    command = reproduce("my model", again)
    assert command == f"autobackend calibrate 'my model'{words}"
    asked = [Workload.parse(label) for label in re.findall(r"--workload (\S+)", command)]
    assert {*again.cells} <= {*grid(asked, gpu="tensor" in words)} or len(again.cells) == 1


def test_empty_pages() -> None:
    empty = matrix([published()])
    assert "# Which backend runs which model fastest" in markdown(empty)
    assert Reader(html(empty)).stack == []
