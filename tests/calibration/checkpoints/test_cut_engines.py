"""The first layers of a checkpoint compute what the whole model computes when its other layers are taken out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.engines.real_model.gptq_checkpoint import quantised
from calibration.checkpoints.cut import cut_checkpoint, kept_tensors
from calibration.checkpoints.cut_config import cut_config
from calibration.checkpoints.dequantise import dequantise
from calibration.checkpoints.random_weights import _model_class, write_random_checkpoint
from calibration.registry import find
from calibration.rung import Rung
from selector.model.files.sources import read_config
from selector.model.rungs import rungs_of
from selector.model.spec import ModelSpec, shape_names
from tests.engines import tiny_models
from tests.engines.tiny_configs import CONFIGS, VOCAB
from tests.selector.model import model_folders

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

PERIOD = ["sliding_attention", "sliding_attention", "full_attention"]

MODELS: dict[str, tuple[dict[str, Any], int]] = {
    "llama": ({**CONFIGS["llama"], "num_hidden_layers": 6}, 2),
    "llama-tied": ({**CONFIGS["llama-tied"], "num_hidden_layers": 6}, 3),
    "gemma3": ({**CONFIGS["gemma3"], "num_hidden_layers": 9, "layer_types": PERIOD * 3}, 3),
    "gemma3-period": ({**CONFIGS["gemma3-period"], "num_hidden_layers": 18}, 6),
    "qwen2-window": ({**CONFIGS["qwen2-window"], "num_hidden_layers": 8, "max_window_layers": 1}, 3),
    "qwen2-moe": ({**CONFIGS["qwen2-moe"], "num_hidden_layers": 8, "mlp_only_layers": [0, 5]}, 2),
    "deepseek-v3": ({**CONFIGS["deepseek-v3"], "num_hidden_layers": 8}, 2),
    "glm4-moe": ({**CONFIGS["glm4-moe"], "num_hidden_layers": 6}, 3),
    "qwen3-moe": ({**CONFIGS["qwen3-moe"], "num_hidden_layers": 6}, 2),
    "gpt2": ({**CONFIGS["gpt2"], "n_layer": 8}, 2),
    "mamba": ({**CONFIGS["mamba"], "num_hidden_layers": 8}, 2),
}
"""Config, and the layers that are kept."""


def whole(folder: Path, name: str) -> Path:
    """A checkpoint with random weights."""
    (folder / "config").mkdir()
    (folder / "config" / "config.json").write_text(json.dumps(MODELS[name][0]))
    write_random_checkpoint(folder / "config", folder / "whole")
    return folder / "whole"


def cut(source: Path, rung: Rung) -> Path:
    destination = source.parent / f"cut-{rung.layers}"
    destination.mkdir()
    return cut_checkpoint(source, destination, rung)


def scores(model: Any, length: int = 24) -> Any:
    """Scores of a prompt, longer than the windows of these models."""
    import torch

    prompt = torch.arange(length).unsqueeze(0) * 7 % VOCAB
    with torch.no_grad():
        return model.eval()(prompt, use_cache=False).logits


def loaded(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The model, and what did not fit its checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM

    answer: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    model, told = answer
    return model, {name: sorted(keys) for name, keys in told.items() if keys}


def without_later_layers(model: Any, layers: int) -> Any:
    """The whole model in torch, its other layers taken out."""
    inner = model.get_decoder() if hasattr(model, "get_decoder") else model
    inner = getattr(inner, "model", inner)
    inner = getattr(model, "transformer", getattr(model, "backbone", inner))
    name = "h" if hasattr(inner, "h") else "layers"
    setattr(inner, name, getattr(inner, name)[:layers])
    model.config.num_hidden_layers = layers
    return model


@pytest.mark.parametrize("name", MODELS)
def test_a_cut_checkpoint_computes_what_its_layers_compute(tmp_path: Path, name: str) -> None:
    import torch

    layers = MODELS[name][1]
    source = whole(tmp_path, name)
    spec = ModelSpec.read(source)
    model, misfits = loaded(cut(source, Rung(layers=layers, of=spec.layers)))
    assert misfits == {}
    assert ModelSpec.read(tmp_path / f"cut-{layers}").layers == layers == model.config.num_hidden_layers
    all_of_it, _ = loaded(source)
    assert not torch.equal(scores(model), scores(all_of_it))
    assert torch.equal(scores(model), scores(without_later_layers(all_of_it, layers)))


def test_shards_are_read_and_one_file_is_written(tmp_path: Path) -> None:
    import torch

    source = whole(tmp_path, "llama")
    model, _ = loaded(source)
    (tmp_path / "shards").mkdir()
    model.save_pretrained(tmp_path / "shards", max_shard_size="200KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    sharded, misfits = loaded(cut(tmp_path / "shards", Rung(layers=2, of=6)))
    assert misfits == {}
    assert torch.equal(scores(sharded), scores(without_later_layers(model, 2)))


def test_a_quantised_checkpoint_is_cut_and_dequantised_in_any_order(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    source, rung = whole(tmp_path, "llama"), Rung(layers=2, of=6)
    packed: dict[str, Any] = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        if name.endswith("_proj.weight"):
            parts = quantised(tensor, 16)
            packed |= {f"{name.removesuffix('weight')}{part}": stored for part, stored in parts.items()}
        else:
            packed[name] = tensor
    save_file(packed, source / "model.safetensors", metadata={"format": "pt"})
    quant = {"quant_method": "gptq", "bits": 4, "group_size": 16, "modules_in_block_to_quantize": ["model.layers.5"]}
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "quantization_config": quant}))
    folders = {name: tmp_path / name for name in ("first-cut", "cut-then-plain", "plain", "plain-then-cut")}
    for folder in folders.values():
        folder.mkdir()

    cut_checkpoint(source, folders["first-cut"], rung)
    assert json.loads((folders["first-cut"] / "config.json").read_text())["quantization_config"] == {
        **quant,
        "modules_in_block_to_quantize": [],
    }
    dequantise(folders["first-cut"], folders["cut-then-plain"])
    dequantise(source, folders["plain"])
    cut_checkpoint(folders["plain"], folders["plain-then-cut"], rung)
    one, other = (scores(loaded(folders[name])[0]) for name in ("cut-then-plain", "plain-then-cut"))
    assert torch.equal(one, other)
    assert torch.equal(one, scores(without_later_layers(loaded(folders["plain"])[0], 2)))


SHAPES = [f"shape:{name}" for name in shape_names()]
GOLDEN = [
    *("none-dbrx", "none-deepseek_v2", "none-falcon", "none-gemma2", "none-gemma3", "none-gpt_bigcode", "none-jamba"),
    *("none-llava", "none-mamba", "none-mistral", "none-mpt", "none-opt", "none-phi3", "none-qwen2_moe"),
    *("none-qwen3_next", "mxfp4-gpt_oss", "fp8-e4m3-128x128-qwen3"),
]
"""Configs of published models for which transformers has a class."""


def tensors_of(content: dict[str, Any], folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and sizes of the tensors that transformers' class makes of a config, without its quantization."""
    import torch
    from transformers import AutoConfig

    content = {name: value for name, value in content.items() if name != "quantization_config"}
    (folder / "config.json").write_text(json.dumps(content))
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = _model_class(config, content["architectures"])._from_config(config)
    return {name: tuple(t.shape) for name, t in (*model.named_parameters(), *model.named_buffers())}


@pytest.mark.parametrize("name", [*SHAPES, *GOLDEN])
def test_a_cut_config_makes_the_modules_of_the_first_layers_and_no_others(tmp_path: Path, name: str) -> None:
    spec = ModelSpec.read(name if name.startswith("shape:") else model_folders.GOLDEN / name)
    content, _, _ = read_config(spec.folder)
    everything = tensors_of(dict(content), tmp_path)
    for rung in rungs_of(spec):
        kept = set(kept_tensors(everything, rung)) if not rung.whole else everything
        assert tensors_of(cut_config(content, rung), tmp_path) == {n: everything[n] for n in everything if n in kept}


def content_of(file: Path) -> tuple[dict[str, Any], dict[str, tuple[str, bytes]]]:
    """Fields, but for those of the whole file, and tensors of a .gguf file: type and bytes."""
    import gguf

    reader = gguf.GGUFReader(file)
    fields = {n: f.contents() for n, f in reader.fields.items() if not n.startswith(("GGUF.", "general."))}
    return fields, {t.name: (t.tensor_type.name, t.data.tobytes()) for t in reader.tensors}


@pytest.mark.parametrize("name", ["llama", "gemma3", "qwen3-moe"])
def test_a_cut_gguf_file_is_what_the_cut_folder_converts_to(tmp_path: Path, name: str) -> None:
    llamacpp = find("llamacpp")
    source = whole(tmp_path, name)
    rung = Rung(layers=MODELS[name][1], of=ModelSpec.read(source).layers)
    folder = cut(source, rung)
    asked = tiny_models.asked_prompts()
    engine = tiny_models.load(llamacpp, "f32", folder)
    expected = engine.generate(asked, tiny_models.NEW_TOKENS).tokens
    engine.close()
    tiny_models.load(llamacpp, "f32", source).close()
    made = tmp_path / "whole-llamacpp-f32" / "model.gguf"
    assert ModelSpec.read(made).layers == rung.of

    (tmp_path / "cut-gguf").mkdir()
    file = cut_checkpoint(made, tmp_path / "cut-gguf", rung)
    assert file == tmp_path / "cut-gguf" / "model.gguf"
    assert content_of(file) == content_of(tmp_path / f"{folder.name}-llamacpp-f32" / "model.gguf")
    spec = ModelSpec.read(file)
    assert (spec.layers, spec.vocab_size) == (rung.layers, VOCAB)
    engine = llamacpp.load(replace(tiny_models.job(folder, llamacpp, "gguf"), model_dir=file))
    assert engine.generate(asked, tiny_models.NEW_TOKENS).tokens == expected
    engine.close()
    with pytest.raises(ValueError, match=rf"^needs 99 as \S+\.block_count in \S+; found {rung.of}$"):
        cut_checkpoint(made, tmp_path / "cut-gguf", Rung(layers=2, of=99))


def test_a_gguf_file_in_parts_becomes_one_file(tmp_path: Path) -> None:
    import gguf

    source = whole(tmp_path, "llama")
    tiny_models.load(find("llamacpp"), "f32", source).close()
    made = tmp_path / "whole-llamacpp-f32" / "model.gguf"
    reader = gguf.GGUFReader(made)
    parts = [gguf.GGUFWriter(tmp_path / f"m-0000{part}-of-00002.gguf", "llama") for part in (1, 2)]
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            parts[0].add_key_value(field.name, field.contents(), field.types[0], inner)
    for number, part in enumerate(parts):
        part.add_uint16("split.no", number)
    for number, tensor in enumerate(reader.tensors):
        parts[number % 2].add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    for part in parts:
        part.write_header_to_file()
        part.write_kv_data_to_file()
        part.write_tensors_to_file()
        part.close()
    rung = Rung(layers=2, of=6)
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    file = cut_checkpoint(tmp_path / "m-00001-of-00002.gguf", tmp_path / "one", rung)
    assert file == tmp_path / "one" / "m.gguf"
    assert content_of(file) == content_of(cut_checkpoint(made, tmp_path / "other", rung))
