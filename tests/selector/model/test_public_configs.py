"""Fifty published configs, each with the right answers, compared field by field with its config.json.

The files are not ours to ship: AUTOBACKEND_MODEL_CONFIGS names the folder that has them (`owner--name/config.json`).
"""

import os
from pathlib import Path

import pytest

from selector.model.spec import ModelSpec

FOLDER = os.environ.get("AUTOBACKEND_MODEL_CONFIGS", "")

pytestmark = pytest.mark.skipif(not FOLDER, reason="needs AUTOBACKEND_MODEL_CONFIGS, a folder of published configs")

# name, architecture, quant
#     layers, hidden, heads, kv heads, head_dim (with MLA the latent), experts/chosen, window x layers, positions, more
TABLE = """
Qwen--Qwen3-1.7B Qwen3ForCausalLM none
     28  2048  16   8 128      -       - default      -
Qwen--Qwen3-235B-A22B Qwen3MoeForCausalLM none
     94  4096  64   4 128  128/8       - default      -
Qwen--Qwen3-235B-A22B-FP8 Qwen3MoeForCausalLM fp8-e4m3-128x128
     94  4096  64   4 128  128/8       - default      -
Qwen--Qwen3-30B-A3B-FP8 Qwen3MoeForCausalLM fp8-e4m3-128x128
     48  2048  32   4 128  128/8       - default      -
Qwen--Qwen3-32B Qwen3ForCausalLM none
     64  5120  64   8 128      -       - default      -
Qwen--Qwen3-32B-FP8 Qwen3ForCausalLM fp8-e4m3-128x128
     64  5120  64   8 128      -       - default      -
Qwen--Qwen3-32B-FP8-Static-PerTensor Qwen3ForCausalLM modelopt-fp8
     64  5120  64   8 128      -       - default      -
Qwen--Qwen3-8B Qwen3ForCausalLM none
     36  4096  32   8 128      -       - default      -
Qwen--Qwen3-Coder-480B-A35B-Instruct Qwen3MoeForCausalLM none
     62  6144  96   8 128  160/8       - default      -
Qwen--Qwen3-VL-235B-A22B-Instruct Qwen3VLMoeForConditionalGeneration none
     94  4096  64   4 128  128/8       - default      vision
Qwen--Qwen3-VL-2B-Instruct Qwen3VLForConditionalGeneration none
     28  2048  16   8 128      -       - default      vision
Qwen--Qwen3-VL-30B-A3B-Instruct Qwen3VLMoeForConditionalGeneration none
     48  2048  32   4 128  128/8       - default      vision
Qwen--Qwen3-VL-4B-Instruct Qwen3VLForConditionalGeneration none
     36  2560  32   8 128      -       - default      vision
Qwen--Qwen3.5-122B-A10B Qwen3_5MoeForConditionalGeneration none
     48  3072  32   2 256  256/8       - mrope        vision
Qwen--Qwen3.5-27B Qwen3_5ForConditionalGeneration none
     64  5120  24   4 256      -       - mrope        vision
Qwen--Qwen3.5-35B-A3B Qwen3_5MoeForConditionalGeneration none
     40  2048  16   2 256  256/8       - mrope        vision
XiaomiMiMo--MiMo-7B-Base MiMoForCausalLM none
     36  4096  32   8 128      -       - default      -
XiaomiMiMo--MiMo-V2-Flash MiMoV2FlashForCausalLM fp8-e4m3-128x128
     48  4096  64   4 192  256/8  128x39 default      -
deepseek-ai--DeepSeek-V4-Flash DeepseekV4ForCausalLM fp8-mixed-e4m3-128x128+mxfp4
     43  4096  64   1 512  256/6  128x43 yarn         -
deepseek-ai--DeepSeek-V4-Pro DeepseekV4ForCausalLM fp8-mixed-e4m3-128x128+mxfp4
     61  7168 128   1 512  384/6  128x61 yarn         -
meta-llama--Llama-4-Scout-17B-16E-Instruct Llama4ForConditionalGeneration none
     48  5120  40   8 128   16/1       - llama3       -
meta-llama--Meta-Llama-3.1-405B LlamaForCausalLM none
    126 16384 128   8 128      -       - llama3       -
meta-llama--Meta-Llama-3.1-8B LlamaForCausalLM none
     32  4096  32   8 128      -       - llama3       -
mistralai--Mixtral-8x22B-v0.1 MixtralForCausalLM none
     56  6144  48   8 128    8/2       - default      -
moonshotai--Kimi-K3 KimiK3ForConditionalGeneration compressed-tensors-mxfp4
     93  7168  96  96 576 896/16       - none         vision code
nvidia--DeepSeek-V3.1-NVFP4 DeepseekV3ForCausalLM modelopt-nvfp4
     61  7168 128 128 576  256/8       - yarn         -
nvidia--DeepSeek-V4-Flash-NVFP4 DeepseekV4ForCausalLM modelopt-mixed-fp8-128x128+nvfp4
     43  4096  64   1 512  256/6  128x43 yarn         -
nvidia--DeepSeek-V4-Pro-NVFP4 DeepseekV4ForCausalLM modelopt-mixed-fp8-128x128+nvfp4
     61  7168 128   1 512  384/6  128x61 yarn         -
nvidia--GLM-5-NVFP4 GlmMoeDsaForCausalLM modelopt-nvfp4
     78  6144  64  64 576  256/8       - default      -
nvidia--Gemma-4-26B-A4B-NVFP4 Gemma4ForConditionalGeneration modelopt-nvfp4
     30  2816  16   8 256  128/8 1024x25 proportional vision
nvidia--Kimi-K2.6-NVFP4 KimiK25ForConditionalGeneration modelopt-nvfp4
     61  7168  64  64 576  384/8       - yarn         vision
nvidia--MiniMax-M2.5-NVFP4 MiniMaxM2ForCausalLM modelopt-nvfp4
     62  3072  48   8 128  256/8       - default      -
nvidia--MiniMax-M2.7-NVFP4 MiniMaxM2ForCausalLM modelopt-nvfp4
     62  3072  48   8 128  256/8       - default      -
nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4 NemotronHForCausalLM modelopt-nvfp4
     52  2688  32   2 128  128/6       - default      -
nvidia--NVIDIA-Nemotron-3-Super-120B-A12B-FP8 NemotronHForCausalLM modelopt-fp8
     88  4096  32   2 128 512/22       - default      -
nvidia--NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4 NemotronHForCausalLM modelopt-nvfp4
     88  4096  32   2 128 512/22       - default      -
nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16 NemotronHForCausalLM none
    108  8192  64   2 128 512/22       - default      -
nvidia--NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4 NemotronHForCausalLM modelopt-mixed-fp8+w4a16_nvfp4
     52  2688  32   2 128  128/6       - default      -
nvidia--Nemotron-H-56B-Base-8K NemotronHForCausalLM none
    118  8192  64   8 128      -       - default      -
nvidia--Qwen3.5-122B-A10B-NVFP4 Qwen3_5MoeForConditionalGeneration modelopt-nvfp4
     48  3072  32   2 256  256/8       - mrope        vision
nvidia--Qwen3.5-397B-A17B-NVFP4 Qwen3_5MoeForConditionalGeneration modelopt-nvfp4
     60  4096  32   2 256 512/10       - mrope        vision
nvidia--Qwen3.6-27B-NVFP4 Qwen3_5ForConditionalGeneration modelopt-mixed-fp8+w4a16_nvfp4
     64  5120  24   4 256      -       - mrope        vision
nvidia--Qwen3.6-35B-A3B-NVFP4 Qwen3_5MoeForConditionalGeneration modelopt-mixed-fp8+w4a16_nvfp4
     40  2048  16   2 256  256/8       - mrope        vision
openai--gpt-oss-120b GptOssForCausalLM mxfp4
     36  2880  64   8  64  128/4  128x18 yarn         -
openai--gpt-oss-20b GptOssForCausalLM mxfp4
     24  2880  64   8  64   32/4  128x12 yarn         -
sgl-project--DeepSeek-V4-Flash-FP8 DeepseekV4ForCausalLM fp8-e4m3-128x128
     43  4096  64   1 512  256/6  128x43 yarn         -
stepfun-ai--Step-3.7-Flash Step3p7FlashForCausalLM none
     45  4096  64   8 128  288/8  512x33 default      -
zai-org--GLM-5 GlmMoeDsaForCausalLM none
     78  6144  64  64 576  256/8       - default      -
zai-org--GLM-5-FP8 GlmMoeDsaForCausalLM fp8-e4m3-128x128
     78  6144  64  64 576  256/8       - default      -
zai-org--GLM-5.2-FP8 GlmMoeDsaForCausalLM fp8-e4m3-128x128
     78  6144  64  64 576  256/8       - default      -
"""

LINES = TABLE.strip("\n").splitlines()
EXPECTED = {
    first.split()[0]: (*first.split()[1:], *second.split(maxsplit=8))
    for first, second in zip(LINES[::2], LINES[1::2], strict=True)
}


def read(name: str) -> tuple[str, ...]:
    spec = ModelSpec.read(str(Path(FOLDER) / name))
    return (
        spec.architecture,
        spec.quant.label,
        *map(str, (spec.layers, spec.hidden_size, spec.heads, spec.kv_heads, spec.head_dim)),
        f"{spec.experts}/{spec.experts_per_token}" if spec.experts else "-",
        f"{spec.sliding_window}x{spec.window_layers}" if spec.sliding_window else "-",
        spec.rope_type,
        " ".join(["vision"] * spec.vision + ["code"] * spec.remote_code) or "-",
    )


@pytest.mark.parametrize("name", EXPECTED)
def test_public_config(name: str) -> None:
    assert read(name) == EXPECTED[name]


def test_no_folder_is_left_out() -> None:
    assert sorted(path.name for path in Path(FOLDER).iterdir()) == sorted(EXPECTED)


PUBLISHED_BILLIONS = {
    # model cards, and the parameter counts that the hub shows for the safetensors
    "Qwen--Qwen3-1.7B": 1.7,
    "Qwen--Qwen3-8B": 8.2,
    "Qwen--Qwen3-32B": 32.8,
    "Qwen--Qwen3-30B-A3B-FP8": 30.5,
    "Qwen--Qwen3-235B-A22B": 235.1,
    "Qwen--Qwen3-Coder-480B-A35B-Instruct": 480.2,
    "Qwen--Qwen3-VL-235B-A22B-Instruct": 235.7,
    "Qwen--Qwen3.5-27B": 27.4,
    "XiaomiMiMo--MiMo-V2-Flash": 309,
    "deepseek-ai--DeepSeek-V4-Flash": 284,
    "meta-llama--Meta-Llama-3.1-8B": 8.03,
    "meta-llama--Meta-Llama-3.1-405B": 405.9,
    "meta-llama--Llama-4-Scout-17B-16E-Instruct": 108.6,
    "mistralai--Mixtral-8x22B-v0.1": 140.6,
    "nvidia--DeepSeek-V3.1-NVFP4": 671,
    "nvidia--MiniMax-M2.5-NVFP4": 229,
    "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4": 31.6,
    "nvidia--NVIDIA-Nemotron-3-Super-120B-A12B-FP8": 120.7,
    "nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16": 549.3,
    "nvidia--Nemotron-H-56B-Base-8K": 56.3,
    "openai--gpt-oss-20b": 20.9,
    "openai--gpt-oss-120b": 116.8,
    "zai-org--GLM-5": 744,
}


@pytest.mark.parametrize("name", PUBLISHED_BILLIONS)
def test_parameters_are_those_published(name: str) -> None:
    spec = ModelSpec.read(str(Path(FOLDER) / name))
    assert spec.parameters / 1e9 == pytest.approx(PUBLISHED_BILLIONS[name], rel=0.015)


@pytest.mark.parametrize(
    ("name", "gigabytes"), [("openai--gpt-oss-20b", 13.76), ("openai--gpt-oss-120b", 65.25), ("Qwen--Qwen3-8B", 16.38)]
)
def test_weights_weigh_what_was_published(name: str, gigabytes: float) -> None:
    assert ModelSpec.read(str(Path(FOLDER) / name)).weight_bytes / 1e9 == pytest.approx(gigabytes, rel=0.005)


@pytest.mark.parametrize(
    ("name", "kilobytes_per_token"),
    [
        ("meta-llama--Meta-Llama-3.1-8B", 2 * 32 * 8 * 128 * 2 / 1000),
        ("nvidia--DeepSeek-V3.1-NVFP4", 61 * 576 * 2 / 1000),  # the latent, not 128 heads
        ("nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4", 6 * 2 * 2 * 128 * 2 / 1000),  # 6 of 52 layers attend
        ("Qwen--Qwen3.5-27B", 16 * 2 * 4 * 256 * 2 / 1000),  # every fourth of 64
        ("moonshotai--Kimi-K3", 24 * 576 * 2 / 1000),  # full_attn_layers
        ("nvidia--MiniMax-M2.5-NVFP4", 62 * 2 * 8 * 128 * 2 / 1000),
    ],
)
def test_kv_cache_grows_by_attention_layers_alone(name: str, kilobytes_per_token: float) -> None:
    spec = ModelSpec.read(str(Path(FOLDER) / name))
    assert (spec.kv_bytes(4096, 1) - spec.kv_bytes(3072, 1)) / 1024 == pytest.approx(kilobytes_per_token * 1000)
