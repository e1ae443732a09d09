"""The weights of a rung: what they are called and take; a worker writes the first layers of the model's own."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from calibration.checkpoints.random_weights import checkpoint_key, random_weights_identity
from calibration.conversion.convert import Original
from calibration.conversion.store import ArtifactStore
from calibration.errors import ArtifactError
from calibration.events import CheckpointBegan, Event
from calibration.rung import Rung
from selector.host.spec import HostSpec
from selector.model.rungs import rungs_of
from selector.model.spec import ModelSpec
from selector.planning.plan import plan
from selector.planning.subject import subject_at
from selector.planning.weights import launchable_rungs, weights_of
from selector.screens.calibration.steps import step
from tests.selector.answering import HOST

LLAMA = ModelSpec.read("shape:llama-3.1-8b")
THREE = Rung(layers=3, of=32)
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 12,
    "num_attention_heads": 2,
    "vocab_size": 32,
    "max_position_embeddings": 2048,
    "torch_dtype": "float16",
}
TWO = Rung(layers=2, of=12)


class Recorder:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def report(self, event: Any) -> None:
        self.events.append(event)


@pytest.fixture
def host() -> HostSpec:
    """A host whose transformers would run in this interpreter."""
    return replace(
        HOST, installations={n: replace(i, python=Path(sys.executable)) for n, i in HOST.installations.items()}
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A checkpoint of 12 layers, each with one matrix."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    layers = {f"model.layers.{layer}.mlp.up_proj.weight": np.full((16, 8), layer, np.float16) for layer in range(12)}
    save_file({**layers, "model.embed_tokens.weight": np.ones((32, 8), np.float16)}, folder / "model.safetensors")
    return folder


def test_random_weights_of_the_first_layers_are_others_than_the_whole_models(tmp_path: Path) -> None:
    whole, cut = weights_of(LLAMA, random_weights=False), weights_of(LLAMA, THREE, random_weights=False)
    assert (whole.identity, whole.key) == (
        random_weights_identity(LLAMA.folder),
        checkpoint_key(LLAMA.folder, "shape:llama-3.1-8b"),
    )
    assert whole.identity != cut.identity == weights_of(LLAMA, THREE, random_weights=False).identity
    assert cut.key is not None and (cut.key["kind"], cut.key["model"], cut.key["cut"]) == (
        *("checkpoint", "shape:llama-3.1-8b", "3/32"),
    )
    assert cut.original == Original(
        name="shape:llama-3.1-8b",
        weights=cut.identity,
        parameters=2 * 128256 * 4096 + 3 * 218_112_000 + 4096,
        dtype="bfloat16",
        embeddings=128256 * 4096,
        layers=3,
        cut="3/32",
    )
    store = ArtifactStore(tmp_path)
    expected, all_of_it = cut.lacking(store), whole.lacking(store)
    assert expected is not None and all_of_it is not None
    assert (expected.bytes, all_of_it.bytes) == (cut.spec.weight_bytes, LLAMA.weight_bytes)
    assert expected.seconds < all_of_it.seconds / 3


def test_its_own_weights_need_nothing_where_the_whole_model_is_launched(tmp_path: Path, model: Path) -> None:
    spec, store = ModelSpec.read(model), ArtifactStore(tmp_path / "artifacts")
    whole, cut = weights_of(spec, random_weights=False), weights_of(spec, TWO, random_weights=False)
    assert (whole.identity, whole.key, whole.lacking(store)) == (spec.weights_identity, None, None)
    assert cut.identity != whole.identity
    assert weights_of(spec, TWO, random_weights=True).identity != cut.identity
    expected = cut.lacking(store)
    assert expected is not None and expected.bytes == cut.spec.weight_bytes < spec.weight_bytes


def test_a_worker_writes_the_first_layers_once(tmp_path: Path, model: Path, host: HostSpec) -> None:
    store, recorder = ArtifactStore(tmp_path / "artifacts"), Recorder()
    planned = plan(model, host=host, backends=["transformers"])
    subjects = [subject_at(planned, rung, store, recorder) for rung in (TWO, TWO, Rung(layers=12, of=12))]
    cut, again, whole = subjects
    assert cut == again
    (artifact,) = store.list()
    assert (artifact.path, artifact.kind, artifact.key["cut"]) == (cut.model_dir, "cut", "2/12")
    assert sorted(load_file(cut.model_dir / "model.safetensors")) == [
        "model.embed_tokens.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.1.mlp.up_proj.weight",
    ]
    assert ModelSpec.read(cut.model_dir).layers == 2
    assert (whole.model_dir, whole.identity) == (model, planned.identity)
    assert (cut.name, cut.identity) == (whole.name, replace(planned.identity, cut="2/12"))
    assert cut.parameters < whole.parameters and cut.weights_identity != whole.weights_identity
    assert Original.of(cut) == weights_of(planned.spec, TWO, random_weights=False).original
    (began,) = [event for event in recorder.events if isinstance(event, CheckpointBegan)]
    assert step(began) == f"writing the first 2 of 12 layers of {model}, once: about 1 s, 0 MiB"


def test_what_cannot_be_cut_is_said(tmp_path: Path, model: Path, host: HostSpec) -> None:
    (model / "model.safetensors").write_bytes(bytes(8) + b"{}")
    planned = plan(model, host=host, backends=["transformers"])
    with pytest.raises(ArtifactError) as error:
        subject_at(planned, TWO, ArtifactStore(tmp_path / "artifacts"), Recorder())
    failed, mend = str(error.value).splitlines()
    assert failed.startswith(f"the first 2 of 12 layers of {model} cannot be written: JSONDecodeError: Expecting value")
    assert mend == f"time its shape: autobackend calibrate {model} --random-weights"
    assert ArtifactStore(tmp_path / "artifacts").list() == []


def test_rungs_whose_weights_cannot_be_read_alone_are_not_launched(tmp_path: Path, model: Path) -> None:
    def rungs(**changes: Any) -> list[int]:
        (model / "config.json").write_text(json.dumps({**CONFIG, **changes}))
        return [rung.layers for rung in launchable_rungs(ModelSpec.read(model), random_weights=False)]

    assert rungs() == [2, 4, 12]
    # The embeddings that Gemma 3n adds to each layer are one matrix of all layers.
    assert rungs(hidden_size_per_layer_input=4) == [12]
    (model / "pytorch_model.bin").write_bytes(b"pickles")
    assert rungs() == [2, 4, 12]
    (model / "model.safetensors").rename(model / "other.tensors")
    assert rungs() == [12]
    assert [r.layers for r in launchable_rungs(ModelSpec.read(model), random_weights=True)] == [2, 4, 12]
    (model / "pytorch_model.bin").unlink()
    index = {"weight_map": {f"blocks.{layer}.weight": "model.safetensors" for layer in range(11)}}
    (model / "other.tensors").rename(model / "model.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert rungs() == [12]
    index["weight_map"]["blocks.11.weight"] = "model.safetensors"
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert rungs() == [2, 4, 12]


def test_shapes_are_launched_on_all_their_rungs() -> None:
    assert launchable_rungs(LLAMA, random_weights=False) == rungs_of(LLAMA)
