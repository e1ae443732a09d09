"""What is known of times: own launches, imported ones, and what ships; none of them twice."""

from dataclasses import replace

import pytest

from calibration.cache.cache import Cache
from selector.evidence.identity import identity
from selector.model.spec import ModelSpec
from selector.predict.known.layers import host_named, host_of, timings
from selector.predict.known.shipped import shipped
from selector.predict.known.work import Work
from tests.selector.launches import cpu_host, measurement

GPT2 = ModelSpec.read("shape:gpt2")
ZEN3 = "a9a852565440"
"""A host of results/."""


def test_shipped_rows_give_way_to_the_launches_that_they_are_made_of(cache: Cache) -> None:
    here = cpu_host(ZEN3)
    rows = [t for t in shipped() if t.host.identifier == ZEN3 and t.model == "shape:gpt2"]
    calibration = next(iter(rows[0].calibrations))
    same = [t for t in shipped() if t.host.identifier == ZEN3 and calibration in t.calibrations]
    cache.add(
        measurement(
            "transformers:sdpa", identity(GPT2, here), here, calibration=calibration + "0" * 24, model="shape:gpt2"
        )
    )
    known = timings(host_of(here), Work.of(GPT2), cache)
    assert len(known) == len(shipped()) - len(same) + 1
    assert [t.label for t in known if t.host.identifier == ZEN3 and calibration in t.calibrations] == [
        "transformers:sdpa"
    ]


def test_launches_of_the_first_layers_are_of_a_model_that_is_cut(cache: Cache) -> None:
    here = cpu_host()
    key = replace(identity(GPT2, here), cut="3/12")
    cache.add(measurement("transformers:sdpa", key, here, model="shape:gpt2"))
    assert timings(host_of(here), Work.of(GPT2), cache)[0].work == Work.of(GPT2).cut(3)


def test_an_older_version_of_the_engine_is_marked(cache: Cache) -> None:
    here = cpu_host()
    key = identity(GPT2, here)
    cache.add(
        measurement("ctranslate2:float32", key, here, environment={"ctranslate2": "4.8.4"}, model="shape:gpt2"),
        measurement("openvino:fp32-pa", key, here, environment={"openvino-genai": "2027.1"}, model="shape:gpt2"),
    )
    known = timings(host_of(here), Work.of(GPT2), cache)
    own = {t.label: t.outdated for t in known if t.host.identifier == here.identifier}
    assert own == {"ctranslate2:float32": True, "openvino:fp32-pa": False}
    assert {t.outdated for t in known if t.label.startswith("openvino") and t.host.identifier == ZEN3} == {True}
    assert {t.outdated for t in known if t.label.startswith("ctranslate2") and t.host.identifier == ZEN3} == {False}


@pytest.mark.parametrize(
    ("device", "kind", "has", "cores"),
    [
        ("AMD EPYC (zen3), 2 cores", "cpu", {"avx2"}, 2),
        ("AMD EPYC (x86_64_v4 + avx512_bf16 avx_vnni), 16 cores", "cpu", {"avx512f", "avx512_bf16", "avx_vnni"}, 16),
        ("ARM neoverse_v1, 1 core", "cpu", {"neon", "sve"}, 1),
        ("NVIDIA A100-SXM4-80GB", "other", set(), 1),
    ],
)
def test_a_host_is_known_by_its_devices_name(device: str, kind: str, has: set[str], cores: int) -> None:
    host = host_named("b" * 12, device)
    assert (host.kind, host.cores) == (kind, cores)
    assert has <= host.cpu_features


def test_a_cut_model_keeps_its_embeddings() -> None:
    whole = Work.of(ModelSpec.read("shape:llama-3.1-8b"))
    few = whole.cut(2)
    assert few.head_parameters == whole.head_parameters == 128256 * 4096
    assert few.body_parameters == pytest.approx(whole.body_parameters / 16, rel=1e-6)
    assert whole.cut(32) == whole


def test_a_mixture_reads_the_experts_of_a_token() -> None:
    """Qwen3-30B-A3B: 3 billion of 30 are active."""
    work = Work.of(ModelSpec.read("shape:qwen3-30b-a3b"))
    assert 2.5e9 < work.read_parameters < 3.5e9
    assert work.parameters > 2.9e10
