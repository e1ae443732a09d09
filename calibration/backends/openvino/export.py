"""A transformers model as a stateful OpenVINO graph, as openvino_genai.LLMPipeline wants it, without optimum-intel."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from calibration.backends.openvino.attention import traceable_attention
from calibration.backends.openvino.experts import apply_experts
from calibration.backends.openvino.positions import give_positions, look_rotations_up
from calibration.backends.openvino.states import GROWS, State, filled, read, states_of

_BATCH, _PAST, _NEW = 2, 4, 3
"""Sizes of the example that is traced; all different, and none is 1, so that the tracer keeps them apart."""


def export(model_dir: Path, *, trust_remote_code: bool, say: Callable[[str], None]) -> Any:
    """Trace the model's step and make its key-value cache the graph's own state.

    Args:
        model_dir: Hugging Face folder.

    Returns:
        openvino.Model with inputs input_ids, attention_mask and position_ids [batch, tokens] and beam_idx [batch], and
        the output logits [batch, tokens, vocab].

    Raises:
        ValueError: the checkpoint lacks weights of what is built, or the model keeps a state that no graph can.
    """
    import openvino
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    torch.set_grad_enabled(False)
    ALL_EXPERTS_FUNCTIONS.register("openvino", apply_experts)
    from_pretrained: Any = AutoModelForCausalLM.from_pretrained  # its type knows no output_loading_info
    model, told = from_pretrained(
        model_dir,
        dtype="auto",
        experts_implementation="openvino",
        trust_remote_code=trust_remote_code,
        output_loading_info=True,
    )
    if missing := sorted(told["missing_keys"]):
        name = type(model).__name__
        raise ValueError(f"needs all weights of {name} in the checkpoint; {len(missing)} are missing: {missing[0]}")
    model.eval()
    _compute_in_float32(model)
    look_rotations_up(model)
    with traceable_attention(model):
        states = states_of(model)
        say(f"openvino: tracing {type(model).__name__}, {states[-1].layer + 1} layers with a cache")
        with warnings.catch_warnings():
            # Tracing is deprecated, and warns of every branch that depends on a tensor's size.
            warnings.simplefilter("ignore")
            graph = openvino.convert_model(_step(model, states), example_input=_example(states))
    del model
    _name(graph, states)
    _make_stateful(graph, states)
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


def _example(states: Sequence[State]) -> tuple[Any, ...]:
    """What is traced: ids, mask, positions, and what every layer keeps."""
    import torch

    whole = _PAST + _NEW
    past = [torch.zeros(_BATCH, *(size if size != GROWS else _PAST for size in state.sizes)) for state in states]
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


def _step(model: Any, states: Sequence[State]) -> Any:
    """The model as a function of tensors alone: ids, mask, positions and its state in; logits and its state out."""
    import torch

    positions_for = give_positions(model)

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any, *past: Any) -> tuple[Any, ...]:
            made = self.model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                past_key_values=filled(states, past),
                use_cache=True,
                **positions_for(input_ids, position_ids),
            )
            return (made.logits, *read(states, made))

    return Step()


def _name(graph: Any, states: Sequence[State]) -> None:
    """Give inputs and outputs the names that the pipeline looks for, and free their shapes."""
    import openvino

    names = ["input_ids", "attention_mask", "position_ids", *(state.past for state in states)]
    shapes: list[list[int]] = [[-1, -1]] * 3
    shapes += [[-1, *(size if size != GROWS else -1 for size in state.sizes)] for state in states]
    for port, name, shape in zip(graph.inputs, names, shapes, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
        port.get_node().set_partial_shape(openvino.PartialShape(shape))
    for port, name in zip(graph.outputs, ["logits", *(state.present for state in states)], strict=True):
        port.get_tensor().set_names({name})
    graph.validate_nodes_and_infer_types()


def _make_stateful(graph: Any, states: Sequence[State]) -> None:
    """Turn what is kept into state of the graph, which begins empty and follows beam_idx."""
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
    apply_make_stateful_transformation(graph, {state.past: state.present for state in states})
    ids = next(port for port in graph.inputs if "input_ids" in port.get_names())
    batch = ops.gather(ops.shape_of(ids, output_type="i64"), ops.constant([0], dtype=np.int64), first_axis)
    for node in graph.get_ops():
        if node.get_type_name() == "ReadValue":
            kept = list(node.get_output_partial_shape(0))[1:]
            sizes = [GROWS if size.is_dynamic else size.get_length() for size in kept]
            empty = ops.concat([batch, *(ops.constant([size], dtype=np.int64) for size in sizes)], 0)
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
