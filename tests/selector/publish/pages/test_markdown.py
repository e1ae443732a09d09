"""The Markdown: a summary, and a page for each host."""

import itertools
import re
from pathlib import Path

from selector.publish.hosts.host_file import read
from selector.publish.matrix.matrix import Matrix, matrix
from selector.publish.pages.markdown import escaped, host_markdown, markdown
from tests.selector.launches import rounds
from tests.selector.publish.published import CT2, EAGER, HOST, KEY, MODEL, SDPA, published, small

ROOT = Path(__file__).parents[4]
EVIL = "<script>alert('x')</script> | `a` **b** [c](d)"


def table(page: str, heading: str) -> list[list[str]]:
    """Cells of the first table under a heading."""
    lines = page.split(f"\n{heading}\n")[1].splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[begin:])
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def of_host(all_hosts: Matrix) -> str:
    (host,) = all_hosts.hosts
    return host_markdown(all_hosts, host)


def test_the_summary_names_the_fastest_the_next_backend_and_the_fastest_lossy() -> None:
    page = markdown(small())
    assert table(page, "## [AMD EPYC 7763 (zen3), 2 cores](hosts/aaaaaaaaaaaa.md)") == [
        ["model", "fastest", "next backend", "fastest lossy"],
        ["---"] * 4,
        [
            f"{MODEL}, bfloat16",
            r"**transformers:sdpa \~3.83 ± 0.52 s**",
            "-",
            r"ctranslate2:int8 \~1.91 ± 0.26 s lossy (KL 0.012)",
        ],
    ]
    assert "AMD EPYC 7763, 2 cores, 24.0 GiB; host `aaaaaaaaaaaa`, 2026-09-10, 1 model." in page


def test_the_summary_says_how_many_times_as_long_the_next_backend_takes() -> None:
    tied = [*rounds(SDPA, KEY, HOST, (1.0, 1.0)), *rounds(CT2, KEY, HOST, (1.2, 1.2))]
    slower = [*rounds(SDPA, KEY, HOST, (1.0, 1.0)), *rounds(CT2, KEY, HOST, (3.0, 3.0))]
    cells = [markdown(matrix([published(*launches)])).split("| ")[-2].strip(" |\n") for launches in (tied, slower)]
    assert cells == [
        r"≈ ctranslate2:float32 \~4.59 ± 0.66 s (1.20x)",
        r"ctranslate2:float32 \~11.5 ± 1.7 s (3.00x)",
    ]


def test_a_hosts_page_names_the_best_of_each_backend() -> None:
    page = of_host(small())
    assert table(page, "## End to end, chat (pp512:tg128:b1)") == [
        ["model", "ctranslate2", "transformers"],
        ["---"] * 3,
        [f"{MODEL}, bfloat16", r"int8 \~1.91 ± 0.26 s lossy (KL 0.012)", r"**★ sdpa \~3.83 ± 0.52 s**"],
    ]
    assert page.startswith(
        "# AMD EPYC 7763 (zen3), 2 cores\n\nAMD EPYC 7763, 2 cores, 24.0 GiB; host `aaaaaaaaaaaa`, 2026-09-10. "
    )
    assert "\nWithout a figure: turbomind, for the reasons [below](#refused-left-out-or-not-tested).\n" in page
    assert "```\nautobackend calibrate shape:smollm2-135m --allow-lossy\nautobackend publish\n```" in page


def test_a_hosts_page_shows_every_variant_of_a_model() -> None:
    page = of_host(small())
    assert table(page, f"### {MODEL}, bfloat16") == [
        [
            "variant", "End to end pp512:tg128:b1", "Prefill pp512:tg32:b1", "Decode pp512:tg32:b1",
            "output", "batch", "converted in", "load", "peak memory",
        ],
        ["---", "---:", "---:", "---:", "---", "---", "---:", "---:", "---:"],
        [
            "ctranslate2:int8", r"\~1.91 ± 0.26 s", "990 ± 135 tok/s", "90.9 ± 12.4 tok/s",
            "lossy (KL 0.012)", "one after another", "9.25 s, 0.2 GiB", "300 ms", "1.0 GiB",
        ],
        [
            SDPA, r"★ \~3.83 ± 0.52 s", "★ 495 ± 67 tok/s", "★ 45.5 ± 6.2 tok/s",
            "right", "static", "-", "600 ms", "1.0 GiB",
        ],
        [
            EAGER, r"≈ \~3.87 ± 0.53 s", "≈ 490 ± 67 tok/s", "≈ 45.0 ± 6.1 tok/s",
            "right", "-", "-", "606 ms", "1.0 GiB",
        ],
    ]  # fmt: skip
    assert "\n- ✕ ctranslate2:float32: out of memory in load: no memory\n" in page
    assert table(page, "## Refused, left out or not tested") == [
        ["variants", "why", "models"],
        ["---"] * 3,
        ["turbomind:default", "needs an NVIDIA GPU; this host has none", MODEL],
    ]


def test_the_summary_is_short() -> None:
    hosts = [read(path) for path in sorted((ROOT / "results" / "hosts").glob("*.json"))]
    # A line for each model of a host, and six for the host.
    all_hosts = matrix(hosts)
    assert len(markdown(all_hosts).splitlines()) <= 12 + 8 * len(hosts) + len(all_hosts.rows)


def test_markdown_tables_have_as_many_cells_as_their_heads() -> None:
    evil = small(message=EVIL, reason=EVIL)
    for page in (markdown(evil), of_host(evil)):
        tables = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
        assert tables
        for rows in tables:
            assert len({len(re.split(r"(?<!\\)\|", row)) for row in rows.splitlines()}) == 1
        assert "<script>" not in page


def test_markdown_escapes() -> None:
    assert escaped("a|b <i> *c* _d_ `e`\n[f] & #g") == r"a\|b &lt;i&gt; \*c\* \_d\_ \`e\` \[f\] &amp; \#g"


def test_empty_pages() -> None:
    empty = matrix([published()])
    assert "# Which backend runs which model fastest" in markdown(empty)
    assert of_host(empty).startswith("# AMD EPYC 7763 (zen3), 2 cores\n")
