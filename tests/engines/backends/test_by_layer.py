"""The reference a layer at a time: equal to the plain one bit by bit, in the memory of one layer."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.backend import Engine
from calibration.backends.transformers.by_layer import LayeredLoop
from calibration.check.agreement import Answers, compare
from calibration.check.divergence import rows_of
from calibration.check.tolerance import TOLERANCES
from calibration.checkpoints.random_weights import write_random_checkpoint
from calibration.conversion.store import ArtifactStore
from calibration.events import ReferenceFailed, Silent
from calibration.launch.reference import reference_of
from calibration.launch.session import Session
from calibration.measurement import Agreement, Candidate, FailureKind, Identity, OutputVerdict
from calibration.registry import find
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.launch_spec import LaunchSpec, Limits, Subject
from calibration.worker.prompts import prompts
from tests.engines import tiny_models
from tests.engines.planted import planting
from tests.engines.tiny_configs import CONFIGS, VOCAB

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

LENGTHS = (24, 24, 96, 130)
KINDS = ("llama", "llama-tied", "mistral-window", "gemma3", "gpt2", "qwen3-moe", "deepseek-v3", "mamba", "llama4")


def loaded(folder: Path, precision: str, *, by_layer: bool) -> Engine:
    asked = tiny_models.job(folder, find("transformers"), "eager")
    options = {**asked.variant.options, "by_layer": by_layer}
    return find("transformers").load(
        replace(asked, variant=replace(asked.variant, precision=precision, options=options))
    )


def written(root: Path, name: str, **more: Any) -> Path:
    """A checkpoint in bfloat16."""
    source = root / f"{name}-config"
    source.mkdir()
    config = {**CONFIGS[name], "torch_dtype": "bfloat16", **more}
    (source / "config.json").write_text(json.dumps(config))
    write_random_checkpoint(source, root / name)
    return root / name


def greedy(engine: Engine) -> tuple[list[list[int]], Any]:
    asked = [prompts(f"layer-{number}", VOCAB, length, 1)[0] for number, length in enumerate(LENGTHS)]
    answers = list(engine.score_greedy_each(asked, tiny_models.NEW_TOKENS))
    return [list(path) for path, _ in answers], np.stack([tiny_models.rows(scores) for _, scores in answers])


@pytest.mark.parametrize("name", KINDS)
def test_a_layer_at_a_time_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    folder = written(tmp_path, name)
    layered = loaded(folder, "fp32", by_layer=True)
    assert isinstance(layered, LayeredLoop)
    paths, scores = greedy(loaded(folder, "fp32", by_layer=False))
    found_paths, found_scores = greedy(layered)
    assert found_paths == paths
    assert np.array_equal(found_scores, scores)


def test_the_tensors_of_a_layer_may_be_in_several_files(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = written(tmp_path, "llama")
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    model.save_pretrained(tmp_path / "split", max_shard_size="60KB")
    assert len(list((tmp_path / "split").glob("*.safetensors"))) > 3
    _, scores = greedy(loaded(folder, "fp32", by_layer=False))
    assert np.array_equal(greedy(loaded(tmp_path / "split", "fp32", by_layer=True))[1], scores)


def test_a_checkpoint_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = written(tmp_path, "llama") / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file, {"format": "pt"})
    engine = loaded(file.parent, "fp32", by_layer=True)
    missing = r"^model\.layers\.1 cannot be read .*: model\.layers\.1\.mlp\.up_proj\.weight is missing$"
    with pytest.raises(ValueError, match=missing):
        greedy(engine)


DEEP = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 16,
    "initializer_range": 0.03,
}
PARAMETERS = 16 * (2 * 768 * 768 + 2 * 768 * 384 + 3 * 768 * 3072)
"""Of its layers: 540 MiB in float32, 34 a layer."""
ROOM_BYTES = 160 << 20
"""Beside the interpreter with its libraries, for a model whose layers have 540 MiB."""


class Reports(Silent):
    def __init__(self) -> None:
        self.failed: list[str] = []

    def report(self, event: object) -> None:
        if isinstance(event, ReferenceFailed):
            self.failed.append(event.message)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("deep"), "llama", **DEEP)


@pytest.fixture(scope="module")
def libraries_bytes(tmp_path_factory: pytest.TempPathFactory) -> int:
    """What a worker needs for the libraries and a model that is next to nothing."""
    root = tmp_path_factory.mktemp("small")
    return peak_bytes(session(written(root, "llama"), root, 1 << 34), reference("fp32", by_layer=True))


def reference(precision: str, **options: bool) -> LaunchSpec:
    plain = find("transformers").variant("eager")
    variant = replace(plain, name=f"reference-{precision}", precision=precision, options={**plain.options, **options})
    candidate = Candidate(backend="transformers", variant=variant.name)
    return LaunchSpec(candidate=candidate, variant=variant, python=Path(sys.executable), environment={})


def session(folder: Path, root: Path, limit_bytes: int, parameters: int = PARAMETERS) -> Session:
    scores = root / "scores"
    scores.mkdir(exist_ok=True)
    identity = Identity(
        architecture="LlamaForCausalLM", quant="none", device="cpu", fingerprint="f", dtype="bfloat16",
        device_count=1, host="h",
    )  # fmt: skip
    subject = Subject(
        name=folder.name,
        model_dir=folder,
        weights_identity="random",
        identity=identity,
        dtype="bfloat16",
        vocab_size=VOCAB,
        device="cpu",
        threads=1,
        memory_limit_bytes=limit_bytes,
        max_position=512,
        parameters=parameters,
    )
    return Session(
        calibration_id="c",
        subject=subject,
        cells=(),
        store=ArtifactStore(root / "artifacts"),
        folder=scores,
        reporter=Reports(),
        limits=Limits(),
        deadline=Deadline(None, lambda: 0.0),
    )


def peak_bytes(launched: Session, spec: LaunchSpec) -> int:
    with launched.workers.opened(spec, launched.folder / "log", launched.deadline, "reference") as worker:
        for verb, fields in (
            ("load", {}),
            ("refer", {"prompts": launched.check_prompts(), "new_tokens": 8, "rows_file": str(launched.folder / "r")}),
        ):
            launched.deadline.ask(worker, "reference", 300, verb, **fields)
        return worker.peak_memory_bytes


@pytest.fixture(scope="module")
def layered(deep: Path, libraries_bytes: int, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """The reference within a limit that the weights are far beyond: a worker above the limit is killed."""
    within = session(deep, tmp_path_factory.mktemp("layered"), libraries_bytes + ROOM_BYTES)
    made = reference_of(reference("fp32"))(within)
    assert made is not None, within.reporter
    return made


def test_all_weights_do_not_fit_into_the_limit(deep: Path, libraries_bytes: int, tmp_path: Path) -> None:
    within = session(deep, tmp_path, libraries_bytes + ROOM_BYTES)
    with pytest.raises(GivenUp) as killed:
        peak_bytes(within, reference("fp32"))
    assert killed.value.trouble.kind is FailureKind.OUT_OF_MEMORY


def test_one_layer_at_a_time_fits_and_gives_the_same_bits(deep: Path, layered: Answers) -> None:
    plain = planting.reference(deep)
    assert layered.precision == "fp32"
    assert layered.tokens == plain.tokens
    found, expected = rows_of(layered.rows_file, layered.row_shape), rows_of(plain.rows_file, plain.row_shape)
    assert found is not None
    assert expected is not None
    assert np.array_equal(found, expected)
    assert layered.rounding is not None
    assert plain.rounding is not None
    assert 0.5 < layered.rounding.median_kl / plain.rounding.median_kl < 2


def agreement(folder: Path, expected: Answers, variant: str, precision: str) -> Agreement:
    engine = planting.load(find("llamacpp"), variant, folder)
    try:
        return compare(expected, planting.ask(engine, folder / f"{variant}.f32", expected), precision)
    finally:
        engine.close()


def test_llamacpp_in_float16_is_right_beside_a_layered_reference(deep: Path, layered: Answers) -> None:
    found = agreement(deep, layered, "f16", "16-bit")
    assert (found.verdict, found.detail) == (OutputVerdict.RIGHT, "5 of 5 greedy paths equal")
    assert found.kl is not None
    assert layered.rounding is not None
    assert found.kl < layered.rounding.mean_kl / 10


@pytest.fixture(scope="module")
def inexact(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answers]:
    """A checkpoint and its reference, which cannot be computed in float32."""
    root = tmp_path_factory.mktemp("inexact")
    folder = written(root, "llama")
    refused = replace(reference("fp32"), python=Path("/nowhere/python"))
    made = reference_of(refused, instead=reference("model"))(session(folder, root, 1 << 34))
    assert made is not None
    assert made.precision == "16-bit"
    return folder, made


@pytest.mark.parametrize(("variant", "precision"), [("f16", "16-bit"), ("f32", "fp32")])
def test_what_is_more_exact_than_a_reference_in_16_bits_is_not_refused(
    variant: str, precision: str, inexact: tuple[Path, Answers]
) -> None:
    found = agreement(*inexact, variant, precision)
    assert found.verdict is OutputVerdict.RIGHT, found
    assert found.detail.endswith("; the reference has 16 bits, and more is allowed for it")
    # Beside an exact reference float32 is allowed less than this.
    assert found.kl is not None
    assert found.kl > TOLERANCES["fp32"].mean_kl


def test_an_error_is_found_beside_a_reference_in_16_bits(inexact: tuple[Path, Answers]) -> None:
    folder, made = inexact
    wrong = planting.planted(folder, "another-theta", planting.configured(rope_theta=10000.0))
    assert agreement(wrong, made, "f16", "16-bit").verdict is OutputVerdict.WRONG
