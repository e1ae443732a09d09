"""The files of what each release has, beside the facts that were written for one release."""

import re
from pathlib import Path

import pytest
from packaging.version import Version

from benchmarks.engines.releases.readers import READERS, Reader
from calibration.backends.llamacpp.architectures import ARCHITECTURES, IN_FILES, TRIED, WRONG
from calibration.registry import all_backends, find, source_file
from selector.rules.installed.releases import Releases, Spans

FILES = [reader for reader in READERS if reader.backend != "openvino"]
"""OpenVINO's is of optimum-intel, which exports models by another program than ours: no rule reads it."""


def released(backend: str) -> Releases:
    file = find(backend).facts.releases
    assert file is not None
    return Releases.of(file)


def of(releases: Releases, table: Spans, version: str) -> set[str]:
    return {name for name, spans in table.items() if releases.has(spans, version)}


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.backend)
def test_each_file_is_what_its_reader_writes(reader: Reader) -> None:
    releases = Releases.of(reader.file)
    assert releases.distribution == reader.distribution
    assert Version(releases.read[0]) >= Version(reader.since)
    spans = [span for table in (releases.architectures, releases.quant_methods) for s in table.values() for span in s]
    assert {span.first for span in spans} | {span.last for span in spans} <= {*releases.read, ""}
    assert all(span.source.rpartition(":")[2].isdigit() for span in spans)


def test_each_backend_with_a_reader_reads_its_file() -> None:
    files = {name: backend.facts.releases for name, backend in all_backends().items() if backend.facts.releases}
    assert files == {reader.backend: reader.file for reader in FILES}
    assert all(find(reader.backend).facts.package == reader.distribution for reader in FILES)


def test_turbominds_facts_are_those_of_their_release() -> None:
    releases, facts = released("turbomind"), find("turbomind").facts
    assert facts.architectures is not None
    assert set(facts.architectures) == of(releases, releases.architectures, "0.18.0")
    assert of(releases, releases.quant_methods, "0.18.0") == {quant.method for quant in facts.quants}


def test_the_pytorch_engines_facts_are_those_of_their_release() -> None:
    releases, facts = released("pytorch"), find("pytorch").facts
    assert facts.architectures is not None
    assert facts.architectures <= of(releases, releases.architectures, "0.18.0")
    assert of(releases, releases.quant_methods, "0.18.0") == {quant.method for quant in facts.quants}
    went = {name for name, spans in releases.architectures.items() if not releases.has(spans, "0.18.0")}
    # It was in no release since 0.6.0.
    assert set(facts.removed_architectures) - went == {"BaiChuanForCausalLM"}


@pytest.mark.parametrize(
    ("backend", "version"), [("llamacpp", "2026.10.11549"), ("onnxruntime", "0.18.0"), ("ctranslate2", "4.8.5")]
)
def test_what_was_tried_is_in_the_release_that_it_was_tried_with(backend: str, version: str) -> None:
    releases, known = released(backend), find(backend).facts.architectures
    assert known is not None
    # llama.cpp's own names of architectures stand in .gguf files, not in its converter.
    tried = {name for name in known if name not in ARCHITECTURES or name[0].isupper()}
    assert tried - of(releases, releases.architectures, version) == set()


def test_llamacpps_facts_are_of_architectures_that_its_converter_has() -> None:
    releases = released("llamacpp")
    converted = of(releases, releases.architectures, "2026.10.11549")
    assert TRIED - converted - {"MptForCausalLM"} == set()
    # What no class of the converter is called is a name in .gguf files.
    assert {name for name in {*IN_FILES, *WRONG} - converted if name[0].isupper()} <= {"DeepseekV4DSparkModel"}
    assert TRIED.isdisjoint(WRONG) and IN_FILES.isdisjoint(WRONG)


def test_the_hash_of_the_release_that_is_installed_with_its_list_is_noted() -> None:
    files = find("llamacpp").facts.source_files
    assert files is not None
    requirements = Path(source_file(find("llamacpp"))).parent / "requirements" / "llamacpp-cpu.txt"
    [version] = re.findall(r"^xllamacpp==(\S+)$", requirements.read_text(), re.MULTILINE)
    sha256 = files.sha256(version)
    assert sha256 is not None and re.fullmatch("[0-9a-f]{64}", sha256)
