"""From single releases to spans, and to a file that says the same in the same bytes."""

import json
from pathlib import Path

import pytest

from benchmarks.engines.releases.source import UnknownLayout
from benchmarks.engines.releases.spans import Contents, gathered, text_of
from selector.rules.installed.releases import Releases, Span


def contents(*names: str, quants: str = "awq", gone: str = "", mentioned: str = "") -> Contents:
    return Contents(
        architectures={name: f"t.py:{number}" for number, name in enumerate(names, start=1)},
        quant_methods=dict.fromkeys(quants.split(), "q.py:1"),
        requirements={"torch>=2": "METADATA:9"},
        gone=frozenset(gone.split()),
        mentioned=frozenset({*names, *mentioned.split()}),
    )


def test_spans_begin_where_something_is_new_and_end_where_it_went() -> None:
    releases = gathered(
        "engine",
        {
            "0.9": contents("A", "B", "C"),
            "0.10": contents("B", "A", "D"),
            "1.0": contents("A", "C", "D", quants="awq fp8"),
        },
    )
    assert releases == Releases(
        distribution="engine",
        read=("0.9", "0.10", "1.0"),
        architectures={
            "A": (Span(first="0.9", source="t.py:1"),),
            "B": (Span(first="0.9", last="0.10", source="t.py:2"),),
            "C": (Span(first="0.9", last="0.9", source="t.py:3"), Span(first="1.0", source="t.py:2")),
            "D": (Span(first="0.10", source="t.py:3"),),
        },
        quant_methods={"awq": (Span(first="0.9", source="q.py:1"),), "fp8": (Span(first="1.0", source="q.py:1"),)},
        requirements={"torch>=2": (Span(first="0.9", source="METADATA:9"),)},
    )


@pytest.mark.parametrize(
    ("after", "error"),
    [
        (contents(), "engine 2: needs architectures; found none"),
        (contents("A", "X"), "engine 2: lacks 3 of 4 architectures"),
        (contents("A", "B", "C", mentioned="D"), "engine 2: lacks D, which its code still names"),
        (contents("A", "B", "C", "D", quants=""), "engine 2: needs quant methods; found none"),
    ],
)
def test_a_release_that_seems_to_have_lost_something_is_an_error(after: Contents, error: str) -> None:
    with pytest.raises(UnknownLayout) as raised:
        gathered("engine", {"1": contents("A", "B", "C", "D"), "2": after})
    assert raised.value.message == error


def test_what_was_really_removed_is_none() -> None:
    before = contents("A", "B", "C", "D")
    for after, confirmed in (
        (contents("A", "B", "C"), ""),
        (contents("A", "B", "C", gone="D", mentioned="D"), ""),
        (contents("A", "B", "C", mentioned="D"), "D"),
    ):
        releases = gathered("engine", {"1": before, "2": after}, frozenset(confirmed.split()))
        assert releases.architectures["D"] == (Span(first="1", last="1", source="t.py:4"),)


def test_the_file_has_a_line_a_name_and_says_what_was_gathered(tmp_path: Path) -> None:
    releases = gathered("engine", {"1": contents("B", "A"), "2": contents("A")})
    text = text_of(releases)
    assert (
        text
        == """{
 "format": 1,
 "distribution": "engine",
 "releases": ["1", "2"],
 "architectures": {
  "A": [{"first": "1", "source": "t.py:2"}],
  "B": [{"first": "1", "last": "1", "source": "t.py:1"}]
 },
 "quant_methods": {
  "awq": [{"first": "1", "source": "q.py:1"}]
 },
 "requirements": {
  "torch>=2": [{"first": "1", "source": "METADATA:9"}]
 }
}
"""
    )
    file = tmp_path / "releases.json"
    file.write_text(text)
    assert Releases.of(file) == releases
    assert text_of(Releases.of(file)) == text


def test_a_file_without_quant_methods_is_json() -> None:
    releases = gathered("engine", {"1": Contents(architectures={"A": "t.py:1"})})
    assert json.loads(text_of(releases))["quant_methods"] == {}
