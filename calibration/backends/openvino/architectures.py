"""Which architectures are candidates, by the table of the installed transformers, and which of them were tried."""

TABLE = ("transformers", "models/auto/modeling_auto.py")
"""The tracer's own table of architectures."""

WRONG = {
    "Emu3ForConditionalGeneration": "its language model is built alone, and finds none of its weights: they are named"
    " text_model (transformers 5.23.0 conversion_mapping.py)",
}
"""AutoModelForCausalLM builds them, but what it builds is not the model."""

TRIED = frozenset({
    "AXK1ForCausalLM", "AXK2ForCausalLM", "AfmoeForCausalLM", "ApertusForCausalLM", "ArceeForCausalLM",
    "AriaTextForCausalLM", "BartForCausalLM", "BeamForCausalLM", "BertGenerationDecoder", "BertLMHeadModel",
    "BigBirdForCausalLM", "BigBirdPegasusForCausalLM", "BioGptForCausalLM", "BitNetForCausalLM",
    "BlenderbotForCausalLM", "BlenderbotSmallForCausalLM", "BloomForCausalLM", "CTRLLMHeadModel",
    "CamembertForCausalLM", "CodeGenForCausalLM", "Cohere2ForCausalLM", "Cohere2MoeForCausalLM",
    "CohereCompassForCausalLM", "CohereForCausalLM", "CwmForCausalLM", "Data2VecTextForCausalLM",
    "DeepseekV2ForCausalLM", "DeepseekV32ForCausalLM", "DeepseekV3ForCausalLM", "DiffLlamaForCausalLM",
    "DogeForCausalLM", "Dots1ForCausalLM", "Dots3NoteForCausalLM", "ElectraForCausalLM", "Ernie4_5ForCausalLM",
    "Ernie4_5_MoeForCausalLM", "ErnieForCausalLM", "Exaone4ForCausalLM", "ExaoneMoeForCausalLM",
    "FalconForCausalLM", "FlexOlmoForCausalLM", "FlintForCausalLM", "FuyuForCausalLM", "GPT2LMHeadModel",
    "GPTBigCodeForCausalLM", "GPTJForCausalLM", "GPTNeoForCausalLM", "GPTNeoXForCausalLM",
    "GPTNeoXJapaneseForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration",
    "Gemma3nForCausalLM", "Gemma4ForCausalLM", "Gemma4ForConditionalGeneration", "Gemma4UnifiedForCausalLM",
    "Gemma4UnifiedForConditionalGeneration", "GemmaForCausalLM", "Glm4ForCausalLM", "Glm4MoeForCausalLM",
    "Glm4MoeLiteForCausalLM", "GlmForCausalLM", "GlmMoeDsaForCausalLM", "GotOcr2ForConditionalGeneration",
    "GptOssForCausalLM", "GraniteForCausalLM", "GraniteMoeForCausalLM", "GraniteMoeSWAForCausalLM",
    "GraniteMoeSharedForCausalLM", "GraniteSWAForCausalLM", "HYV3ForCausalLM", "HYV4ForCausalLM",
    "HeliumForCausalLM", "HrmTextForCausalLM", "HunYuanDenseV1ForCausalLM", "HunYuanMoEV1ForCausalLM",
    "HyperCLOVAXForCausalLM", "Inkling2ForCausalLM", "InklingForCausalLM", "Jais2ForCausalLM",
    "Kolibri1ForCausalLM", "LagunaForCausalLM", "Lfm2ForCausalLM", "Lfm2MoeForCausalLM", "Lfm3ForCausalLM",
    "Llama4ForCausalLM", "LlamaForCausalLM", "MBartForCausalLM", "MarianForCausalLM", "MegatronBertForCausalLM",
    "MellumForCausalLM", "MiMoV2FlashForCausalLM", "MiniCPM3ForCausalLM", "MiniMaxM2ForCausalLM",
    "MiniMaxM3VLForCausalLM", "Ministral3ForCausalLM", "MinistralForCausalLM", "MistralForCausalLM",
    "MixtralForCausalLM", "MllamaForCausalLM", "ModernBertDecoderForCausalLM",
    "MossTranscribeDiarizeForConditionalGeneration", "MptForCausalLM", "MvpForCausalLM", "NanoChatForCausalLM",
    "NemotronForCausalLM", "OPTForCausalLM", "Olmo2ForCausalLM", "Olmo3ForCausalLM", "OlmoForCausalLM",
    "OlmoeForCausalLM", "PLBartForCausalLM", "PegasusForCausalLM", "PersimmonForCausalLM", "Phi3ForCausalLM",
    "Phi4MultimodalForCausalLM", "PhiForCausalLM", "PhimoeForCausalLM", "Qwen2ForCausalLM", "Qwen2MoeForCausalLM",
    "Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "RemBertForCausalLM", "RoCBertForCausalLM", "RobertaForCausalLM",
    "RobertaPreLayerNormForCausalLM", "SeedOssForCausalLM", "SmolLM3ForCausalLM", "SolarOpenForCausalLM",
    "StableLmForCausalLM", "Starcoder2ForCausalLM", "TrOCRForCausalLM", "VaultGemmaForCausalLM",
    "WhisperForCausalLM", "XGLMForCausalLM", "XLMRobertaForCausalLM", "XLMRobertaXLForCausalLM", "XmodForCausalLM",
    "YoutuForCausalLM",
})  # fmt: skip
"""A small random model of each agreed with transformers 5.23.0, by openvino-genai 2026.4.1."""
