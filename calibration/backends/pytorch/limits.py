"""What LMDeploy's PyTorch engine loads and then computes wrong, or stops at while loading (lmdeploy 0.18.0)."""

from collections.abc import Callable
from math import isclose, log, sqrt

from calibration.backend import Model
from calibration.backends.pytorch.architectures import GEMMA, SPARSE_MLA, V4
from calibration.backends.pytorch.case import Case
from calibration.backends.pytorch.needs import MODEL_TYPES
from calibration.backends.pytorch.quant_limits import QUANT_LIMITS
from calibration.config_json import ConfigJson, shown, unnamed_ends

NEVER_TIED = frozenset(
    {
        "ChatGLMForConditionalGeneration",
        "CogVLMForCausalLM",
        "DeepseekForCausalLM",
        "Glm4MoeForCausalLM",
        "KimiK25ForConditionalGeneration",
        "Kimi_K25ForConditionalGeneration",
        "Llama4ForConditionalGeneration",
        "MistralForCausalLM",
        "MixtralForCausalLM",
        "PhiMoEForCausalLM",
    }
)
"""They have an lm_head of their own, skip that of a tied checkpoint, and take over no embeddings, as the others do in
update_weights (models/utils/model.py:134): models/mistral.py:387, mixtral.py:357, chatglm2.py:829, cogvlm.py:769,
deepseek.py:489, glm4_moe.py:591, kimi_k2_language.py:1307, llama4.py:992, phi3_moe.py:433. Found by loading of the
Mistrals."""

OWN_HEAD_DIM = frozenset({"InternLM2ForCausalLM", "MixtralForCausalLM", "PhiMoEForCausalLM"})
"""models/internlm2.py:28, mixtral.py:28, phi3_moe.py:83 compute it from the hidden size."""

POSITIONS = "original_max_position_embeddings"
PHI3_POSITIONS = 4096
"""What Phi-3's configuration class has as original_max_position_embeddings where config.json says nothing."""


def limits(model: Model, capability: tuple[int, int] | None = None) -> list[str]:
    """`needs X; found Y`, once for each limit that a model is beyond."""
    case = Case(model=model, config=ConfigJson.read(model.folder).language_model(), capability=capability)
    return [reason for limit in _LIMITS if (reason := limit(case))]


def _tied_gemma(case: Case) -> str | None:
    model = case.model
    if model.architecture in GEMMA and not model.tie_word_embeddings:
        # models/gemma.py:596-620 drops lm_head and takes the embeddings: wrong tokens, no error.
        return "needs Gemma with tied embeddings; found an lm_head of its own, which it drops"
    return None


def _tied(case: Case) -> str | None:
    model = case.model
    if model.architecture in NEVER_TIED and model.tie_word_embeddings:
        return "needs an lm_head of its own in the checkpoint; found tied embeddings, which it leaves out"
    return None


def _head_dim(case: Case) -> str | None:
    model = case.model
    if model.architecture not in OWN_HEAD_DIM or model.unknown & {"heads", "head_dim"}:
        return None
    if model.head_dim * model.heads == model.hidden_size:
        return None
    return f"needs head_dim = hidden size / heads, which it computes; found {model.head_dim}"


def _longrope_scale(case: Case) -> str | None:
    """It scales attention by how far the positions were extended, and by nothing else.

    backends/default/rotary_embedding.py:285; transformers heeds `attention_factor` and `factor`.
    """
    model, config = case.model, case.config
    if model.rope_type not in ("longrope", "su") or not model.max_position:
        return None
    rope = next((table for name in ("rope_parameters", "rope_scaling") if (table := config.table(name)).fields), config)
    beside = PHI3_POSITIONS if config.text("model_type", "") == "phi3" else 0
    original = config.number(POSITIONS, beside) or rope.number(POSITIONS, 0)
    if original <= 1:
        return None
    extended = model.max_position / original
    factor = rope.number("factor", 0) or extended
    scale = rope.number("attention_factor", 0) or _longrope(factor, original)
    if isclose(scale, used := _longrope(extended, original), rel_tol=1e-3):
        return None
    return f"needs attention scaled by {used:.4g}, as for positions extended {extended:g} times; found {scale:.4g}"


def _longrope(factor: float, original: float) -> float:
    return sqrt(1 + log(factor) / log(original)) if factor > 1 else 1.0


def _model_type(case: Case) -> str | None:
    known = MODEL_TYPES.get(case.model.architecture)
    written = case.config.text("model_type", "none")
    if not known or not case.config.fields or written in known:
        return None
    return f"needs model_type {' or '.join(sorted(known))} for {case.model.architecture}; found {written}"


def _expert_dtype(case: Case) -> str | None:
    if case.model.architecture not in V4 or not case.config.fields:
        return None
    # models/deepseek_v4.py:577 builds no other experts, and :60-75 reads the names that such checkpoints have.
    written = case.config.text("expert_dtype", "none")
    return None if written == "fp4" else f"needs experts in fp4 (expert_dtype); found {written}"


def _sparse_attention(case: Case) -> str | None:
    capability = case.capability
    if case.model.architecture not in SPARSE_MLA | V4 or capability is None or capability >= (9, 0):
        return None
    # configurations/utils.py:16-18 looks for flash_mla from there on, and deepseek_v32.py:41 asserts that it is found;
    # backends/cuda/attention/v4.py calls it, whose kernels are for 9.0 and newer.
    return f"needs compute capability 9.0 or newer for sparse MLA; found {capability[0]}.{capability[1]}"


def _experts_everywhere(case: Case) -> str | None:
    """models/qwen3_moe.py hands every layer `all_routed_experts`, which its dense layers do not take: TypeError."""
    if case.model.architecture != "Qwen3MoeForCausalLM":
        return None
    if (step := case.config.whole("decoder_sparse_step", 1)) != 1:
        return f"needs experts in every layer (decoder_sparse_step 1); found {step}"
    if dense_layers := case.config.rows("mlp_only_layers"):
        return f"needs experts in every layer; found dense layers {shown(dense_layers)}"
    return None


def _activation(case: Case) -> str | None:
    """Every language model computes SiluAndMul whatever hidden_act says (models/llama.py:131, qwen3_moe.py by
    nn/moe), but Gemma's (models/gemma.py:239). Found by loading of Llama, Mistral, Phi 3 and Qwen 2.
    """
    activation = case.config.text("hidden_act", "silu")
    if case.model.architecture in GEMMA or activation in ("silu", "swish"):
        return None
    return f"needs hidden_act silu; found {activation}"


def _end_token(case: Case) -> str | None:
    """lmdeploy/tokenizer.py:52-58: a tokenizer without eos_token gets the ids of generation_config.json as one."""
    return unnamed_ends(case.model.folder)


_LIMITS: tuple[Callable[[Case], str | None], ...] = (
    _tied_gemma,
    _tied,
    _head_dim,
    _longrope_scale,
    _model_type,
    _expert_dtype,
    _sparse_attention,
    _experts_everywhere,
    _activation,
    _end_token,
    *QUANT_LIMITS,
)
