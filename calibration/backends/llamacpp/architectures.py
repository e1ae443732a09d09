"""Which architectures llama.cpp has, which of them were tried, and which were tried and found wrong."""

import json
from pathlib import Path

RELEASES = Path(__file__).with_name("releases.json")

TRIED = frozenset({
    "ApertusForCausalLM", "ArceeForCausalLM", "BloomForCausalLM", "Cohere2ForCausalLM", "CohereForCausalLM",
    "Ernie4_5ForCausalLM", "Ernie4_5_MoeForCausalLM", "FalconForCausalLM", "FalconMambaForCausalLM", "GPT2LMHeadModel",
    "GPTBigCodeForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "GemmaForCausalLM", "GptOssForCausalLM",
    "GraniteForCausalLM", "GraniteMoeForCausalLM", "Lfm2ForCausalLM", "LlamaForCausalLM", "MPTForCausalLM",
    "Mamba2ForCausalLM", "MambaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "NemotronForCausalLM",
    "Olmo2ForCausalLM", "OlmoForCausalLM", "OlmoeForCausalLM", "Phi3ForCausalLM", "PhiForCausalLM", "Qwen2ForCausalLM",
    "Qwen2MoeForCausalLM", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "SeedOssForCausalLM", "SmolLM3ForCausalLM",
    "StableLmForCausalLM", "Starcoder2ForCausalLM",
    # Since the converter is the library's own.
    "Cohere2MoeForCausalLM", "DeepseekV2ForCausalLM", "GPTNeoXForCausalLM", "Glm4ForCausalLM", "Glm4MoeForCausalLM",
    "GraniteMoeSWAForCausalLM", "GraniteMoeSharedForCausalLM", "GraniteSWAForCausalLM", "HYV3ForCausalLM",
    "HrmTextForCausalLM", "Jais2ForCausalLM", "Llama4ForCausalLM", "Ministral3ForCausalLM", "MptForCausalLM",
    "Olmo3ForCausalLM",
})  # fmt: skip
"""Decoders of the converter's table, each tried as f32 on a small random model against transformers 5.23.0: scores
within 3e-5, or 0.01 where the activation is GELU, which ggml looks up in a table of float16."""

IN_FILES = frozenset({
    "apertus", "arcee", "bloom", "cohere2", "command-r", "ernie4_5", "ernie4_5-moe", "falcon", "lfm2", "mamba2", "mpt",
    "nemotron", "olmo", "olmoe", "phi2", "seed_oss", "smollm3", "stablelm", "starcoder",
    "cohere2moe", "glm4", "glm4moe", "gptneox", "granite_swa", "hrm_text", "hy_v3", "jais2", "llama4",
    "mistral3", "olmo2",
})  # fmt: skip
"""general.architecture in .gguf files of those decoders that only llama.cpp's own name tells."""

_ENCODERS = (
    "BertForMaskedLM", "BertForSequenceClassification", "BertModel", "CamembertModel", "DistilBertForMaskedLM",
    "DistilBertForSequenceClassification", "DistilBertModel", "EmbeddingGemma2Model", "EuroBertModel",
    "Gemma3TextModel", "JinaBertForMaskedLM", "JinaBertModel", "JinaEmbeddingsV5Model", "Lfm2BidirectionalForMaskedLM",
    "Lfm2BidirectionalModel", "LlamaBidirectionalModel", "ModernBertDecisionModel", "ModernBertForMaskedLM",
    "ModernBertForSequenceClassification", "ModernBertModel", "NeoBERT", "NeoBERTForSequenceClassification",
    "NeoBERTLMHead", "NomicBertModel", "RobertaForSequenceClassification", "RobertaModel", "T5EncoderModel",
    "XLMRobertaForSequenceClassification", "XLMRobertaModel", "bert", "eurobert", "gemma-embedding", "gemma-embedding2",
    "jina-bert-v2", "jina-bert-v3", "llama-embed", "modern-bert", "neo-bert", "nomic-bert", "nomic-bert-moe",
    "t5encoder",
)  # fmt: skip
_READ_WHOLE_FIRST = (
    "MT5ForConditionalGeneration", "T5ForConditionalGeneration", "T5WithLMHeadModel", "UMT5ForConditionalGeneration",
    "UMT5Model", "t5",
)  # fmt: skip
_DIFFUSE = (
    "DreamModel",
    "LLaDAMoEModel",
    "LLaDAMoEModelLM",
    "LLaDAModelLM",
    "RND1",
    "dream",
    "llada",
    "llada-moe",
    "rnd1",
)
_DRAFT = (
    "DFlash2DraftModel", "DFlashDraftModel", "DSparkDraftModel", "DSparkSpeculator", "DeepseekV4DSparkModel",
    "Eagle3DraftModel", "Eagle3LlamaForCausalLM", "Eagle3Speculator", "Gemma4AssistantForCausalLM", "Gemma4DSparkModel",
    "Gemma4UnifiedAssistantForCausalLM", "Lfm2DSparkDraftModel", "LingDSparkModel", "LlamaForCausalLMEagle3",
    "MuseGlimmerAssistantModel", "Qwen3DSparkModel", "dflash", "eagle3", "gemma4-assistant",
)  # fmt: skip
_SPEAK = ("Lfm25AudioTokenizer", "PocketTTSModel", "Qwen3TTSForConditionalGeneration", "WavTokenizerDec", "pockettts",
          "qwen3tts", "wavtokenizer-dec")  # fmt: skip

WRONG = {
    **dict.fromkeys(_ENCODERS, "it turns text into numbers and writes none"),
    **dict.fromkeys(_READ_WHOLE_FIRST, "an encoder reads the prompt before a decoder writes; only decoders are served"),
    **dict.fromkeys(_DIFFUSE, "it writes by diffusion, not token by token"),
    **dict.fromkeys(_DRAFT, "it drafts for another model and writes nothing alone"),
    **dict.fromkeys(_SPEAK, "it makes sound, not text"),
    "AfmoeForCausalLM": "its scores are off by 4 where they deviate by 2",
    "BambaForCausalLM": "its scores are off by 0.018 nats",
    "BitNetForCausalLM": "the converter rounds weights that transformers computes as they are",
    "DeepseekV4ForCausalLM": "the converter asks for num_hash_layers, which transformers 5.23.0 does not write",
    "KimiLinearForCausalLM": "the converter has no name for tensors that transformers 5.23.0 writes (block_sparse_moe)",
    "HYV4ForCausalLM": "the converter has no name for tensors that transformers 5.23.0 writes (model.hc_pre)",
}
"""Architectures of converter and loader that do not serve text token by token, or that were tried with xllamacpp
2026.10.11549 and found wrong: why."""


def released() -> frozenset[str]:
    """The architectures of all releases of the converter, and what was tried in files.

    Where the converter is installed its own table decides instead, and where another release is, `RELEASES` does.
    """
    names: dict[str, object] = json.loads(RELEASES.read_text(encoding="utf-8"))["architectures"]
    return frozenset(names) | IN_FILES


ARCHITECTURES = released()
