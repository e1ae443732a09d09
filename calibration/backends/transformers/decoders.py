"""Which classes of transformers are decoders, and what they are written for (5.23.0, models/*/modeling_*.py)."""

from calibration.backend import Model
from calibration.config_json import ConfigJson
from calibration.facts.variant import ClassFlag

SDPA = ClassFlag(
    name="_supports_sdpa",
    needed="a model written for scaled_dot_product_attention",
    without=frozenset({
        "BigBirdForCausalLM", "BigBirdPegasusForCausalLM", "BloomForCausalLM", "CodeGenForCausalLM",
        "CpmAntForCausalLM", "DeepseekV4ForCausalLM", "FalconMambaForCausalLM", "FlintForCausalLM", "GPTJForCausalLM",
        "GPTNeoForCausalLM", "GPTNeoXJapaneseForCausalLM", "Gemma2ForCausalLM", "GitForCausalLM",
        "GotOcr2ForConditionalGeneration", "GptOssForCausalLM", "GraniteMoeSWAForCausalLM", "GraniteSWAForCausalLM",
        "HYV4ForCausalLM", "Inkling2ForCausalLM", "Mamba2ForCausalLM", "MambaForCausalLM", "MegatronBertForCausalLM",
        "MiMoV2FlashForCausalLM", "MptForCausalLM", "MvpForCausalLM", "OpenAIGPTLMHeadModel", "ProphetNetForCausalLM",
        "ReformerModelWithLMHead", "RemBertForCausalLM", "RoFormerForCausalLM", "RwkvForCausalLM", "TrOCRForCausalLM",
        "VaultGemmaForCausalLM", "XGLMForCausalLM", "XLMWithLMHeadModel", "XLNetLMHeadModel", "xLSTMForCausalLM",
    }),
    source="transformers 5.23.0 modeling_utils.py (_sdpa_can_dispatch): from_pretrained refuses to load such a class",
)  # fmt: skip

_CACHELESS = "its forward takes neither past_key_values nor cache_params (transformers 5.23.0)"

WRONG = {
    "BltForCausalLM": "a forward that keeps keys and values asks its config for num_hidden_layers, which it has not"
    " (AttributeError, transformers 5.23.0 models/blt/modeling_blt.py)",
    "CpmAntForCausalLM": "its position biases do not fit a text that goes on from a cache (RuntimeError, transformers"
    " 5.23.0 models/cpmant/modeling_cpmant.py:129)",
    "Emu3ForConditionalGeneration": "its language model is built alone, and finds none of its weights: they are named"
    " text_model (transformers 5.23.0 conversion_mapping.py)",
    "Gemma4AssistantForCausalLM": _CACHELESS,
    "Gemma4UnifiedAssistantForCausalLM": _CACHELESS,
    "OpenAIGPTLMHeadModel": _CACHELESS,
    "ReformerModelWithLMHead": _CACHELESS,
    "RwkvForCausalLM": _CACHELESS,
    "XLMWithLMHeadModel": _CACHELESS,
    "XLNetLMHeadModel": _CACHELESS,
}
"""AutoModelForCausalLM builds them, but they do not go on from what is cached; or what it builds is not the model."""

_ENCODERS = frozenset({
    "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert",
    "reformer", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl",
    "xmod",
})  # fmt: skip
"""Model types whose tokens see those after them, too, unless config.json says that they are decoders."""


def attention_reasons(model: Model, implementation: str) -> list[str]:
    """Why an implementation of attention does not compute a model, though its class has it."""
    if implementation != "eager" or model.model_type != "falcon" or not ConfigJson.read(model.folder).flag("alibi"):
        return []
    # models/falcon/modeling_falcon.py:763 puts ALiBi into the mask, and :394 adds it to the scores, too.
    return ["needs scaled_dot_product_attention for Falcon's ALiBi, which eager attention adds twice; found eager"]


def decoder_reasons(model: Model) -> list[str]:
    """Why AutoModelForCausalLM does not build a decoder of a model."""
    if model.model_type not in _ENCODERS or ConfigJson.read(model.folder).flag("is_decoder"):
        return []
    return [f"needs is_decoder true, without which {model.architecture} attends to later tokens; found false"]
