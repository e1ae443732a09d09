"""Tiny checkpoints with random weights, in every quant format that the tests load, and a tokenizer made in code."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

VOCAB = 320
SMALL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "initializer_range": 0.15,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
"""For the PyTorch engine: numbers are computed, and parity with transformers is checked."""

WIDE: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 512,
    "moe_intermediate_size": 256,
    "num_hidden_layers": 2,
    "head_dim": 128,
}
"""For TurboMind's checks: the least shape that every format's alignment accepts."""

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {}),
    "mistral": ("MistralConfig", {"sliding_window": None}),
    "gemma2": ("Gemma2Config", {"query_pre_attn_scalar": 16, "sliding_window": 1024, "tie_word_embeddings": True}),
    "qwen2moe": ("Qwen2MoeConfig", {"num_experts": 8, "num_experts_per_tok": 2, "norm_topk_prob": True}),
    "qwen3moe": ("Qwen3MoeConfig", {"num_experts": 8, "num_experts_per_tok": 2, "norm_topk_prob": True}),
    "mixtral": ("MixtralConfig", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "glm": (
        "Glm4MoeLiteConfig",
        {
            "head_dim": 64,  # another name of qk_rope_head_dim
            "num_key_value_heads": 4,
            "q_lora_rank": 256,
            "kv_lora_rank": 512,
            "qk_nope_head_dim": 192,
            "qk_rope_head_dim": 64,
            "v_head_dim": 256,
            "moe_intermediate_size": 128,
            "n_routed_experts": 64,
            "num_experts_per_tok": 4,
            "n_group": 1,
            "topk_group": 1,
            "mlp_layer_types": ["dense", "sparse"],
        },
    ),
    "qwen3_5": (
        "Qwen3_5Config",
        {
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "layer_types": ["linear_attention", "full_attention"],
        },
    ),
    "qwen3_5moe": (
        "Qwen3_5MoeConfig",
        {
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "layer_types": ["linear_attention", "full_attention"],
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "shared_expert_intermediate_size": 256,
        },
    ),
    "gptoss": (
        "GptOssConfig",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 32, "max_position_embeddings": 131072},
    ),
}
"""Kind: transformers' configuration class and what it has beside the common shape."""

LEFT_PLAIN: dict[str, Callable[[Sequence[str]], dict[str, Any]]] = {
    "awq": lambda parts: {"modules_to_not_convert": list(parts)},
    "fp8": lambda parts: {"modules_to_not_convert": list(parts)},
    "gptq": lambda parts: {"dynamic": {f"-:.*{part}.*": {} for part in parts}},
    "compressed-tensors": lambda parts: {"ignore": ["lm_head", *(f"re:.*{part}.*" for part in parts)]},
}
"""Method: how its quantization_config names modules that are left plain."""

VISION: dict[str, Any] = {
    "depth": 1,
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_heads": 2,
    "out_hidden_size": 512,
    "num_position_embeddings": 64,
}


def make(
    folder: Path,
    kind: str,
    *,
    dtype: str = "bfloat16",
    quant: str = "",
    plain: Sequence[str] = (),
    also: Sequence[str] = (),
    own_experts: bool = False,
    beside: bool = False,
    drop: Sequence[str] = (),
    told: Mapping[str, Any] | None = None,
    **shape: Any,
) -> Path:
    """Write a checkpoint and return its folder; one that is there already is taken as it is.

    Args:
        kind: key of CONFIGS.
        quant: key of FORMATS; empty: not quantized.
        plain: parts of the names of layers that are left plain, as the config then says.
        also: ends of the names of layers that are quantized beside those of attention and of the MLP.
        own_experts: experts that are in one tensor get tensors of their own, as programs that quantize write them.
        beside: the format is told by quantize_config.json instead of config.json.
        drop: names of fields that config.json is to lack, with dots.
        told: fields that config.json is to have besides.
        shape: fields of the configuration over SMALL.
    """
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    if (folder / "config.json").exists():
        return folder
    config = configuration(kind, **shape)
    torch.manual_seed(sum(map(ord, kind)))
    scratch = folder.with_name(f"{folder.name}.part")
    auto: Any = AutoModelForImageTextToText if kind.startswith("qwen3_5") else AutoModelForCausalLM
    model = auto.from_config(config)
    for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
        if not name.endswith("e_score_correction_bias"):  # float32 in every checkpoint that has one
            parameter.data = parameter.data.to(getattr(torch, dtype))
    model.save_pretrained(scratch)
    tokenizer().save_pretrained(scratch)
    path = scratch / "config.json"
    described = json.loads(path.read_text()) | {"dtype": dtype}
    if "text_config" in described:
        described["text_config"]["dtype"] = dtype
    if quant:
        declared, convert = FORMATS[quant]
        declared = declared | (LEFT_PLAIN[declared["quant_method"]](plain) if plain else {})
        if beside:
            (scratch / "quantize_config.json").write_text(json.dumps(declared))
        else:
            described["quantization_config"] = declared
        quantized = ("_proj.weight", ".w1.weight", ".w2.weight", ".w3.weight", *(f"{end}.weight" for end in also))
        weights: dict[str, Tensor] = {}
        stored = load_file(scratch / "model.safetensors")
        for name, weight in (_own_experts(stored) if own_experts else stored).items():
            if name.endswith(quantized) and not any(part in name for part in plain):
                prefix = name.removesuffix(".weight")
                weights |= {prefix + suffix: tensor for suffix, tensor in convert(weight).items()}
            elif quant == "mxfp4" and name.endswith(("gate_up_proj", "down_proj")):
                weights |= {name + suffix: tensor for suffix, tensor in _mxfp4(weight).items()}
            else:
                weights[name] = weight
        save_file({k: v.contiguous() for k, v in weights.items()}, scratch / "model.safetensors", {"format": "pt"})
    for name in drop:
        *outer, last = name.split(".")
        table = described
        for part in outer:
            table = table[part]
        table.pop(last, None)
    path.write_text(json.dumps({**described, **(told or {})}))
    shutil.rmtree(folder, ignore_errors=True)
    return scratch.rename(folder)


def configuration(kind: str, **shape: Any) -> Any:
    """The transformers configuration of a kind, SMALL unless `shape` says otherwise."""
    import transformers

    name, own = CONFIGS[kind]
    fields = {**SMALL, **own, **shape}
    if kind.startswith("qwen3_5"):
        own_class = getattr(transformers, name)
        return own_class(text_config=fields, vision_config=VISION, tie_word_embeddings=False)
    if "moe" in kind:
        fields.setdefault("moe_intermediate_size", 32)
        fields.setdefault("shared_expert_intermediate_size", fields["moe_intermediate_size"])
    return getattr(transformers, name)(**fields)


def tokenizer() -> Any:
    """Bytes, and names for the ids beyond them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = ["<pad>", "<s>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words += [f"<x{i}>" for i in range(VOCAB - len(words))]
    made = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[], unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = bytewise, decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def _own_experts(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights; those of experts in one tensor [experts, outputs, inputs] each by itself."""
    made: dict[str, Tensor] = {}
    for name, weight in weights.items():
        prefix, _, kind = name.rpartition("experts.")
        if kind == "gate_up_proj":
            for number, gate_up in enumerate(weight):
                gate, up = gate_up.chunk(2)
                made[f"{prefix}experts.{number}.gate_proj.weight"] = gate
                made[f"{prefix}experts.{number}.up_proj.weight"] = up
        elif kind == "down_proj":
            made |= {f"{prefix}experts.{number}.down_proj.weight": down for number, down in enumerate(weight)}
        else:
            made[name] = weight
    return made


def _random_words(*shape: int) -> Tensor:
    return torch.randint(-(2**31), 2**31 - 1, shape, dtype=torch.int32)


def _awq(group: int) -> Callable[[Tensor], dict[str, Tensor]]:
    def convert(weight: Tensor) -> dict[str, Tensor]:
        n, k = weight.shape
        return {
            ".qweight": _random_words(k, n // 8),
            ".qzeros": _random_words(k // group, n // 8),
            ".scales": torch.full((k // group, n), 0.02, dtype=torch.float16),
        }

    return convert


def _gptq(bits: int, group: int) -> Callable[[Tensor], dict[str, Tensor]]:
    def convert(weight: Tensor) -> dict[str, Tensor]:
        n, k = weight.shape
        return {
            ".qweight": _random_words(k * bits // 32, n),
            ".qzeros": _random_words(k // group, n * bits // 32),
            ".scales": torch.full((k // group, n), 0.02, dtype=torch.float16),
            ".g_idx": torch.arange(k, dtype=torch.int32) // group,
        }

    return convert


def _fp8_blocks(weight: Tensor) -> dict[str, Tensor]:
    n, k = weight.shape
    return {
        ".weight": weight.to(torch.float8_e4m3fn),
        ".weight_scale_inv": torch.ones(-(-n // 128), -(-k // 128)),
    }


def _fp8_tensor(weight: Tensor) -> dict[str, Tensor]:
    return {
        ".weight": weight.to(torch.float8_e4m3fn),
        ".weight_scale": torch.ones(1),
        ".input_scale": torch.ones(1),
    }


def _packed(bits: int, group: int) -> Callable[[Tensor], dict[str, Tensor]]:
    def convert(weight: Tensor) -> dict[str, Tensor]:
        n, k = weight.shape
        return {
            ".weight_packed": _random_words(n, k * bits // 32),
            ".weight_scale": torch.full((n, k // group), 0.02, dtype=torch.bfloat16),
            ".weight_shape": torch.tensor([n, k]),
        }

    return convert


def _mxfp4(weight: Tensor) -> dict[str, Tensor]:
    experts, k, n = weight.shape
    return {
        "_blocks": torch.randint(0, 255, (experts, n, k // 32, 16), dtype=torch.uint8),
        "_scales": torch.full((experts, n, k // 32), 120, dtype=torch.uint8),
    }


def _unquantized(weight: Tensor) -> dict[str, Tensor]:
    return {".weight": weight}


def _compressed(bits: int, group: int, *, own_format: bool = True) -> dict[str, Any]:
    described = {
        "num_bits": bits,
        "group_size": group,
        "strategy": "group",
        "symmetric": True,
        "dynamic": False,
        "type": "int",
    }
    own = {"format": "pack-quantized"} if own_format else {}
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": {**own, "targets": ["Linear"], "weights": described}},
    }


AWQ: dict[str, Any] = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
GPTQ: dict[str, Any] = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False}
FP8: dict[str, Any] = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic"}

FORMATS: dict[str, tuple[dict[str, Any], Callable[[Tensor], dict[str, Tensor]]]] = {
    "awq-g128": (AWQ, _awq(128)),
    "awq-g64": ({**AWQ, "group_size": 64}, _awq(64)),
    "awq-g32": ({**AWQ, "group_size": 32}, _awq(32)),
    "awq-GEMM": ({**AWQ, "version": "GEMM"}, _awq(128)),
    "awq-unversioned": ({name: value for name, value in AWQ.items() if name != "version"}, _awq(128)),
    "awq-null": ({**AWQ, "group_size": None}, _awq(128)),
    "awq-gemv": ({**AWQ, "version": "gemv"}, _awq(128)),
    "gptq-g128": (GPTQ, _gptq(4, 128)),
    "gptq-g64": ({**GPTQ, "group_size": 64}, _gptq(4, 64)),
    "gptq-desc-act": ({**GPTQ, "desc_act": True}, _gptq(4, 128)),
    "gptq-asymmetric": ({**GPTQ, "sym": False}, _gptq(4, 128)),
    "gptq-8bit": ({**GPTQ, "bits": 8}, _gptq(8, 128)),
    "gptq-v2": ({**GPTQ, "checkpoint_format": "gptq_v2"}, _gptq(4, 128)),
    "fp8-blocks": ({**FP8, "weight_block_size": [128, 128]}, _fp8_blocks),
    "fp8-tensor": ({**FP8, "activation_scheme": "static"}, _fp8_tensor),
    "compressed-g128": (_compressed(4, 128), _packed(4, 128)),
    "compressed-top": (_compressed(4, 128, own_format=False), _packed(4, 128)),
    "compressed-g64": (_compressed(4, 64), _packed(4, 64)),
    "compressed-g32": (_compressed(4, 32), _packed(4, 32)),
    "compressed-int8": (_compressed(8, 128), _packed(8, 128)),
    "mxfp4": (
        {
            "quant_method": "mxfp4",
            "modules_to_not_convert": [
                "model.layers.*.self_attn",
                "model.layers.*.mlp.router",
                "model.embed_tokens",
                "lm_head",
            ],
        },
        _unquantized,
    ),
    "bitsandbytes": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, _unquantized),
    "smooth_quant": ({"quant_method": "smooth_quant", "quant_dtype": "int8"}, _unquantized),
}
"""Format: the quantization_config, and what a linear weight [n, k] becomes, by suffix."""
