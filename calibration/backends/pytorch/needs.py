"""What LMDeploy's PyTorch engine needs for some architectures: packages, and fields of config.json (lmdeploy 0.18.0).

The fields were found by loading: its code reads them as they stand, and the configuration classes of transformers 5 do
not have them, or no longer. Most published configs have them; those that transformers 5 wrote do not.
"""

from collections.abc import Mapping

from calibration.backends.pytorch.architectures import GATED_DELTA, GENERIC, KIMI, SPARSE_MLA, V4
from calibration.facts.needs import FieldFact, PackageFact

CUDA = frozenset({"cuda", "rocm"})
"""Where its `device_type` is cuda."""

_V4_ROPE = ("rope_scaling", "rope_parameters", "rope_parameters.compress")

ARCHITECTURE_PACKAGES = (
    PackageFact(
        architectures=GATED_DELTA,
        packages=("flash-linear-attention>=0.4.2", "tilelang==0.1.11"),
        devices=CUDA,
        source=(
            "lmdeploy 0.18.0 pytorch/configurations/qwen3_next.py:14, nn/gated_delta.py:27,"
            " kernels/cuda/gated_delta_rule.py:5, kernels/cuda/causal_conv1d.py:2; METADATA for the versions"
        ),
    ),
    PackageFact(
        architectures=SPARSE_MLA,
        packages=("flash_mla",),
        devices=CUDA,
        install="pip install git+https://github.com/deepseek-ai/FlashMLA",
        source="lmdeploy 0.18.0 pytorch/configurations/deepseek_v32.py:18-25, 41",
    ),
    PackageFact(
        architectures=V4,
        packages=("flash_mla", "deep_gemm", "fast_hadamard_transform", "tile_kernels"),
        devices=CUDA,
        install=(
            "pip install fast_hadamard_transform git+https://github.com/deepseek-ai/FlashMLA"
            " git+https://github.com/deepseek-ai/DeepGEMM git+https://github.com/deepseek-ai/TileKernels"
        ),
        source="lmdeploy 0.18.0 pytorch/configurations/deepseek_v4.py:63-86",
    ),
    PackageFact(
        architectures=frozenset({"DeepseekVLV2ForCausalLM"}),
        packages=("einops", "timm"),
        source="lmdeploy 0.18.0 pytorch/models/deepseek_vl2.py:10, 160",
    ),
    PackageFact(
        architectures=frozenset({"GptOssForCausalLM"}),
        packages=("openai_harmony",),
        source="lmdeploy 0.18.0 lmdeploy/tokenizer.py:395",
    ),
)

CONFIG_FIELDS = (
    FieldFact(
        architectures=frozenset({"DeepseekV2ForCausalLM"}),
        fields=("scoring_func", "moe_layer_freq"),
        mend='write "scoring_func": "softmax", "moe_layer_freq": 1 into its config.json',
        source="lmdeploy 0.18.0 pytorch/models/deepseek_v2.py:614, 882",
    ),
    FieldFact(
        architectures=frozenset({"DeepseekV3ForCausalLM"}) | SPARSE_MLA,
        fields=("scoring_func", "topk_method", "moe_layer_freq"),
        mend='write "scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1 into its config.json',
        source="lmdeploy 0.18.0 pytorch/models/deepseek_v2.py:614-615, 882; deepseek_v32.py:523",
    ),
    FieldFact(
        architectures=KIMI,
        fields=("text_config.topk_method", "text_config.moe_layer_freq", "vision_config.merge_type"),
        source="lmdeploy 0.18.0 pytorch/models/kimi_k2_language.py:377, 609; kimi_k25_vision.py:680",
    ),
    FieldFact(
        architectures=frozenset({"Glm4MoeLiteForCausalLM"}),
        fields=("topk_method", "first_k_dense_replace"),
        source="lmdeploy 0.18.0 pytorch/models/deepseek_v2.py:615, 881",
    ),
    FieldFact(
        architectures=frozenset({"HYV3ForCausalLM"}),
        fields=("first_k_dense_replace",),
        source="lmdeploy 0.18.0 pytorch/models/hy3.py:322",
    ),
    FieldFact(
        # Out of a config without layer_types transformers 5 takes full_attention_interval.
        architectures=frozenset({"Qwen3NextForCausalLM"}),
        fields=("layer_types", "full_attention_interval"),
        requirement="transformers>=5",
        source="lmdeploy 0.18.0 pytorch/configurations/qwen3_next.py:33",
    ),
    FieldFact(
        architectures=frozenset({"MiniCPM3ForCausalLM", "PhiMoEForCausalLM"}),
        fields=("rope_scaling.type|rope_parameters.type",),
        requirement="transformers>=5",
        source="lmdeploy 0.18.0 pytorch/models/minicpm3.py:310, phi3_moe.py:285",
    ),
    FieldFact(
        # transformers 5 puts rope_local_base_freq into rope_parameters, where it is not looked for.
        architectures=frozenset({"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"}),
        fields=("rope_scaling.factor|rope_parameters.full_attention.factor",),
        requirement="transformers>=5",
        mend='write "rope_scaling": {"rope_type": "linear", "factor": 1.0} into its config.json',
        source="lmdeploy 0.18.0 pytorch/models/gemma.py:408-434",
    ),
    FieldFact(
        architectures=frozenset({"Glm4vForConditionalGeneration"}),
        fields=("text_config.eos_token_id", "text_config.pad_token_id"),
        requirement="transformers>=5",
        source="lmdeploy 0.18.0 pytorch/configurations/glm4_1v.py:17, default.py:38, models/glm4_1v.py:30",
    ),
    FieldFact(
        architectures=V4,
        fields=("|".join(f"{table}.original_max_position_embeddings" for table in _V4_ROPE),),
        source="lmdeploy 0.18.0 pytorch/models/deepseek_v4.py:703",
    ),
    FieldFact(
        architectures=GENERIC,
        fields=("bos_token_id", "eos_token_id"),
        not_null=("rope_scaling", "rope_parameters"),
        requirement="transformers>=5",
        without_class=True,
        mend="leave out of its config.json what is null",
        source="lmdeploy 0.18.0 pytorch/configurations/default.py:37-38, nn/rotary_embedding.py:226",
    ),
    FieldFact(
        architectures=frozenset({"LlamaForCausalLM"}),
        fields=("attention_bias",),
        requirement="transformers>=5",
        without_class=True,
        source="lmdeploy 0.18.0 pytorch/models/llama.py:41",
    ),
    FieldFact(
        architectures=frozenset({"Qwen3VLForConditionalGeneration"}),
        fields=("text_config.bos_token_id", "text_config.eos_token_id"),
        requirement="transformers>=5",
        source="lmdeploy 0.18.0 pytorch/configurations/qwen3_vl.py:20, default.py:37-38",
    ),
    FieldFact(
        architectures=frozenset(
            {
                "InternS1ForConditionalGeneration",
                "InternVLForConditionalGeneration",
                "LlavaForConditionalGeneration",
                "LlavaNextForConditionalGeneration",
            }
        ),
        fields=("text_config.architectures",),
        source="lmdeploy 0.18.0 pytorch/models/patch.py:180-186, llava.py:390, internvl3_hf.py:456",
    ),
)

MODEL_TYPES: Mapping[str, frozenset[str]] = {
    "DeepseekV2ForCausalLM": frozenset({"deepseek_v2", "deepseek_v3"}),
    "DeepseekV3ForCausalLM": frozenset({"deepseek_v2", "deepseek_v3", "kimi_k2"}),
    "DeepseekV32ForCausalLM": frozenset({"deepseek_v32"}),
    "DeepseekV4ForCausalLM": frozenset({"deepseek_v4"}),
    "Glm4MoeLiteForCausalLM": frozenset({"glm4_moe_lite"}),
    "GlmMoeDsaForCausalLM": frozenset({"glm_moe_dsa"}),
    "HYV3ForCausalLM": frozenset({"hy_v3"}),
    "Qwen3NextForCausalLM": frozenset({"qwen3_next"}),
}
"""The model_type by which it finds how large the caches of an architecture are: the conditions of the builders in
pytorch/configurations/*.py (lmdeploy 0.18.0). Of another one it takes them for those of usual attention."""
