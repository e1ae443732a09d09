"""The architectures of LMDeploy's PyTorch engine, and those that have something in common (lmdeploy 0.18.0)."""

MIXTURES = frozenset(
    {
        "DeepseekForCausalLM",
        "DeepseekV2ForCausalLM",
        "DeepseekV3ForCausalLM",
        "DeepseekV32ForCausalLM",
        "DeepseekV4ForCausalLM",
        "DeepseekVLV2ForCausalLM",
        "Glm4MoeForCausalLM",
        "Glm4MoeLiteForCausalLM",
        "GlmMoeDsaForCausalLM",
        "GptOssForCausalLM",
        "HYV3ForCausalLM",
        "InternS1ProForConditionalGeneration",
        "InternS1_1_ForConditionalGeneration",
        "InternS2MobiusForCausalLM",
        "InternS2MobiusForConditionalGeneration",
        "InternS2PreviewForCausalLM",
        "InternS2PreviewForConditionalGeneration",
        "KimiK25ForConditionalGeneration",
        "Kimi_K25ForConditionalGeneration",
        "Llama4ForConditionalGeneration",
        "MetaMoeForConditionalGeneration",
        "MixtralForCausalLM",
        "PhiMoEForCausalLM",
        "Qwen2MoeForCausalLM",
        "Qwen3MoeForCausalLM",
        "Qwen3NextForCausalLM",
        "Qwen3OmniMoeForConditionalGeneration",
        "Qwen3VLMoeForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
        "SDARMoeForCausalLM",
    }
)
DENSE = frozenset(
    {
        "ChatGLMForConditionalGeneration",
        "CogVLMForCausalLM",
        "Gemma2ForCausalLM",
        "Gemma3ForCausalLM",
        "Gemma3ForConditionalGeneration",
        "GemmaForCausalLM",
        "Glm4ForCausalLM",
        "Glm4vForConditionalGeneration",
        "InternLM2ForCausalLM",
        "InternLM3ForCausalLM",
        "InternS1ForConditionalGeneration",
        "InternVLChatModel",
        "InternVLForConditionalGeneration",
        "LlamaForCausalLM",
        "LlavaForConditionalGeneration",
        "LlavaNextForConditionalGeneration",
        "MiniCPM3ForCausalLM",
        "MiniCPMV",
        "MistralForCausalLM",
        "Phi3ForCausalLM",
        "Phi3VForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen2VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3ForCausalLM",
        "Qwen3VLForConditionalGeneration",
        "Qwen3_5ForConditionalGeneration",
        "SDARForCausalLM",
    }
)
GEMMA = frozenset({"GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"})

SPARSE_MLA = frozenset({"DeepseekV32ForCausalLM", "GlmMoeDsaForCausalLM"})

GATED_DELTA = frozenset(
    {
        "InternS2MobiusForCausalLM",
        "InternS2MobiusForConditionalGeneration",
        "InternS2PreviewForCausalLM",
        "InternS2PreviewForConditionalGeneration",
        "MetaMoeForConditionalGeneration",
        "Qwen3NextForCausalLM",
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
    }
)

V4 = frozenset({"DeepseekV4ForCausalLM"})

KIMI = frozenset({"KimiK25ForConditionalGeneration", "Kimi_K25ForConditionalGeneration"})

GENERIC = frozenset({"LlamaForCausalLM", "InternLM3ForCausalLM", "MistralForCausalLM"})
"""pytorch/models/llama.py, mistral.py: what is built of a configuration that is of no class."""
