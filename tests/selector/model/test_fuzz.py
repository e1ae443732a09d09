"""Whatever a config.json says, reading it gives a sane ModelSpec or a ModelError, and never anything else."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from calibration.config_json import UnreadableField
from calibration.errors import ModelError
from calibration.registry import all_backends
from selector.host.spec import Device
from selector.model import config as configs
from selector.model.files.weights import parse_object
from selector.model.rungs import MOST_LAYERS, shallow_rungs
from selector.model.spec import ModelSpec
from tests.selector.conftest import A100, CPU
from tests.selector.model.model_folders import GOLDEN

T = TypeVar("T")

BASES = {path.name: json.loads((path / "config.json").read_text()) for path in sorted(GOLDEN.iterdir())}

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 0, 1, 2, 8, 64, 128, 2**31, 2**63, 10**40])
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["yarn", "float16", "full_attention", "awq", "gptq", "fp8", "modelopt", "NVFP4", "group", "int"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)


def paths(value: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every field of an object, and of the objects in it."""
    found = []
    for key, inner in value.items():
        found.append((*prefix, key))
        if isinstance(inner, dict):
            found += paths(inner, (*prefix, key))
    return found


def changed(base: dict[str, Any], path: tuple[str, ...], value: object) -> dict[str, Any]:
    if len(path) == 1:
        return base | {path[0]: value}
    return base | {path[0]: changed(base[path[0]], path[1:], value)}


FIELDS = [(name, path) for name, base in BASES.items() for path in paths(base)]
EXTRA = [
    *(
        "num_experts",
        "num_local_experts",
        "layer_types",
        "layers_block_type",
        "hybrid_override_pattern",
        "rope_parameters",
    ),
    *("text_config", "quantization_config", "vision_config", "auto_map", "sliding_window_pattern", "mlp_layer_types"),
    *("linear_attn_config", "attn_type_list", "compress_ratios", "kv_lora_rank", "q_lora_rank", "index_n_heads"),
    *(
        "expert_dtype",
        "o_groups",
        "global_head_dim",
        "swa_num_key_value_heads",
        "num_kv_shared_layers",
        "mamba_num_heads",
        "block_configs",
        "per_layer_config",
        "num_key_value_heads_per_layer",
        "decoder_layers",
        "decoder",
    ),
    *(
        "full_attn_idxs",
        "block_types",
        "attn_layer_period",
        "moe_layer_freq",
        "hidden_size_per_layer_input",
        "compression_config",
    ),
]


def read_or_refuse(content: dict[str, Any]) -> None:
    match outcome(lambda: configs.read(content, "config.json")):
        case ModelError() as error:
            assert error.message.isprintable()
            assert error.mend
        case configs.Config() as config:
            check(config)
            cut(content, config)


def outcome(read: Callable[[], T]) -> T | ModelError:
    try:
        return read()
    except ModelError as error:
        return error


def check(config: configs.Config) -> None:
    shape = config.shape
    assert 1 <= len(shape.layers.mixers) == len(shape.layers.mlps) <= 10_000
    assert 1 <= shape.hidden <= 1 << 24
    assert shape.kv_heads >= 0
    assert shape.kv_heads <= shape.heads or "heads" in shape.unknown
    assert shape.vocab >= 1
    assert 0 <= shape.experts_per_token <= shape.experts
    assert shape.head_dim >= 0
    theta = config.positions.rope_theta
    assert theta is None or (theta > 0 and math.isfinite(theta))
    assert config.parameters.total > 0
    assert config.weight_bytes > 0
    assert config.architecture.isprintable()
    assert config.quant.label.isprintable()
    assert sum(one.layers * one.width * one.entries(1000) for one in shape.key_values) >= 0


def cut(content: dict[str, Any], config: configs.Config) -> None:
    of = len(config.shape.layers.mixers)
    match outcome(lambda: shallow_rungs(content, "config.json", config) if of <= MOST_LAYERS else []):
        case ModelError() as error:
            assert error.mend
        case rungs:
            assert all(2 <= rung.layers <= of / 3 for rung in rungs)


@settings(max_examples=500, deadline=None)
@given(field=st.sampled_from(FIELDS), value=JSON)
def test_any_value_in_any_field(field: tuple[str, tuple[str, ...]], value: object) -> None:
    name, path = field
    read_or_refuse(changed(BASES[name], path, value))


@settings(max_examples=400, deadline=None)
@given(
    name=st.sampled_from(sorted(BASES)), values=st.dictionaries(st.sampled_from(EXTRA), JSON, min_size=1, max_size=3)
)
@example(name="none-mistral", values={"compress_ratios": [4, "x", [], True]})
@example(name="none-mistral", values={"layer_types": []})
@example(name="none-mistral", values={"block_configs": [{"attention": {"n_heads_in_group": 3}, "ffn": {}}] * 32})
@example(name="none-mistral", values={"block_configs": [{"ffn": {"ffn_mult": 1e17}}] * 32, "num_attention_heads": None})
@example(name="none-mistral", values={"block_types": []})
@example(name="none-mistral", values={"per_layer_config": {"0": {"num_key_value_heads": -1}}})
@example(name="none-mistral", values={"per_layer_config": {"\u0663": {"skip": [1]}}})
@example(name="none-mistral", values={"per_layer_config": {"0": {"head_dim": 2**70}}, "text_config": {"skip": "x"}})
@example(name="none-mistral", values={"quantization_config": {"config_groups": {"g": {"weights": [1]}}}})
def test_any_value_in_a_field_of_other_models(name: str, values: dict[str, Any]) -> None:
    read_or_refuse(BASES[name] | values)


@settings(max_examples=500, deadline=None)
@given(
    content=st.dictionaries(
        st.sampled_from(EXTRA + sorted(BASES["none-mistral"])) | st.text(max_size=10), JSON, max_size=8
    )
)
def test_any_object(content: dict[str, Any]) -> None:
    read_or_refuse(content)


@settings(max_examples=500, deadline=None)
@given(raw=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes(raw: bytes) -> None:
    match outcome(lambda: parse_object(raw, "config.json", "fetch it again")):
        case ModelError() as error:
            assert error.message.isprintable()
        case content:
            read_or_refuse(content)


def test_deep_nesting_that_still_is_json() -> None:
    for depth in (50, 400, 900):
        deep = json.loads('{"a": ' * depth + "1" + "}" * depth)
        for field in (
            "hidden_size",
            "architectures",
            "text_config",
            "quantization_config",
            "rope_scaling",
            "layer_types",
        ):
            read_or_refuse(BASES["none-mistral"] | {field: deep})
            read_or_refuse(BASES["none-mistral"] | {field: [deep]})
            read_or_refuse(
                BASES["none-mistral"] | {field: {"quantized_layers": {"x": deep}, "quant_algo": "MIXED_PRECISION"}}
            )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=JSON, index=JSON, beside=JSON)
def test_any_files_of_a_folder(tmp_path: Path, config: object, index: object, beside: object) -> None:
    content = BASES["none-mistral"] | config if isinstance(config, dict) else config
    (tmp_path / "config.json").write_text(json.dumps(content))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": beside}))
    match outcome(lambda: ModelSpec.read(str(tmp_path))):
        case ModelError() as error:
            assert error.mend
        case spec:
            assert spec.layers > 0


@settings(max_examples=300, deadline=None)
@given(name=st.text(max_size=60))
@example(name="\ud800")
@example(name="0\u00b9")
@example(name="~\0")
def test_any_name_of_a_model(name: str) -> None:
    if Path(name.replace("\0", "").encode("utf-8", "replace").decode()).exists():
        return
    with pytest.raises(ModelError):
        ModelSpec.read(name if "/" not in name else f"./nowhere/{name}")


# What the fits of the backends read of a config.json themselves; the architecture decides which of them do.
RAW = [
    *(
        "alibi",
        "attn_logit_softcapping",
        "decoder_sparse_step",
        "final_logit_softcapping",
        "hidden_act",
        "kv_lora_rank",
    ),
    *("layer_types", "linear_key_head_dim", "llm_config", "mlp_only_layers", "n_ctx", "norm_topk_prob", "ps_version"),
    *("qk_rope_head_dim", "quantization_config", "query_pre_attn_scalar", "rope_parameters", "rope_scaling"),
    *("sliding_window", "sliding_window_pattern", "text_config", "use_logn_attn", "vision_config"),
]
INNER = {
    "rope_scaling": ("factor", "original_max_position_embeddings", "rope_type", "type"),
    "rope_parameters": ("factor", "original_max_position_embeddings", "rope_type", "type"),
    "vision_config": ("embed_dim", "hidden_size", "num_heads"),
    "quantization_config": ("checkpoint_format", "config_groups", "fmt", "format", "quant_method"),
    "llm_config": ("architectures", "hidden_act"),
    "text_config": ("architectures", "hidden_act"),
}
OWN = st.sampled_from(RAW).flatmap(
    lambda name: st.tuples(
        st.just(name), JSON | st.dictionaries(st.sampled_from(INNER.get(name, (name,))), JSON, max_size=3)
    )
)
ARCHITECTURES = sorted(
    {name for backend in all_backends().values() for name in backend.facts.architectures or ()} | {"MambaForCausalLM"}
)
DEVICES = [
    None,
    CPU,
    *(replace(A100, capability=capability) for capability in ((7, 5), (9, 0), (10, 0), (12, 0))),
]


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(BASES)),
    architecture=st.sampled_from(ARCHITECTURES) | st.none(),
    values=st.lists(OWN, max_size=4).map(dict),
    device=st.sampled_from(DEVICES),
)
@example(
    name="none-mistral", architecture="InternVLChatModel", values={"llm_config": {"architectures": [[]]}}, device=A100
)
@example(name="none-mistral", architecture="Gemma2ForCausalLM", values={"query_pre_attn_scalar": []}, device=CPU)
def test_every_backend_judges_any_config(
    tmp_path: Path, name: str, architecture: str | None, values: dict[str, Any], device: Device | None
) -> None:
    """A backend's fits gives reasons, or says which field it cannot read; it never stumbles."""
    content = BASES[name] | values
    if architecture:
        content["architectures"] = [architecture]
    (tmp_path / "config.json").write_text(json.dumps(content))
    spec = outcome(lambda: ModelSpec.read(str(tmp_path)))
    if isinstance(spec, ModelError):
        return
    for backend in all_backends().values():
        for variant in backend.variants:
            try:
                reasons = backend.fits(spec, variant, device)
            except UnreadableField as error:
                reasons = [str(error)]
            assert all(reason.isprintable() and len(reason) < 400 for reason in reasons)
