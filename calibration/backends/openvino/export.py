"""A transformers model as a stateful OpenVINO graph, as openvino_genai.LLMPipeline wants it, without optimum-intel."""

import inspect
import itertools
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from calibration.backends.openvino.attention import traceable_attention
from calibration.backends.openvino.experts import apply_experts

_BATCH, _PAST, _NEW = 2, 4, 3
"""Sizes of the example that is traced; all different, and none is 1, so that the tracer keeps them apart."""


def export(model_dir: Path, *, trust_remote_code: bool, say: Callable[[str], None]) -> Any:
    """Trace the model's step and make its key-value cache the graph's own state.

    Args:
        model_dir: Hugging Face folder.

    Returns:
        openvino.Model with inputs input_ids, attention_mask and position_ids [batch, tokens] and beam_idx [batch], and
        the output logits [batch, tokens, vocab].
    """
    import openvino
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    torch.set_grad_enabled(False)
    ALL_EXPERTS_FUNCTIONS.register("openvino", apply_experts)
    model: Any = AutoModelForCausalLM
    model = model.from_pretrained(
        model_dir,
        dtype="auto",
        experts_implementation="openvino",
        trust_remote_code=trust_remote_code,
    ).eval()
    _compute_in_float32(model)
    _look_rotations_up(model)
    with traceable_attention(model):
        sizes = _cache_sizes(model)
        say(f"openvino: tracing {type(model).__name__}, {len(sizes)} layers with a cache")
        with warnings.catch_warnings():
            # Tracing is deprecated, and warns of every branch that depends on a tensor's size.
            warnings.simplefilter("ignore")
            graph = openvino.convert_model(_step(model, len(sizes)), example_input=_example(sizes))
    del model
    _name(graph, sizes)
    _make_stateful(graph, sizes)
    return graph


def save(graph: Any, model_dir: Path, destination: Path, *, halve: bool) -> None:
    """Write the graph beside the model's config.json.

    Args:
        halve: write weights that are still floats in fp16.
    """
    import openvino

    openvino.save_model(graph, destination / "openvino_model.xml", compress_to_fp16=halve)
    for name in ("config.json", "generation_config.json"):
        if (model_dir / name).is_file():
            (destination / name).write_text((model_dir / name).read_text(encoding="utf-8"), encoding="utf-8")


def _example(sizes: Sequence[dict[str, tuple[int, int]]]) -> tuple[Any, ...]:
    """What is traced: ids, mask, positions, and the keys and values of every layer."""
    import torch

    whole = _PAST + _NEW
    past = [
        torch.zeros(_BATCH, heads, _PAST, width) for layer in sizes for heads, width in (layer["key"], layer["value"])
    ]
    return (
        torch.ones(_BATCH, _NEW, dtype=torch.long),
        torch.ones(_BATCH, whole, dtype=torch.long),
        torch.arange(_PAST, whole)[None].repeat(_BATCH, 1),
        *past,
    )


def _compute_in_float32(model: Any) -> None:
    """Let a model of 16 bits be traced in float32, while the weights of its products stay where they are: in its files.

    The graph holds them as they are, so that a conversion takes little more memory than what it writes: of 8 B
    parameters float32 weights would take 30 GiB. A mixture of experts is widened whole, since its products must stand
    as `apply_experts` writes them.
    """
    import torch
    from openvino.frontend.pytorch import patch_model

    if all(parameter.dtype == torch.float32 for parameter in model.parameters()):
        return
    if any(parameter.dim() > 2 for parameter in model.parameters()):
        model.float()
        return
    # It leaves out the products themselves, which a trace does not need: what the model computes now means nothing.
    getattr(patch_model, "__make_16bit_traceable")(model)


def _look_rotations_up(model: Any) -> None:
    """Let a model that rotates neighbouring dimensions look up cosines and sines by position.

    OpenVINO knows the rotation of two halves, and keeps its angles in float32 where the rest is computed in 16 bits. It
    does not know that of neighbours: there position times frequency has 16 bits, and the angle of position 300 is off
    by up to a radian (2026.4.1 on a CPU with avx512_bf16: Helium, Cohere 2 and DeepSeek V3 with random weights diverge
    after 1,040 tokens by 50 to 400 times what bfloat16 makes of them). What is looked up has 16 bits at all positions.
    """
    import torch

    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if "1::2" not in inspect.getsource(sys.modules[type(model).__module__]) or not positions:
        return
    for rotary in (module for module in model.modules() if hasattr(module, "rope_type")):
        # A rotation that changes with the length of the text has no table; one of complex numbers is no pair.
        if "longrope" in str(rotary.rope_type):
            continue
        tables = {kind: rotary(torch.zeros(1, 1), torch.arange(positions)[None], *kind) for kind in _kinds(rotary)}
        if all(isinstance(pair, tuple) and len(pair) == 2 for pair in tables.values()):
            rotary.forward = partial(_looked_up, tables)


def _kinds(rotary: Any) -> list[tuple[str, ...]]:
    """The further arguments that it is called with: each kind of layer, where these rotate otherwise; else none."""
    return [(kind,) for kind in rotary.rope_type] if isinstance(rotary.rope_type, dict) else [()]


def _looked_up(tables: Any, _: Any, position_ids: Any, layer_type: str | None = None) -> tuple[Any, Any]:
    """Cosines and sines [batch, tokens, width] of these positions."""
    cosines, sines = tables[() if layer_type is None else (layer_type,)]
    return cosines[0][position_ids], sines[0][position_ids]


def _cache_sizes(model: Any) -> list[dict[str, tuple[int, int]]]:
    """For each layer: heads and width of its keys and of its values.

    Raises:
        ValueError: a layer keeps something else than keys and values.
    """
    import torch

    cache = model(torch.ones(1, 2, dtype=torch.long), use_cache=True).past_key_values
    layers = getattr(cache, "layers", [])
    # Layers that read what an earlier one keeps come last, and have nothing of their own (Gemma 3n).
    own = [layer for layer in layers if getattr(layer, "keys", None) is not None]
    if not own or layers[: len(own)] != own or any(hasattr(layer, "conv_states") for layer in layers):
        raise ValueError(f"{type(model).__name__} keeps another state than keys and values")
    return [
        {part: (int(t.shape[1]), int(t.shape[3])) for part, t in (("key", layer.keys), ("value", layer.values))}
        for layer in own
    ]


def _step(model: Any, layers: int) -> Any:
    """The model as a function of tensors alone: ids, mask, positions and the cache in; logits and the cache out."""
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    takes_positions = "position_ids" in inspect.signature(model.forward).parameters

    class Deadline(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any, *past: Any) -> tuple[Any, ...]:
            cache: Any = DynamicCache()
            make: Any = DynamicLayer
            # Windows are in the masks: the pipeline keeps all keys.
            cache.layers = [make() for _ in range(layers)]
            for layer, keys, values in zip(cache.layers, past[::2], past[1::2], strict=True):
                layer.lazy_initialization(keys, values)
                layer.keys, layer.values, layer.is_initialized = keys, values, True
            made = self.model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                past_key_values=cache,
                use_cache=True,
                **({"position_ids": position_ids} if takes_positions else {}),
            )
            kept = [tensor for layer in made.past_key_values.layers for tensor in (layer.keys, layer.values)]
            return (made.logits, *kept)

    return Deadline()


def _name(graph: Any, sizes: Sequence[dict[str, tuple[int, int]]]) -> None:
    """Give inputs and outputs the names that the pipeline looks for, and free their shapes."""
    import openvino

    parts = [(number, part) for number in range(len(sizes)) for part in ("key", "value")]
    names = ["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{n}.{part}" for n, part in parts)]
    shapes: list[list[int]] = [[-1, -1]] * 3
    for number, part in parts:
        heads, width = sizes[number][part]
        shapes.append([-1, heads, -1, width])
    for port, name, shape in zip(graph.inputs, names, shapes, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
        port.get_node().set_partial_shape(openvino.PartialShape(shape))
    for port, name in zip(graph.outputs, ["logits", *(f"present.{n}.{part}" for n, part in parts)], strict=True):
        port.get_tensor().set_names({name})
    graph.validate_nodes_and_infer_types()


def _make_stateful(graph: Any, sizes: Sequence[dict[str, tuple[int, int]]]) -> None:
    """Turn the cache's inputs and outputs into state that begins empty and follows beam_idx."""
    import numpy as np
    import openvino
    from openvino import opset13 as ops
    from openvino._offline_transformations import apply_make_stateful_transformation

    beams = ops.parameter(openvino.PartialShape([-1]), openvino.Type.i32, name="beam_idx")
    beams.output(0).get_tensor().set_names({"beam_idx"})
    pasts = [port.get_node() for port in graph.inputs[3:]]
    graph.add_parameters([beams])
    first_axis = ops.constant(0, dtype=np.int64)
    for past in pasts:
        readers = list(past.output(0).get_target_inputs())
        chosen = ops.gather(past, beams, first_axis)
        for reader in readers:
            reader.replace_source_output(chosen.output(0))
    graph.validate_nodes_and_infer_types()
    pairs = itertools.product(range(len(sizes)), ("key", "value"))
    apply_make_stateful_transformation(graph, {f"past_key_values.{n}.{p}": f"present.{n}.{p}" for n, p in pairs})
    ids = next(port for port in graph.inputs if "input_ids" in port.get_names())
    batch = ops.gather(ops.shape_of(ids, output_type="i64"), ops.constant([0], dtype=np.int64), first_axis)
    for node in graph.get_ops():
        if node.get_type_name() == "ReadValue":
            shape = node.get_output_partial_shape(0)
            sizes_of = [ops.constant([n], dtype=np.int64) for n in (shape[1].get_length(), 0, shape[3].get_length())]
            empty = ops.concat([batch, *sizes_of], 0)
            node.set_arguments([ops.broadcast(ops.constant(0.0, dtype=np.float32), empty)])
    graph.validate_nodes_and_infer_types()


def compressed(graph: Any, precision: str) -> Any:
    """The graph with int8 or int4 weights, as NNCF compresses language models; embeddings and head stay in int8.

    int4 has groups of 128, or as many as divide a row (64 of SmolLM's 576); a row without groups of 32 stays in int8.
    """
    import nncf

    if precision == "int8":
        return nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_ASYM)
    fallback = nncf.AdvancedCompressionParameters(group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST)
    return nncf.compress_weights(
        graph, mode=nncf.CompressWeightsMode.INT4_ASYM, group_size=128, ratio=1.0, advanced_parameters=fallback
    )
