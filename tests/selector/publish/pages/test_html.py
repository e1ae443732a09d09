"""The page without a browser: whole, self-contained, everything escaped, light enough."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from calibration.registry import all_backends
from selector.evidence.identity import environment_of
from selector.publish.hosts.host_file import read as read_host
from selector.publish.matrix.matrix import matrix
from selector.publish.pages.html import html
from tests.selector.launches import rounds
from tests.selector.publish.published import CT2, EAGER, HOST, KEY, SDPA, published, small

ROOT = Path(__file__).parents[4]
EVIL = "<script>alert('x')</script> | `a` **b** [c](d)"


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
        attributes = dict(attrs)
        self.tags.append(tag)
        if tag not in self.VOID:
            self.stack.append(tag)
        self.ids += [str(attributes["id"])] if "id" in attributes else []
        self.links += [str(attributes["href"])] if "href" in attributes else []
        self.sources += [str(attributes["src"])] if "src" in attributes else []

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def facts(page: str) -> Any:
    """What the script knows."""
    block = re.search(r'<script type="application/json" id="embedded">(.*?)</script>', page)
    assert block
    return json.loads(block[1])


def test_the_page_is_whole_and_stands_alone() -> None:
    page = html(small())
    read = Reader(page)
    assert read.stack == []
    assert len(read.ids) == len(set(read.ids))
    assert {link.removeprefix("#") for link in read.links} <= set(read.ids)  # nothing outside, nothing that is missing
    assert read.sources == []
    assert not re.search(r"https?://|@import|url\(", page)


def test_the_page_says_without_a_script_what_matters() -> None:
    text = Reader(html(small())).text
    for words in (
        "★ ~3.83 ± 0.52 s",
        "≈ ~3.87 ± 0.53 s",
        "lossy (KL 0.012)",
        "⊘ refused: needs an NVIDIA GPU",
        "needs an NVIDIA GPU; this host has none",
        "out of memory in load: no memory",
        "one after another",
        "9.25 s, 0.2 GiB",
        "As of 2026-09-10",
        "autobackend calibrate shape:smollm2-135m --allow-lossy\nautobackend publish",
        "torch 2.13.0",
    ):
        assert words in text


def test_a_stale_figure_says_what_changed() -> None:
    old = {**environment_of(all_backends()["transformers"], HOST), "torch": "2.12.0"}
    text = Reader(html(matrix([published(*rounds(EAGER, KEY, HOST, (1.0, 1.0), environment=old))]))).text
    assert "since then: torch 2.12.0 -> 2.13.0" in text


def test_the_script_knows_every_figure_and_sample() -> None:
    known = facts(html(small()))
    (host,) = known["hosts"]
    (model,) = host["models"]
    assert [v["label"] for v in model["variants"]] == ["ctranslate2:int8", SDPA, EAGER, CT2]
    lossy, sdpa, eager, failed = model["variants"]
    assert host["workloads"][0] == "pp512:tg128:b1"
    first = [v["figures"][0].split(";")[0] for v in (lossy, sdpa, eager)]
    assert first == ["1.91 0.26 s~100", "3.83 0.52 s~*100", "3.87 0.53 s~=99"]
    assert [len(figures.split(";")) for figures in sdpa["figures"]] == [len(host["workloads"])] * 3
    cells = known["texts"][sdpa["cells"]].split(" ")
    assert dict(zip(cells, sdpa["samples"], strict=True))["pp64:tg32:b1"] == ["138, 139, 137 ms", "22.0, 22.2, 21.8 ms"]
    assert known["texts"][sdpa["detail"]] == "5 of 5 greedy paths equal"
    assert known["texts"][failed["log"]] == "Segmentation fault"
    command = known["texts"][lossy["command"]]
    assert command == "autobackend calibrate shape:smollm2-135m --backends LABEL --allow-lossy"
    assert [[name, known["texts"][i]] for name, i in model["not_launched"]] == [
        ["turbomind:default", "needs an NVIDIA GPU; this host has none"]
    ]


def test_the_page_escapes_what_others_wrote() -> None:
    page = html(small(message=EVIL, reason=EVIL))
    assert page.count("<script>") == 1
    read = Reader(page)
    assert (read.stack, EVIL in read.text, EVIL in facts(page)["texts"]) == ([], True, True)


def test_a_model_in_two_precisions_has_two_ids() -> None:
    wide = replace(KEY, dtype="float32")
    page = html(matrix([published(*rounds(SDPA, KEY, HOST, (1.0,)), *rounds(SDPA, wide, HOST, (1.0,)))]))
    ids = [model["id"] for host in facts(page)["hosts"] for model in host["models"]]
    assert ids == [
        "aaaaaaaaaaaa-shape-smollm2-135m",
        f"aaaaaaaaaaaa-shape-smollm2-135m-float32-none-1-{KEY.fingerprint}-{KEY.config}",
    ]


def test_the_page_of_the_published_hosts_is_light() -> None:
    page = (ROOT / "results" / "matrix.html").read_bytes()
    hosts = [read_host(path) for path in sorted((ROOT / "results" / "hosts").glob("*.json"))]
    assert len(html(matrix(hosts)).encode()) < 1_000_000
    assert len(page) < 1_000_000


def test_empty_page() -> None:
    assert Reader(html(matrix([published()]))).stack == []
