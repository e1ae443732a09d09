"""The study of served loads: what the report tells, of a cache and of what hosts published."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.served.cells import cells_of
from benchmarks.served.recorded import BATCH, Recorded, of_cache, of_results
from benchmarks.served.report import report
from benchmarks.served.study import main
from benchmarks.served.tables import Section, markdown, plain
from calibration.cache.cache import Cache
from selector.publish.publish import publish
from tests.benchmarks.served.planted import ALLOWED, C1, C4, C8, EQUAL, INT8, LENGTHS
from tests.selector.answering import CT2, EAGER, HOST, KEY, MODEL, SDPA
from tests.selector.launches import unserved


@pytest.fixture
def sections(cache: Cache, recorded: Recorded) -> dict[str, Section]:
    cache.add(unserved("transformers:sdpa-fp32", KEY, HOST, message="killed by SIGSEGV\nand more"))
    [one] = of_cache(cache, host=HOST)
    made = report([one], {MODEL: {"vllm:eager": 3.44}})
    return {section.title: section for section in made}


def test_the_report_tells_one_stream_beside_eight(sections: dict[str, Section]) -> None:
    section = sections["The best for one stream is not the best for many"]
    assert section.rows == (
        ("smollm2-135m", EQUAL, CT2, SDPA, "1.600", "1.600"),
        ("smollm2-135m", ALLOWED, INT8, SDPA, "1.280", "2.000"),
    )
    assert section.sentences[0].startswith(
        "In 4 of 4 choices (each model, each class, each half) the pick for c1 is not the pick for c8. Under c8 it"
        " takes 1.431 (1.600) times as long as the pick for that, more than 3.0 % longer in 4 of 4;"
    )


def test_the_report_tells_what_always_the_same_costs(sections: dict[str, Section]) -> None:
    rows = {row[0]: row[1:] for row in sections[f"Always the same engine over the pick, {EQUAL}"].rows}
    assert rows[f"`{CT2}`"][0] == "1.000 (1.000)"
    assert rows[f"`{CT2}`"][2] == "1.600 (1.600)"
    assert rows[f"`{EAGER}`"][2:] == ("8.000 (8.000)", rows[f"`{EAGER}`"][3], "3 of 3")
    lossy = {row[0]: row for row in sections[f"Always the same engine over the pick, {ALLOWED}"].rows}
    assert f"`{INT8}`" in lossy
    assert f"`{INT8}`" not in rows


def test_the_report_tells_the_picks_and_the_gaps(sections: dict[str, Section]) -> None:
    picks = sections[f"The pick, {EQUAL}"]
    assert [row[:4] for row in picks.rows] == [
        ("smollm2-135m", C1.label, f"{CT2}, 80.0 tok/s", CT2),
        ("smollm2-135m", C4.label, f"{SDPA}, 100 tok/s", f"{SDPA} / {CT2}"),
        ("smollm2-135m", C8.label, f"{SDPA}, 160 tok/s", SDPA),
    ]
    assert picks.rows[2][6] == f"{CT2} (1.600)"
    assert sections["Left out"].points == ("smollm2-135m: `vllm:eager` 3.4",)
    assert sections["Failed"].points == (
        "smollm2-135m: `transformers:sdpa-fp32` crashed (pp64:tg32:c8): killed by SIGSEGV",
    )
    told = sections["Told by the levels around"]
    assert [row[:2] for row in told.rows] == [("`ctranslate2`", "4"), ("`transformers`", "3"), ("all", "7")]


def test_the_report_is_whole_as_markdown_and_as_text(sections: dict[str, Section]) -> None:
    page = markdown(sections.values())
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        assert len({len(re.split(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert [line for line in page.splitlines() if line.startswith("#")] == [f"### {title}" for title in sections]
    assert not re.search(r"\n\n\n|nan|inf\b", page)
    text = plain(sections.values(), across=100)
    assert "LEFT OUT\n" in text


@pytest.fixture
def published(cache: Cache, recorded: Recorded, tmp_path: Path) -> Path:
    publish(cache, tmp_path / "results", host=HOST)
    return tmp_path / "results"


def test_what_a_host_published_is_read_like_its_cache(recorded: Recorded, published: Path) -> None:
    [one] = of_results(published)
    assert cells_of(replace(one, without=recorded.without)) == cells_of(recorded)
    assert one.without[C8, False] == {BATCH: CT2}


def test_the_command_reports_results(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["report", "--cache", str(tmp_path / "empty.db"), "--load", LENGTHS, "--markdown"]
    assert main([*words, "--results", str(published)]) == 0
    page = capsys.readouterr().out
    assert "### The best for one stream is not the best for many" in page
    assert "### Left out" not in page, "of another host it is not known"
    assert main(words) == 2
    assert "no model that was served under two of pp64:tg32:c8, pp64:tg32:c4, pp64:tg32:c1" in capsys.readouterr().err


def test_streams_are_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--cache", str(tmp_path / "empty.db"), "--streams", "1,many"]) == 2
    assert "needs numbers of streams, as in 1,4,8; found '1,many'" in capsys.readouterr().err
