"""A config without one width or one number of heads is read; what it does not tell is unknown, said, and no error."""

import json
from pathlib import Path
from typing import Any

import pytest

from calibration.errors import ModelError
from selector.demand.demand import Demand
from selector.explanation import Explanation
from selector.model.spec import ModelSpec
from selector.rules.judge import Verdict, judge
from selector.screens.select import explained
from tests.selector.conftest import FakeBackend, host
from tests.selector.model.model_folders import GOLDEN, folder

BLOCKS = [
    {"attention": {"n_heads_in_group": 2, "no_op": False}, "ffn": {"ffn_mult": 1.0}},
    {"attention": {"replace_with_linear": True}, "ffn": {"replace_with_linear": True}},
    {"attention": {"n_heads_in_group": None, "no_op": True}, "ffn": {"ffn_mult": 24.5}},
    {"attention": {"n_heads_in_group": 1}, "ffn": {"no_op": True}},
]
SEARCHED: dict[str, Any] = {
    # what Nemotron-NAS and DeciLM publish, four layers of it
    "architectures": ["DeciLMForCausalLM"],
    "auto_map": {"AutoConfig": "configuration_decilm.DeciLMConfig", "AutoModelForCausalLM": "m.DeciLMForCausalLM"},
    "model_type": "nemotron-nas",
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": None,
    "intermediate_size": None,
    "vocab_size": 64,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "block_configs": BLOCKS,
}


def foreign(**changes: Any) -> dict[str, Any]:
    """Llama's shape under a model type that transformers does not know."""
    config: dict[str, Any] = json.loads((GOLDEN / "none-mistral" / "config.json").read_text())
    return config | {"model_type": "foreign", "architectures": ["ForeignForCausalLM"]} | changes


def test_layers_that_all_differ(tmp_path: Path) -> None:
    spec = ModelSpec.read(folder(tmp_path, SEARCHED))
    assert spec.unknown == frozenset()
    assert (spec.layers, spec.heads, spec.kv_heads, spec.head_dim, spec.intermediate_size) == (4, 4, 4, 4, 512)
    assert spec.kv_bytes(10, 1) == 10 * (2 + 4) * (4 + 4) * 2  # two KV heads, four, and two layers without
    attention = (2 * 16 * 16 + 2 * 16 * 8) + 16 * 16 + 0 + 4 * 16 * 16
    mlps = 3 * 16 * 256 + 16 * 16 + 3 * 16 * 512 + 0
    assert spec.parameters == attention + mlps + 2 * 64 * 16 + 9 * 16


def test_kv_heads_of_each_layer(tmp_path: Path) -> None:
    heads = [4] * 8 + [1] * 24
    spec = ModelSpec.read(
        folder(tmp_path, foreign(num_key_value_heads=None, num_key_value_heads_per_layer=heads, sliding_window=None))
    )
    assert (spec.kv_heads, spec.unknown) == (4, frozenset())
    assert spec.kv_bytes(1000, 1) == sum(heads) * 2 * 128 * 1000 * 2


def test_mlp_widths_of_each_layer(tmp_path: Path) -> None:
    alike = ModelSpec.read(folder(tmp_path, foreign()))
    widths = [14336] * 16 + [7168] * 16
    spec = ModelSpec.read(folder(tmp_path, foreign(intermediate_size=widths)))
    assert spec.intermediate_size == 14336
    assert alike.parameters - spec.parameters == 16 * 3 * 4096 * 7168


def test_layers_with_numbers_of_their_own(tmp_path: Path) -> None:
    """As transformers 5 writes models whose layers differ; what every layer says, the config need not say again."""
    own: dict[str, dict[str, Any]] = {
        f"{layer:02}": {"intermediate_size": 7168, "num_key_value_heads": 8} for layer in range(32)
    }
    own["03"] = {"intermediate_size": 14336, "num_key_value_heads": 2}
    own["31"] = {"skip": ["attention", "mlp"]} | own["31"]
    config = foreign(per_layer_config=own, sliding_window=None)
    del config["intermediate_size"], config["num_key_value_heads"]
    spec = ModelSpec.read(folder(tmp_path, config))
    assert (spec.intermediate_size, spec.kv_heads, spec.unknown) == (14336, 8, frozenset())
    assert spec.kv_bytes(100, 1) == (30 * 8 + 2) * 2 * 128 * 100 * 2
    alike = ModelSpec.read(folder(tmp_path, foreign()))
    narrower = 30 * 3 * 4096 * 7168
    without_attention = 4096 * 128 * 2 * (32 + 8)
    assert alike.parameters - spec.parameters == narrower + 3 * 4096 * 14336 + without_attention + 4096 * 128 * 2 * 6


def test_heads_as_many_as_each_layer_says(tmp_path: Path) -> None:
    """As in dots3_note: its windowed layers have more heads than the others."""
    own = {"0": {"num_attention_heads": 64, "num_key_value_heads": 64}}
    spec = ModelSpec.read(folder(tmp_path, foreign(per_layer_config=own, sliding_window=None)))
    assert (spec.heads, spec.kv_heads) == (32, 64)
    assert spec.kv_bytes(100, 1) == (31 * 8 + 64) * 128 * 2 * 100 * 2


def test_heads_as_wide_as_each_layer_says(tmp_path: Path) -> None:
    own = {"0": {"head_dim": 256}, "9": {"head_dim": 256}}
    spec = ModelSpec.read(folder(tmp_path, foreign(per_layer_config=own, sliding_window=None)))
    assert spec.head_dim == 128
    assert spec.kv_bytes(100, 1) == (30 * 128 + 2 * 256) * 8 * 2 * 100 * 2


@pytest.mark.parametrize(
    ("changes", "unknown"),
    [
        ({"intermediate_size": None}, {"intermediate_size", "parameters", "weight_bytes"}),
        (
            {"num_attention_heads": None, "num_key_value_heads": None},
            {"heads", "kv_heads", "head_dim", "parameters", "weight_bytes"},
        ),
        ({"num_attention_heads": None, "head_dim": 128}, {"heads", "parameters", "weight_bytes"}),
        ({"num_local_experts": 8}, {"experts_per_token"}),
        (
            {"num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": None},
            {"expert_intermediate_size", "parameters", "weight_bytes"},
        ),
        (
            {"block_configs": [{"attention": {}, "ffn": {"ffn_mult": 2.0}}] * 32, "intermediate_size": None}
            | {"num_key_value_heads": None},
            {"kv_heads", "parameters", "weight_bytes"},
        ),
        (
            {"block_configs": [{"attention": {"n_heads_in_group": 4}, "ffn": {}}] * 32, "intermediate_size": None},
            {"intermediate_size", "parameters", "weight_bytes"},
        ),
    ],
)
def test_what_the_config_does_not_tell(tmp_path: Path, changes: dict[str, Any], unknown: set[str]) -> None:
    spec = ModelSpec.read(folder(tmp_path, foreign(**changes)))
    assert spec.unknown == unknown
    assert [getattr(spec, name) for name in unknown - {"parameters", "weight_bytes"}] == [0] * len(
        unknown - {"parameters", "weight_bytes"}
    )
    assert spec.parameters > 0


def test_weight_files_tell_their_size(tmp_path: Path) -> None:
    spec = ModelSpec.read(folder(tmp_path, foreign(intermediate_size=None), model__safetensors=b"w" * 1000))
    assert (spec.weight_bytes, spec.unknown) == (1000, frozenset({"intermediate_size", "parameters"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 0}, "num_attention_heads needs a whole number from 1 to 16777216; found 0"),
        ({"intermediate_size": "wide"}, "intermediate_size needs a whole number from 0 to 16777216; found 'wide'"),
        ({"num_key_value_heads": [64] * 32}, "num_key_value_heads needs at most the 32 attention heads; found 64"),
        ({"block_configs": BLOCKS}, "block_configs needs an entry for each of the 32 layers; found [{"),
        ({"block_configs": ["full"] * 32}, "block_configs needs a list of objects; found 'full'"),
        (
            {"block_configs": [{"ffn": {"ffn_mult": -1}}] * 32},
            "block_configs: ffn: ffn_mult needs a number above 0; found -1",
        ),
        ({"per_layer_config": {"32": {}}}, "per_layer_config needs the number of one of the 32 layers; found '32'"),
        ({"per_layer_config": {"1": 8}}, "per_layer_config needs an object for each layer; found 8"),
        (
            {"per_layer_config": {"1": {"num_key_value_heads": 64}}},
            "per_layer_config needs at most the 32 attention heads; found 64",
        ),
        (
            {"per_layer_config": {"1": {"intermediate_size": "x"}}},
            "per_layer_config: intermediate_size needs a whole number from 0 to 16777216; found 'x'",
        ),
        ({"block_configs": [{"attention": 8}] * 32}, "block_configs: attention needs an object; found 8"),
    ],
)
def test_absurd_numbers_stay_errors(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as refused:
        ModelSpec.read(folder(tmp_path, foreign(**changes)))
    assert refused.value.message.removeprefix(f"{tmp_path}/config.json").lstrip(": ").startswith(message)
    assert refused.value.mend == f"compare {tmp_path}/config.json with the published one, or fetch it again"


def verdict(spec: ModelSpec, backend: FakeBackend, **demand: Any) -> Verdict:
    return judge(spec, host(), Demand.of(**demand), {backend.name: backend})[0]


def test_rules_do_not_refuse_for_ignorance(tmp_path: Path) -> None:
    spec = ModelSpec.read(folder(tmp_path, foreign(num_attention_heads=None, num_key_value_heads=None)))
    judged = verdict(spec, FakeBackend(head_dims=frozenset({64}), tensor_parallel=True), tensor_parallel=3)
    assert {reason.rule: reason.text for reason in judged.reasons} == {
        "tensor_parallel": "needs 3 devices of one product; found 1"
    }
    known = verdict(
        ModelSpec.read(folder(tmp_path, foreign())),
        FakeBackend(head_dims=frozenset({64}), tensor_parallel=True),
        tensor_parallel=3,
    )
    assert [reason.text for reason in known.reasons] == [
        "needs 3 devices of one product; found 1",
        "needs heads divisible by 3; found 32",
        "needs KV heads divisible by 3; found 8",
        "needs head_dim 64; found 128",
    ]


def test_what_memory_does_not_count_is_said(tmp_path: Path) -> None:
    spec = ModelSpec.read(folder(tmp_path, foreign(num_attention_heads=None, num_key_value_heads=None)))
    assert verdict(spec, FakeBackend()).notes == (
        "not told by the config: head_dim, heads, kv_heads (weights and KV cache counted in part)",
    )
    spec = ModelSpec.read(folder(tmp_path, foreign(intermediate_size=None, num_hidden_layers=10_000)))
    [reason] = verdict(spec, FakeBackend()).reasons
    assert reason.text.startswith("needs at least ")


def test_explain_shows_it(tmp_path: Path) -> None:
    spec = ModelSpec.read(folder(tmp_path, foreign(intermediate_size=None), model__safetensors=b"w" * 1000))
    machine = host()
    explanation = Explanation(
        model=spec.name,
        spec=spec,
        host=machine,
        demand=Demand(),
        verdicts=(verdict(spec, FakeBackend()),),
    )
    [line] = explained(explanation)
    assert line.endswith("; not told by the config: intermediate_size")
