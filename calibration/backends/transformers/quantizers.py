"""What the quantizers of transformers ask for before they load a checkpoint (5.23.0, quantizers/)."""

from typing import Any

from calibration.backend import Model, QuantFact

_ACCELERATE = "accelerate>=1.1"
_KERNELS = "kernels>=0.18.2,<0.19"
_BLOCKS = frozenset({(128, 128)})
_CPU, _CUDA, _GPUS = frozenset({"cpu"}), frozenset({"cuda"}), frozenset({"cuda", "rocm"})

GGUF_ARCHITECTURES = frozenset({
    "Gemma2ForCausalLM", "Gemma3ForCausalLM", "GPT2LMHeadModel", "GptOssForCausalLM", "LlamaForCausalLM",
    "MambaForCausalLM", "MistralForCausalLM", "Phi3ForCausalLM", "Qwen2ForCausalLM", "Qwen2MoeForCausalLM",
    "Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "Starcoder2ForCausalLM",
})  # fmt: skip
"""Of those that transformers 5.23.0 reads from .gguf files."""


_GGUF_SIZES = {
    "Qwen3ForCausalLM": ("head_dim", 128),
    "Qwen3MoeForCausalLM": ("expert_intermediate_size", 768),
}
"""What transformers 5.23.0 does not read of a .gguf file, and takes as the class has it (integrations/ggml.py,
GGUF_CONFIG_MAPPING: qwen3 without attention.key_length, qwen3_moe without expert_feed_forward_length)."""

_GGUF_SCALES = {"Gemma2ForCausalLM": 256, "Gemma3ForCausalLM": 256}
"""Scores are divided by the root of query_pre_attn_scalar, which no .gguf file has. transformers 5.23.0 takes this: it
is right where heads are as wide; those of the 27B models have 128."""


def gguf_reasons(model: Model) -> list[str]:
    """What transformers leaves out of a .gguf file's metadata."""
    scale = _GGUF_SCALES.get(model.architecture)
    if model.quant.method == "gguf" and scale is not None and model.head_dim != scale:
        return [f"needs heads of {scale}, by which it scales attention in every .gguf file; found {model.head_dim}"]
    name, taken = _GGUF_SIZES.get(model.architecture, ("", 0))
    if model.quant.method != "gguf" or not name or name in model.unknown or getattr(model, name) == taken:
        return []
    return [f"needs {name} {taken}, which it takes for every .gguf file of its kind; found {getattr(model, name)}"]


def _quant(method: str, *packages: str, quantizer: str = "", **limits: Any) -> QuantFact:
    file = f"quantizers/quantizer_{quantizer or method.replace('-', '_')}.py"
    return QuantFact(method=method, packages=packages, source=f"transformers 5.23.0 {file}", **limits)


QUANTS = (
    _quant("gptq", "optimum>=1.24", "gptqmodel>=1.4.3"),
    _quant("awq", "gptqmodel", _ACCELERATE),
    _quant("bitsandbytes", "bitsandbytes>=0.46.1", _ACCELERATE, quantizer="bnb_4bit"),
    # Below compute capability 8.9, and on a CPU, fp8 and mxfp4 are dequantised to bf16 while loading; of fp8 only what
    # has a scale for each block. Others stay in fp8, and no CPU multiplies them. Sizes are divided by the number of
    # scales: 192 rows with two become blocks of 96, 576 with five an error (integrations/finegrained_fp8.py:1153).
    _quant("fp8", _ACCELERATE, quantizer="finegrained_fp8", devices=_CPU, block_shapes=_BLOCKS, whole_blocks=True),
    _quant("fp8", _ACCELERATE, quantizer="finegrained_fp8", devices=_GPUS),
    _quant("mxfp8", _ACCELERATE, quantizer="finegrained_fp8"),
    _quant("mxfp4", _ACCELERATE),
    _quant("fbgemm_fp8", "fbgemm-gpu", _ACCELERATE, capabilities=(9, 0), devices=_CUDA),
    _quant("compressed-tensors", "compressed-tensors>=0.15"),
    _quant("hqq", "hqq>=0.2.1"),
    QuantFact(
        method="gguf",
        packages=("gguf>=0.10", _ACCELERATE),
        architectures=GGUF_ARCHITECTURES,
        source="transformers 5.23.0 integrations/ggml.py (GGUF_CONFIG_MAPPING); it dequantises while loading",
    ),
    _quant("torchao", "torchao>=0.15"),
    _quant("quark", "amd-quark>=0.12"),
    _quant("quanto", "optimum-quanto", _ACCELERATE),
    _quant("auto-round", "auto-round>=0.5"),
    _quant("bitnet", _ACCELERATE),
    # Without Apple's GPU it is dequantised while loading.
    _quant("metal"),
    _quant("gemma"),
    _quant("aqlm", "aqlm", _ACCELERATE),
    _quant("sinq", "sinq"),
    _quant("fouroversix", "fouroversix"),
    _quant("vptq", "vptq>=0.0.4", _ACCELERATE, devices=_CUDA),
    _quant("spqr", "spqr-quant", _ACCELERATE, devices=_CUDA),
    _quant("eetq", _KERNELS, _ACCELERATE, devices=_CUDA),
    _quant("higgs", "flute-kernel>=0.4.1", "fast-hadamard-transform", _ACCELERATE, devices=_CUDA),
    _quant("fp_quant", "fp-quant>=0.3.2", "qutlass>=0.2", devices=_CUDA),
)
"""All but nvfp4, of which no checkpoint is loaded ("not supported yet")."""
