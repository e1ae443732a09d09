"""The pages of a machine that was probed show what each measurement reaches of it; those of other machines do not."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.cache.cache import Cache
from calibration.workload import grid
from selector.predict.limits.roofline import Needs, Shares, needs_of
from selector.publish.hosts.host_file import HostResults, read
from selector.publish.matrix.matrix import Matrix, Square, matrix
from selector.publish.matrix.shares import of_memory, of_products
from selector.publish.pages.html import html
from selector.publish.pages.markdown import host_markdown
from selector.publish.pages.wording import machine
from selector.publish.publish import publish
from tests.calibration.probes import GIVEN
from tests.selector.launches import DAY, rounds
from tests.selector.publish.published import HOST, KEY, MODEL, SDPA, SPEC, published

FP32 = "transformers:sdpa-fp32"
PROBE = replace(GIVEN, host=HOST.identifier)
LONG = "pp512:tg32:b1"


def results(folder: Path, *, probed: bool = True, cut: str = "") -> HostResults:
    """As `publish` writes and reads them."""
    with Cache.open(folder / "cache.db") as cache:
        key = replace(KEY, cut=cut)
        cache.add(*rounds(SDPA, key, HOST, (1.0,)), *rounds(FP32, key, HOST, (2.0,)))
        if probed:
            cache.add_probe(PROBE)
        raw, *_ = publish(cache, folder / "results", host=HOST, now=DAY)
    return read(raw)


def squares(all_hosts: Matrix) -> dict[str, Square]:
    (row,) = all_hosts.rows
    return {square.label: square for square in row.squares}


def test_the_file_of_a_probed_host_holds_its_probe_and_what_each_cell_needs(tmp_path: Path) -> None:
    kept = results(tmp_path)
    assert kept.probe == PROBE
    needs = {cell.label: needs_of(SPEC, HOST, kept.outcomes[0].candidate, cell) for cell in grid()}
    assert kept.needs.keys() == {MODEL}
    assert kept.needs[MODEL].keys() == {""}
    assert kept.needs[MODEL][""].keys() == {SDPA, FP32}
    assert kept.needs[MODEL][""][SDPA] == needs


def test_without_a_probe_the_file_is_as_before(tmp_path: Path) -> None:
    kept = results(tmp_path, probed=False)
    assert (kept.probe, kept.needs) == (None, {})
    content = json.loads((tmp_path / "results/hosts/aaaaaaaaaaaa.json").read_text())
    assert "probe" not in content
    assert all(model.keys() == {"model", "verdicts"} for model in content["models"])


def test_every_cell_of_the_newest_launch_has_its_shares(tmp_path: Path) -> None:
    """By hand: see tests/selector/screens/test_limits.py; here 528 tokens of context and a TTFT of 1.034 s."""
    shares = squares(matrix([results(tmp_path)]))[SDPA].shares
    assert shares.keys() == {cell.label for cell in grid()}
    assert (of_products(shares, LONG), of_memory(shares, LONG)) == ("14 % of bfloat16", "32 %")
    assert (of_products(shares, "pp1:tg1:b1"), of_memory(shares, "pp1:tg1:b1")) == ("-", "-")


def test_a_launch_on_a_few_layers_needs_what_these_need(tmp_path: Path) -> None:
    """The embedding of 28,311,552 weights and a tenth of the others; 3 layers that keep 2 x 3 x 64 of 528 tokens."""
    needed = results(tmp_path, cut="3/30").needs[MODEL]["3/30"][SDPA][LONG]
    in_layers = (134_515_008 - 28_311_552) // 10
    assert needed.step_bytes == pytest.approx(2 * (28_311_552 + in_layers + 3 * 384 * 528), rel=1e-4)
    attention = 4 * 9 * 64 * 3 * (512 * 513 // 2)
    assert needed.operations == pytest.approx(2 * in_layers * 512 + 2 * 28_311_552 + attention, rel=1e-4)


def test_the_whole_model_and_its_first_layers_have_shares_of_their_own(tmp_path: Path) -> None:
    results(tmp_path)
    both = results(tmp_path, cut="3/30")
    assert both.needs[MODEL].keys() == {"", "3/30"}
    whole, shallow = (next(s for s in row.squares if s.label == SDPA) for row in matrix([both]).rows)
    assert whole.shares[LONG].bandwidth == pytest.approx(0.3196, rel=1e-3)
    assert shallow.shares[LONG].bandwidth == pytest.approx(0.0902, rel=1e-2)


def test_what_is_read_from_a_cache_is_marked() -> None:
    shares = {LONG: Shares(bandwidth=1.2, rate=None, dtype="", cached=True)}
    assert (of_memory(shares, LONG), of_products(shares, LONG)) == ("120 % (cache)", "-")


def test_the_pages_show_the_probe_and_the_shares(tmp_path: Path) -> None:
    all_hosts = matrix([results(tmp_path)])
    (host,) = all_hosts.hosts
    reached = "reads 40.0 GB/s; multiplies 200 GFLOP/s in float32, 800 in bfloat16, 1,600 in int8 (probed 2026-09-21)"
    assert machine(host) == f"AMD EPYC 7763, 2 cores, 24.0 GiB; {reached}"
    page, text = html(all_hosts), host_markdown(all_hosts, host)
    for shown in (page, text):
        assert reached in shown
        assert "Of the machine: which share" in shown
        assert "14 % of bfloat16, 32 % of memory" in shown
    head = next(line for line in text.splitlines() if line.startswith("| variant |"))
    assert head.endswith("| peak memory | of the machine |")
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {SDPA} |")]
    assert row.count("|") == head.count("|")


def test_the_story_of_a_variant_has_the_shares_beside_its_samples(tmp_path: Path) -> None:
    page = html(matrix([results(tmp_path)]))
    match = re.search(r'id="embedded">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    known = json.loads(match[1])
    (host,) = known["hosts"]
    sdpa = next(v for v in host["models"][0]["variants"] if v["label"] == SDPA)
    cells = known["texts"][sdpa["cells"]].split(" ")
    assert dict(zip(cells, sdpa["samples"], strict=True))[LONG] == [
        "1.03, 1.04, 1.02 s",
        "22.0, 22.2, 21.8 ms",
        "14 % of bfloat16",
        "32 %",
    ]


def test_the_pages_of_a_machine_that_was_not_probed_have_no_such_column() -> None:
    all_hosts = matrix([published(*rounds(SDPA, KEY, HOST, (1.0,)))])
    (host,) = all_hosts.hosts
    for shown in (html(all_hosts), host_markdown(all_hosts, host)):
        assert "Of the machine" not in shown
        assert not re.search(r'<th scope="col">of the machine|\| of the machine', shown)


def test_a_file_with_a_malformed_probe_is_refused(tmp_path: Path) -> None:
    results(tmp_path)
    file = tmp_path / "results/hosts/aaaaaaaaaaaa.json"
    content = json.loads(file.read_text())
    content["probe"]["seconds"] = "long"
    file.write_text(json.dumps(content))
    with pytest.raises(Exception, match="is not a host's results: ValueError: needs a number in seconds; found 'long'"):
        read(file)


def test_needs_are_read_as_they_were_written(tmp_path: Path) -> None:
    kept = results(tmp_path)
    needed = kept.needs[MODEL][""][FP32][LONG]
    assert (isinstance(needed, Needs), needed.dtype) == (True, "float32")
