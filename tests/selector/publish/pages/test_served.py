"""The pages' tables of what was served under load."""

import re
from dataclasses import replace
from pathlib import Path

from calibration.cache.cache import Cache
from selector.publish.matrix.matrix import matrix
from selector.publish.pages.html import html
from selector.publish.pages.markdown import host_markdown
from selector.publish.pages.served import HEAD as SERVED_HEAD
from selector.publish.pages.served import served_tables
from selector.publish.publish import publish
from tests.selector.launches import rounds, served, unserved
from tests.selector.publish.pages.test_html import Reader
from tests.selector.publish.published import CT2, HOST, KEY, MODEL, SDPA, published

LOAD = "pp64:tg32:c8"


def test_a_table_for_each_model_and_load() -> None:
    host = published(
        *rounds(SDPA, KEY, HOST, (1.0,)),
        *(served(SDPA, KEY, HOST, {LOAD: 160.0}, round_=n) for n in (1, 2)),
        served(CT2, KEY, HOST, {LOAD: 320.0, "pp64:tg32:c1": 80.0}, threads=1),
        unserved("transformers:eager", KEY, HOST),
    )
    tables = served_tables(host)
    assert [(table.model, table.load.label) for table in tables] == [(MODEL, "pp64:tg32:c1"), (MODEL, LOAD)]
    assert [row[0] for row in tables[1].rows] == [CT2, SDPA]
    assert tables[1].rows[1] == (
        *(SDPA, "160", "100 ms", "100 ms", "48.4 ms", "48.4 ms"),
        *("right, as served", "2", "1.0 GiB", "2"),
    )


def test_a_hosts_page_shows_them_apart_from_the_batches() -> None:
    host = published(*rounds(SDPA, KEY, HOST, (1.0,)), served(CT2, KEY, HOST, {LOAD: 320.0}))
    all_hosts = matrix([host])
    page = host_markdown(all_hosts, host)
    section = page.split("## As served")[1].split("\n## ")[0]
    assert f"### {MODEL}, {LOAD}" in section
    assert "| ctranslate2:float32 | 320 | 100 ms | 100 ms |" in section
    assert [square.label for row in all_hosts.rows for square in row.squares] == [SDPA]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len({len(re.split(r"(?<!\\)\|", row)) for row in rows}) == 1
    plain = published(*rounds(SDPA, KEY, HOST, (1.0,)))
    assert "As served" not in host_markdown(matrix([plain]), plain)


def test_the_page_of_all_hosts_shows_them_too() -> None:
    host = published(
        *rounds(SDPA, KEY, HOST, (1.0,)),
        served(SDPA, KEY, HOST, {LOAD: 160.0}),
        served(CT2, KEY, HOST, {LOAD: 320.0}, threads=1),
    )
    page = html(matrix([host], order=[SDPA, CT2]))
    read = Reader(page)
    assert (read.stack, len(read.ids)) == ([], len(set(read.ids)))
    section = page.split(">As served</h3>")[1].split("<h3")[0]
    text = Reader(section).text
    assert "Through HTTP, by autobackend serve" in text
    assert f"{MODEL} {LOAD}" in text
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr.*?</tr>", section)]
    [table] = [table for table in served_tables(host) if table.load.label == LOAD]
    assert cells == [list(SERVED_HEAD), *map(list, table.rows)]
    assert [row[0] for row in cells[1:]] == [CT2, SDPA]
    # A backend without a box to tick is never hidden.
    assert re.findall(r'<tr data-backend="(\w+)"', section) == ["transformers"]
    plain = published(*rounds(SDPA, KEY, HOST, (1.0,)))
    assert "As served" not in html(matrix([plain]))


def test_what_has_no_time_says_why() -> None:
    launch = served(SDPA, KEY, HOST, {"pp64:tg32:r2": 64.0})
    [one] = launch.points
    whole = replace(one, asked=tuple(replace(a, chunks_s=(a.chunks_s[-1],)) for a in one.asked))
    [table] = served_tables(published(replace(launch, points=(whole,))))
    assert table.rows[0][4:6] == ("-", "-")
    [table] = served_tables(published(replace(launch, points=(replace(one, saturated="in flight: 40"),))))
    assert table.rows[0][2:6] == ("saturated",) * 4


def test_published_launches_under_load_are_read_again(cache: Cache, tmp_path: Path) -> None:
    cache.add(*rounds(SDPA, KEY, HOST, (1.0,)), served(CT2, KEY, HOST, {LOAD: 320.0}), unserved(SDPA, KEY, HOST))
    publish(cache, tmp_path, host=HOST)
    page = (tmp_path / "hosts" / f"{HOST.identifier}.md").read_text()
    assert "| ctranslate2:float32 | 320 |" in page
    publish(cache, tmp_path, host=HOST)
    assert (tmp_path / "hosts" / f"{HOST.identifier}.md").read_text() == page
