"""The first layers of a checkpoint, as files: which tensors they have, byte for byte, and what lies beside them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from calibration.checkpoints.cut import _place, all_shards, cut_checkpoint, kept_tensors, shards_of
from calibration.rung import Rung

RUNG = Rung(layers=2, of=6)
CONFIG: dict[str, Any] = {"model_type": "llama", "num_hidden_layers": 6}


def checkpoint(folder: Path, shards: dict[str, dict[str, Any]], *, index: bool = False, **beside: Any) -> Path:
    """A folder with these tensors, config.json, and JSON files beside it (`quant_config={...}`)."""
    folder.mkdir()
    for name, tensors in shards.items():
        save_file(tensors, folder / name)
    if index:
        content = {"metadata": {}, "weight_map": {t: name for name, tensors in shards.items() for t in tensors}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    for name, content in {"config": CONFIG, **beside}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def layers(count: int = 6, prefix: str = "model.layers") -> dict[str, Any]:
    """A tensor for each layer, all different; every second of another type, as quantised ones are."""
    return {
        f"{prefix}.{layer}.q_proj.{'qweight' if layer % 2 else 'weight'}": np.full(
            (3, 5), layer, np.int32 if layer % 2 else np.float16
        )
        for layer in range(count)
    }


OUTSIDE = {
    "model.embed_tokens.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "model.norm.weight": np.ones(4, np.float16),
}


def cut(source: Path) -> dict[str, Any]:
    """The tensors of the first layers."""
    destination = source.parent / "cut"
    destination.mkdir()
    assert cut_checkpoint(source, destination, RUNG) == destination
    tensors: dict[str, Any] = load_file(destination / "model.safetensors")
    return tensors


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in one
    )


def test_tensors_of_the_first_layers_are_copied_as_they_are(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "whole", {"model.safetensors": {**layers(), **OUTSIDE}})
    assert same(cut(source), {**layers(2), **OUTSIDE})


def test_shards_become_one_file(tmp_path: Path) -> None:
    tensors = layers()
    shards: dict[str, dict[str, Any]] = {"model-1.safetensors": {}, "model-2.safetensors": dict(OUTSIDE)}
    for number, name in enumerate(tensors):
        shards[f"model-{number % 2 + 1}.safetensors"][name] = tensors[name]
    source = checkpoint(tmp_path / "whole", shards, index=True)
    (source / "consolidated.safetensors").write_bytes(b"another copy, which the index does not name")
    assert same(cut(source), {**layers(2), **OUTSIDE})
    assert sorted(file.name for file in (tmp_path / "cut").iterdir()) == ["config.json", "model.safetensors"]


def test_shards_of_later_layers_need_not_be_there(tmp_path: Path) -> None:
    tensors = {**layers(), **OUTSIDE}
    shards: dict[str, dict[str, Any]] = {"first.safetensors": {}, "later.safetensors": {}, "ends.safetensors": {}}
    for name, tensor in tensors.items():
        place = _place(name)
        shard = "ends" if place is None else "first" if place[1] < 3 else "later"
        shards[f"{shard}.safetensors"][name] = tensor
    source = checkpoint(tmp_path / "whole", shards, index=True)
    assert all_shards(source) == set(shards)
    assert shards_of(source, RUNG) == ["ends.safetensors", "first.safetensors"]
    assert shards_of(source, Rung(layers=4, of=6)) == sorted(shards)
    (source / "later.safetensors").unlink()
    assert same(cut(source), {**layers(2), **OUTSIDE})


def test_shards_without_an_index(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "whole", {"a.safetensors": layers(), "b.safetensors": dict(OUTSIDE)})
    (source / "consolidated.00.safetensors").write_bytes(b"another copy")
    assert same(cut(source), {**layers(2), **OUTSIDE})


def test_a_tensor_begins_at_a_multiple_of_its_numbers(tmp_path: Path) -> None:
    tensors = {
        "a": np.zeros(3, np.int8),
        "b": np.zeros(3, np.float16),
        "c": np.zeros(3, np.float64),
        "empty": np.zeros((0, 2), np.float32),
    }
    source = checkpoint(tmp_path / "whole", {"model.safetensors": {**layers(), **tensors}})
    assert same(cut(source), {**layers(2), **tensors})
    raw = (tmp_path / "cut" / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    sizes = {"F64": 8, "I32": 4, "F32": 4, "F16": 2, "I8": 1}
    assert length % 8 == 0
    del header["__metadata__"]
    assert {entry["data_offsets"][0] % sizes[entry["dtype"]] for entry in header.values()} == {0}


def test_what_is_beside_the_weights_comes_along(tmp_path: Path) -> None:
    quant: Any = {"quantization": {"quantized_layers": {"model.layers.1.q_proj": {}, "model.layers.4.q_proj": {}}}}
    source = checkpoint(tmp_path / "whole", {"model.safetensors": layers()}, hf_quant_config=quant, tokenizer={"a": 1})
    (source / "modeling_own.py").write_text("CODE = 1\n")
    (source / "pytorch_model.bin").write_bytes(b"the same weights as pickles")
    (source / "original").mkdir()
    cut(source)
    files = {file.name: file for file in (tmp_path / "cut").iterdir()}
    assert sorted(files) == [
        *("config.json", "hf_quant_config.json", "model.safetensors", "modeling_own.py", "tokenizer.json")
    ]
    assert json.loads(files["config.json"].read_text()) == {"model_type": "llama", "num_hidden_layers": 2}
    assert json.loads(files["hf_quant_config.json"].read_text()) == {
        "quantization": {"quantized_layers": {"model.layers.1.q_proj": {}}}
    }
    assert files["tokenizer.json"].read_bytes() == (source / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    ("names", "dropped"),
    [
        # GPT-2, GPT-NeoX, ChatGLM, Nemotron-H
        (["h.0.a", "h.3.a", "wte"], ["h.3.a"]),
        (["gpt_neox.layers.1.a", "gpt_neox.layers.2.a"], ["gpt_neox.layers.2.a"]),
        (["transformer.encoder.layers.2.a", "transformer.encoder.final_layernorm"], ["transformer.encoder.layers.2.a"]),
        (["backbone.layers.5.mixer.A_log", "backbone.embeddings"], ["backbone.layers.5.mixer.A_log"]),
        # Experts have numbers of their own.
        (["model.layers.1.mlp.experts.5.a", "model.layers.5.mlp.experts.1.a"], ["model.layers.5.mlp.experts.1.a"]),
        # DeepSeek's layer that predicts comes after the last; Qwen3-Next's has a name of its own.
        (["model.layers.6.eh_proj", "mtp.layers.0.a"], ["model.layers.6.eh_proj", "mtp.layers.0.a"]),
        (["model.layers.1.a", "model.mtp.fc"], ["model.mtp.fc"]),
        # A vision tower with as many layers as the language model stays whole.
        (["model.language_model.layers.2.a", "model.visual.blocks.5.a"], ["model.language_model.layers.2.a"]),
        (["language_model.layers.2.a", "vision_tower.encoder.layers.2.a"], ["language_model.layers.2.a"]),
    ],
)  # fmt: skip
def test_which_tensors_are_later_layers(names: list[str], dropped: list[str]) -> None:
    numbered = {re.sub(r"\.\d+\..*", "", name) for name in names if re.search(r"\.\d+\.", name)}
    stacks = [stack for stack in numbered if not stack.startswith("mtp")]
    whole = [f"{stack}.{layer}.norm" for stack in stacks for layer in range(6)]
    kept = set(kept_tensors([*names, *whole], RUNG))
    assert [name for name in names if name not in kept] == dropped


def test_weights_that_do_not_name_their_layers_are_refused(tmp_path: Path) -> None:
    sentence = "the weights need modules numbered 0 to 5; most are in 'model.layers'"
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        list(kept_tensors([f"model.layers.{layer}.a" for layer in range(5)], RUNG))
    with pytest.raises(ValueError, match="^the weights need modules numbered 0 to 5; most are in 'none'$"):
        list(kept_tensors(["lm_head.weight"], RUNG))
    source = checkpoint(tmp_path / "whole", {})
    (source / "pytorch_model.bin").write_bytes(b"pickles")
    with pytest.raises(ValueError, match="^needs weights as safetensors; found none in "):
        cut(source)


def test_a_file_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "whole", {"model.safetensors": layers()})
    raw = (source / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    (source / "model.safetensors").write_bytes(raw[: 8 + length + 40])
    with pytest.raises(ValueError, match=r"model\.safetensors ends inside a tensor: \d+ bytes are missing$"):
        cut(source)
