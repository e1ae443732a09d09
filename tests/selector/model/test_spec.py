"""What a model is: shapes, windows, positions, experts, vision and code."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from calibration.errors import ModelError
from selector.model.spec import ModelSpec
from tests.selector.model.model_folders import GOLDEN, folder, golden

SHAPES = {
    # name: architecture, dtype, layers, hidden, heads, kv heads, head_dim, intermediate, vocab, positions
    "none-gpt_bigcode": ("GPTBigCodeForCausalLM", "float32", 24, 2048, 16, 1, 128, 8192, 49280, 2048),
    "none-falcon": ("FalconForCausalLM", "bfloat16", 32, 4544, 71, 1, 64, 18176, 65024, 0),
    "none-bloom": ("BloomForCausalLM", "float32", 24, 1024, 16, 16, 64, 4096, 250880, 0),
    "none-opt": ("OPTForCausalLM", "float16", 12, 768, 12, 12, 64, 3072, 50272, 2048),
    "none-mpt": ("MPTForCausalLM", "bfloat16", 32, 4096, 32, 32, 128, 16384, 50432, 2048),
    "none-gpt_neox": ("GPTNeoXForCausalLM", "float16", 12, 768, 12, 12, 64, 3072, 50304, 2048),
    "none-mistral": ("MistralForCausalLM", "bfloat16", 32, 4096, 32, 8, 128, 14336, 32000, 32768),
    "none-gemma2": ("Gemma2ForCausalLM", "float32", 26, 2304, 8, 4, 256, 9216, 256000, 8192),
    "none-gemma3": ("Gemma3ForConditionalGeneration", "bfloat16", 34, 2560, 8, 4, 256, 10240, 262208, 131072),
    "none-llava": ("LlavaForConditionalGeneration", "float16", 32, 4096, 32, 32, 128, 11008, 32064, 4096),
    "none-phi3": ("Phi3ForCausalLM", "bfloat16", 32, 3072, 32, 32, 96, 8192, 32064, 131072),
    "none-internlm2": ("InternLM2ForCausalLM", "bfloat16", 32, 4096, 32, 8, 128, 14336, 92544, 32768),
    "none-chatglm": ("ChatGLMForConditionalGeneration", "float16", 28, 4096, 32, 2, 128, 13696, 65024, 8192),
    "none-internvl_chat": ("InternVLChatModel", "bfloat16", 24, 896, 14, 2, 64, 4864, 151674, 32768),
    "none-qwen2_5_omni": ("Qwen2_5OmniModel", "bfloat16", 28, 3584, 28, 4, 128, 18944, 152064, 32768),
    "none-qwen2_moe": ("Qwen2MoeForCausalLM", "bfloat16", 24, 2048, 16, 16, 128, 5632, 151936, 8192),
    "none-deepseek_v2": ("DeepseekV2ForCausalLM", "bfloat16", 27, 2048, 16, 16, 576, 10944, 102400, 163840),
    "none-dbrx": ("DbrxForCausalLM", "bfloat16", 40, 6144, 48, 8, 128, 0, 100352, 32768),
    "none-mamba": ("MambaForCausalLM", "float32", 24, 768, 0, 0, 0, 1536, 50280, 0),
    "none-jamba": ("JambaForCausalLM", "bfloat16", 32, 4096, 32, 8, 128, 14336, 65536, 262144),
    "none-qwen3_next": ("Qwen3NextForCausalLM", "bfloat16", 48, 2048, 16, 2, 256, 5120, 151936, 262144),
    "mxfp4-gpt_oss": ("GptOssForCausalLM", "bfloat16", 24, 2880, 64, 8, 64, 2880, 201088, 131072),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shape(name: str) -> None:
    spec = golden(name)
    assert SHAPES[name] == (
        *(spec.architecture, spec.dtype, spec.layers, spec.hidden_size, spec.heads, spec.kv_heads, spec.head_dim),
        *(spec.intermediate_size, spec.vocab_size, spec.max_position),
    )


@pytest.mark.parametrize(
    ("name", "window", "layers"),
    [
        ("none-mistral", 4096, 32),
        ("none-gemma2", 4096, 13),
        ("none-gemma3", 1024, 29),
        ("none-phi3", 262144, 32),
        ("mxfp4-gpt_oss", 128, 12),
        ("none-qwen2_moe", None, 0),
        ("none-opt", None, 0),
    ],
)
def test_sliding_window(name: str, window: int | None, layers: int) -> None:
    assert (golden(name).sliding_window, golden(name).window_layers) == (window, layers)


@pytest.mark.parametrize(
    ("changes", "window", "layers"),
    [
        ({"use_sliding_window": True, "max_window_layers": 20}, 32768, 4),
        ({"use_sliding_window": True, "max_window_layers": 99}, None, 0),
        ({"use_sliding_window": True, "max_window_layers": 0}, 32768, 24),
        ({"use_sliding_window": None}, None, 0),
        ({"layer_types": ["sliding_attention"] * 6 + ["full_attention"] * 18, "use_sliding_window": True}, 32768, 6),
        ({"model_type": "mistral", "use_sliding_window": None}, 32768, 24),
        ({"model_type": "exaone4", "sliding_window_pattern": "LLLG", "use_sliding_window": None}, 32768, 18),
        ({"model_type": "cohere2", "sliding_window_pattern": 4, "use_sliding_window": None}, 32768, 18),
        ({"model_type": "mistral", "use_sliding_window": None, "sliding_window": None}, None, 0),
    ],
)
def test_sliding_window_is_said_in_many_ways(
    tmp_path: Path, changes: dict[str, Any], window: int | None, layers: int
) -> None:
    base = json.loads((GOLDEN / "gptq-8bit-g128-qwen2" / "config.json").read_text())
    spec = ModelSpec.read(folder(tmp_path, base | changes))
    assert (spec.sliding_window, spec.window_layers) == (window, layers)


@pytest.mark.parametrize(
    ("name", "rope", "theta"),
    [
        ("none-opt", "none", None),
        ("none-bloom", "none", None),
        ("none-gpt_neox", "default", 10000.0),
        ("none-gemma3", "linear", None),
        ("none-phi3", "longrope", 10000.0),
        ("none-internlm2", "dynamic", 1000000.0),
        ("none-qwen2_5_omni", "mrope", 1000000.0),
        ("none-deepseek_v2", "yarn", 10000.0),
        ("none-dbrx", "default", 500000.0),
        ("fp8-e4m3-static-llama", "llama3", 500000.0),
    ],
)
def test_positions(name: str, rope: str, theta: float | None) -> None:
    assert (golden(name).rope_type, golden(name).rope_theta) == (rope, theta)


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 5e6, "factor": 4.0}}, ("yarn", 5e6)),
        (
            {
                "rope_parameters": {
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                    "full_attention": {"rope_type": "proportional", "rope_theta": 1e6},
                }
            },
            ("proportional", 1e6),
        ),
        ({"rope_scaling": {"type": "su", "long_factor": [1.0]}, "rope_theta": 10000}, ("longrope", 10000.0)),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}, ("mrope", 1000000.0)),
        ({"rope_scaling": {}}, ("default", 1000000.0)),
    ],
)
def test_positions_of_both_transformers(tmp_path: Path, rope: dict[str, Any], expected: tuple[str, float]) -> None:
    base = json.loads((GOLDEN / "gptq-8bit-g128-qwen2" / "config.json").read_text())
    spec = ModelSpec.read(folder(tmp_path, base | rope))
    assert (spec.rope_type, spec.rope_theta) == expected


@pytest.mark.parametrize(
    ("name", "experts"),
    [
        ("none-mistral", (0, 0, 0)),
        ("none-qwen2_moe", (60, 4, 1408)),
        ("none-deepseek_v2", (64, 6, 1408)),
        ("none-dbrx", (16, 4, 10752)),
        ("none-jamba", (16, 2, 14336)),
        ("mxfp4-gpt_oss", (32, 4, 2880)),
    ],
)
def test_experts(name: str, experts: tuple[int, int, int]) -> None:
    spec = golden(name)
    assert (spec.experts, spec.experts_per_token, spec.expert_intermediate_size) == experts


@pytest.mark.parametrize(
    ("name", "matrices"),
    [
        ("none-mistral", True),
        ("none-phi3", True),
        ("none-bloom", False),  # of 32 bits
        ("none-qwen2_moe", False),  # experts, which are stacked
        ("none-jamba", False),  # convolutions
        ("none-qwen3_next", False),
    ],
)
def test_matrices_of_16_bits(name: str, matrices: bool) -> None:
    assert golden(name).matrices_of_16_bits is matrices


def test_a_mixture_whose_layers_are_all_dense_has_no_experts(tmp_path: Path) -> None:
    config = json.loads((GOLDEN / "none-deepseek_v2" / "config.json").read_text(encoding="utf-8"))
    assert not ModelSpec.read(folder(tmp_path / "mixture", config)).matrices_of_16_bits
    dense = {**config, "first_k_dense_replace": config["num_hidden_layers"]}
    assert ModelSpec.read(folder(tmp_path / "dense", dense)).matrices_of_16_bits


@pytest.mark.parametrize(
    ("name", "vision", "remote", "inner", "auto"),
    [
        ("none-gemma3", True, False, None, None),
        ("none-llava", True, False, "LlamaForCausalLM", None),
        ("none-internvl_chat", True, True, "Qwen2ForCausalLM", "InternVLChatModel"),
        ("none-qwen2_5_omni", True, False, None, None),
        ("none-internlm2", False, True, None, "InternLM2ForCausalLM"),
        ("none-chatglm", False, True, None, "ChatGLMForConditionalGeneration"),
        ("none-phi3", False, False, None, "Phi3ForCausalLM"),
        ("none-deepseek_v2", False, False, None, "DeepseekV2ForCausalLM"),
        ("none-mistral", False, False, None, None),
    ],
)
def test_vision_and_code(name: str, vision: bool, remote: bool, inner: str | None, auto: str | None) -> None:
    spec = golden(name)
    assert (spec.vision, spec.remote_code, spec.inner_architecture, spec.auto_architecture) == (
        *(vision, remote, inner, auto),
    )


def test_reading_imports_neither_engines_nor_the_hub() -> None:
    code = (
        "import sys; from selector.model.spec import ModelSpec; ModelSpec.read('shape:gpt2'); "
        "print(sorted({'torch', 'transformers', 'numpy', 'huggingface_hub', 'httpx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ({"model_type": "llama"}, (32, 4096, 32, 32, 128, 11008, 32000)),
        ({"model_type": "qwen2", "num_hidden_layers": 24}, (24, 4096, 32, 32, 128, 22016, 151936)),
        ({"model_type": "gemma3_text", "hidden_size": 2560}, (26, 2560, 8, 4, 256, 9216, 262208)),
        ({"model_type": "opt", "hidden_size": 2560, "num_attention_heads": 32}, (12, 2560, 32, 32, 80, 3072, 50272)),
    ],
)
def test_an_inner_config_leaves_out_what_its_class_fills_in(
    tmp_path: Path, inner: dict[str, Any], expected: tuple[int, ...]
) -> None:
    outer = {"hidden_size": 99, "vocab_size": 99}  # of the whole model; the class does not look there
    config = {"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "text_config": inner} | outer
    spec = ModelSpec.read(folder(tmp_path, config))
    assert expected == (
        *(spec.layers, spec.hidden_size, spec.heads, spec.kv_heads, spec.head_dim),
        *(spec.intermediate_size, spec.vocab_size),
    )


def test_an_inner_config_with_code_of_its_own_has_no_defaults_of_transformers(tmp_path: Path) -> None:
    inner = {"model_type": "llama", "auto_map": {"AutoConfig": "configuration_own.OwnConfig"}}
    config = {"architectures": ["OwnForConditionalGeneration"], "model_type": "own", "text_config": inner}
    with pytest.raises(ModelError, match="has no hidden_size"):
        ModelSpec.read(folder(tmp_path, config))
