"""publish(): which files it writes, and what they hold."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.cache.cache import Cache
from calibration.errors import CacheError
from calibration.measurement import Failure
from calibration.registry import all_backends
from selector.evidence.identity import environment_of
from selector.explanation import explain
from selector.publish.hosts.host_file import HostResults, KeptVerdict, read
from selector.publish.publish import publish
from tests.selector.launches import DAY, cpu_host, failure, rounds
from tests.selector.publish.published import CT2, EAGER, HOST, KEY, MODEL, SDPA


def test_publish_writes_the_raw_launches_and_the_pages(tmp_path: Path) -> None:
    out = tmp_path / "results"
    launches = rounds(SDPA, KEY, HOST, (1.0, 1.0))
    with Cache.open(tmp_path / "cache.db") as cache:
        cache.add(*launches, *rounds(EAGER, replace(KEY, host="b" * 12), HOST, (1.0,)))
        written = publish(cache, out, host=HOST, now=DAY)
    assert written == [
        out / "hosts" / "aaaaaaaaaaaa.json",
        out / "matrix.md",
        out / "matrix.html",
        out / "hosts" / "aaaaaaaaaaaa.md",
    ]
    assert sorted(p for p in out.rglob("*") if p.is_file()) == sorted(written)
    results = read(written[0])
    assert results.batching["llamacpp:f16"] == "continuous"
    assert results.batching[SDPA] == "static"
    assert "transformers:compile" in results.on_request
    assert replace(results, batching={}, on_request=frozenset()) == HostResults(
        host=HOST.identifier,
        device=HOST.device.name,
        device_kind=HOST.device.kind,
        machine="AMD EPYC 7763, 2 cores, 24.0 GiB",
        published_at=DAY,
        environments={name: environment_of(b, HOST) for name, b in all_backends().items()},
        verdicts={
            MODEL: tuple(
                KeptVerdict(label=v.candidate.label, reasons=tuple(r.text for r in v.reasons), left_out=v.left_out)
                for v in explain(MODEL, host=HOST).verdicts
            )
        },
        outcomes=tuple(launches),
    )


def test_the_rules_of_a_model_are_kept_though_a_few_layers_were_launched_last(tmp_path: Path) -> None:
    cut = replace(KEY, cut="3/30")
    with Cache.open(tmp_path / "cache.db") as cache:
        cache.add(*rounds(SDPA, KEY, HOST, (1.0,)), *rounds(SDPA, cut, HOST, (0.1,), at=DAY + 3600))
        raw, *_ = publish(cache, tmp_path, host=HOST, now=DAY)
    assert list(read(raw).verdicts) == [MODEL]
    page = (tmp_path / "hosts" / "aaaaaaaaaaaa.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("### ")] == [
        f"### {MODEL}, bfloat16",
        f"### {MODEL}, bfloat16, on 3 of 30 layers",
    ]


def test_a_file_of_version_2_is_of_whole_models(tmp_path: Path) -> None:
    launches = rounds(SDPA, KEY, HOST, (1.0, 1.0))
    with Cache.open(tmp_path / "cache.db") as cache:
        cache.add(*launches)
        raw, *_ = publish(cache, tmp_path, host=HOST, now=DAY)
    content = json.loads(raw.read_text())
    for record in content["records"]:
        del record["identity"]["cut"]
    raw.write_text(json.dumps({**content, "version": 2}))
    assert read(raw).outcomes == tuple(launches)


def test_publish_merges_the_files_of_other_hosts_sorted_by_device(tmp_path: Path) -> None:
    there = cpu_host("0" * 12)
    there = replace(there, devices=(replace(there.device, name="Intel Xeon (icelake), 2 cores"),))
    for host in (there, HOST):
        with Cache.open(tmp_path / f"{host.identifier}.db") as cache:
            cache.add(*rounds(SDPA, replace(KEY, host=host.identifier), host, (1.0,)))
            publish(cache, tmp_path / "results", host=host, now=DAY)
    page = (tmp_path / "results" / "matrix.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## [AMD EPYC 7763 (zen3), 2 cores](hosts/aaaaaaaaaaaa.md)",
        "## [Intel Xeon (icelake), 2 cores](hosts/000000000000.md)",
    ]
    assert all((tmp_path / "results" / "hosts" / f"{h.identifier}.md").is_file() for h in (HOST, there))


def test_publish_with_only_other_hosts_still_writes_the_pages(tmp_path: Path) -> None:
    with Cache.open(tmp_path / "cache.db") as cache:
        cache.add(*rounds(SDPA, KEY, HOST, (1.0,)))
        publish(cache, tmp_path, host=HOST)
    with Cache.open(tmp_path / "empty.db") as empty:
        assert publish(empty, tmp_path, host=cpu_host("cccccccccccc")) == [
            tmp_path / "matrix.md",
            tmp_path / "matrix.html",
            tmp_path / "hosts" / "aaaaaaaaaaaa.md",
        ]


def test_a_model_that_is_gone_keeps_its_measurements(tmp_path: Path) -> None:
    with Cache.open(tmp_path / "cache.db") as cache:
        cache.add(*rounds(SDPA, KEY, HOST, (1.0,), model="/no/such/folder"))
        raw, *_ = publish(cache, tmp_path, host=HOST)
    results = read(raw)
    assert (results.verdicts, len(results.outcomes)) == ({}, 1)


def test_nothing_to_publish_is_an_error(tmp_path: Path) -> None:
    with Cache.open(tmp_path / "cache.db") as cache, pytest.raises(CacheError) as error:
        publish(cache, tmp_path / "results", host=HOST)
    assert str(error.value) == (
        f"nothing was measured on this host; the cache is {tmp_path / 'cache.db'}\n"
        "measure something first: autobackend calibrate shape:smollm2-135m"
    )


def test_published_failures_name_no_folder_of_the_machine(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "llama-gptq"
    message = f"cannot read {folder}/model.bin in /usr/lib/python3.11/engine.py"
    with Cache.open(tmp_path / "cache.db") as cache:
        cache.add(
            *rounds(SDPA, KEY, HOST, (1.0,), model=str(folder)),
            failure(CT2, KEY, HOST, message=message, model=str(folder)),
        )
        written = publish(cache, tmp_path / "results", host=HOST, now=DAY)
    for path in written:
        assert str(tmp_path) not in path.read_text()
    failed = next(o for o in read(written[0]).outcomes if isinstance(o, Failure))
    assert (failed.model, failed.message) == (
        "llama-gptq",
        "cannot read .../llama-gptq/model.bin in PREFIX/lib/python3.11/engine.py",
    )


def test_the_raw_file_is_plain_json(tmp_path: Path) -> None:
    with Cache.open(tmp_path / "cache.db") as cache:
        cache.add(*rounds(SDPA, KEY, HOST, (1.0,)))
        raw, *_ = publish(cache, tmp_path, host=HOST, now=DAY)
    content = json.loads(raw.read_text())
    assert (content["format"], content["version"], content["published_at"]) == ("autobackend-results", 5, DAY)
    assert content["records"][0]["cells"][0]["samples"][0]["ttft_s"] == pytest.approx(0.138)
