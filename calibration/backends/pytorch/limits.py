"""What LMDeploy's PyTorch engine loads and then computes wrong, or stops at while loading (lmdeploy 0.18.0)."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isclose, log, sqrt

from calibration.backend import Model
from calibration.backends.pytorch.needs import MODEL_TYPES, SPARSE_MLA, V4
from calibration.config_json import ConfigJson, shown, unnamed_ends

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

NEVER_TIED = frozenset(
    {
        "DeepseekForCausalLM",
        "Glm4MoeForCausalLM",
        "Llama4ForConditionalGeneration",
        "MistralForCausalLM",
        "MixtralForCausalLM",
        "PhiMoEForCausalLM",
    }
)
"""They have an lm_head of their own, skip that of a tied checkpoint, and take over no embeddings, as the others do in
update_weights (models/utils/model.py:134): models/mistral.py:387, mixtral.py:357. Found by loading of the Mistrals."""

ALWAYS_SILU = frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Phi3ForCausalLM", "Qwen2ForCausalLM"})
"""They compute SiluAndMul whatever hidden_act says: models/llama.py:131, mistral.py:131, phi3.py:126, qwen2.py:123."""

OWN_HEAD_DIM = frozenset({"InternLM2ForCausalLM", "MixtralForCausalLM", "PhiMoEForCausalLM"})
"""models/internlm2.py:28, mixtral.py:28, phi3_moe.py:83 compute it from the hidden size."""

POSITIONS = "original_max_position_embeddings"
PHI3_POSITIONS = 4096
"""What Phi-3's configuration class has as original_max_position_embeddings where config.json says nothing."""

READ = ("awq", "smooth_quant", "fp8", "compressed-tensors")
"""pytorch/config.py:855-880"""

WRITTEN = ("num_bits", "group_size", "strategy", "symmetric", "dynamic", "type")
"""Of compressed-tensors' weights: for all of these config.py:33-48 takes no default. Which values, the facts tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What a limit looks at."""

    model: Model
    config: ConfigJson
    """config.json with the inner language model's fields over the outer ones."""
    capability: tuple[int, int] | None
    """Of the GPU; None where it is not known."""

    @property
    def quant(self) -> ConfigJson:
        """The quantization_config; empty where config.json has none."""
        return self.config.table("quantization_config")


def limits(model: Model, capability: tuple[int, int] | None = None) -> list[str]:
    """`needs X; found Y`, once for each limit that a model is beyond."""
    case = _Case(model=model, config=ConfigJson.read(model.folder).language_model(), capability=capability)
    return [reason for limit in _LIMITS if (reason := limit(case))]


def _tied_gemma(case: _Case) -> str | None:
    model = case.model
    if model.architecture in GEMMA and not model.tie_word_embeddings:
        # models/gemma.py:596-620 drops lm_head and takes the embeddings: wrong tokens, no error.
        return "needs Gemma with tied embeddings; found an lm_head of its own, which it drops"
    return None


def _tied(case: _Case) -> str | None:
    model = case.model
    if model.architecture in NEVER_TIED and model.tie_word_embeddings:
        return "needs an lm_head of its own in the checkpoint; found tied embeddings, which it leaves out"
    return None


def _head_dim(case: _Case) -> str | None:
    model = case.model
    if model.architecture not in OWN_HEAD_DIM or model.unknown & {"heads", "head_dim"}:
        return None
    if model.head_dim * model.heads == model.hidden_size:
        return None
    return f"needs head_dim = hidden size / heads, which it computes; found {model.head_dim}"


def _longrope_scale(case: _Case) -> str | None:
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


def _model_type(case: _Case) -> str | None:
    known = MODEL_TYPES.get(case.model.architecture)
    written = case.config.text("model_type", "none")
    if not known or not case.config.fields or written in known:
        return None
    return f"needs model_type {' or '.join(sorted(known))} for {case.model.architecture}; found {written}"


def _expert_dtype(case: _Case) -> str | None:
    if case.model.architecture not in V4 or not case.config.fields:
        return None
    # models/deepseek_v4.py:577 builds no other experts, and :60-75 reads the names that such checkpoints have.
    written = case.config.text("expert_dtype", "none")
    return None if written == "fp4" else f"needs experts in fp4 (expert_dtype); found {written}"


def _sparse_attention(case: _Case) -> str | None:
    capability = case.capability
    if case.model.architecture not in SPARSE_MLA | V4 or capability is None or capability >= (9, 0):
        return None
    # configurations/utils.py:16-18 looks for flash_mla from there on, and deepseek_v32.py:41 asserts that it is found;
    # backends/cuda/attention/v4.py calls it, whose kernels are for 9.0 and newer.
    return f"needs compute capability 9.0 or newer for sparse MLA; found {capability[0]}.{capability[1]}"


def _experts_everywhere(case: _Case) -> str | None:
    """models/qwen3_moe.py hands every layer `all_routed_experts`, which its dense layers do not take: TypeError."""
    if case.model.architecture != "Qwen3MoeForCausalLM":
        return None
    if (step := case.config.whole("decoder_sparse_step", 1)) != 1:
        return f"needs experts in every layer (decoder_sparse_step 1); found {step}"
    if dense_layers := case.config.rows("mlp_only_layers"):
        return f"needs experts in every layer; found dense layers {shown(dense_layers)}"
    return None


def _activation(case: _Case) -> str | None:
    """Found by loading: these compute SiLU whatever the configuration says (models/llama.py, phi3.py, qwen2.py)."""
    activation = case.config.text("hidden_act", "silu")
    if case.model.architecture not in ALWAYS_SILU or activation in ("silu", "swish"):
        return None
    return f"needs hidden_act silu; found {activation}"


def _end_token(case: _Case) -> str | None:
    """lmdeploy/tokenizer.py:52-58: a tokenizer without eos_token gets the ids of generation_config.json as one."""
    return unnamed_ends(case.model.folder)


def _declared(case: _Case) -> str | None:
    """config.py:822-830 looks into config.json alone, and takes the method's name letter by letter."""
    model = case.model
    if model.quant.method not in READ or not case.config.fields:
        return None
    if not case.quant.fields:
        return "needs the format in config.json's quantization_config, which alone is read; found it elsewhere"
    written = case.quant.text("quant_method", "none")
    if written == model.quant.method:
        return None
    return f"needs quant_method {model.quant.method}, so written; found {written}"


def _awq_experts(case: _Case) -> str | None:
    model = case.model
    if model.quant.method == "awq" and model.experts:
        return f"needs a dense model for awq; found {model.experts} experts"
    return None


def _awq_layout(case: _Case) -> str | None:
    model = case.model
    if model.quant.method != "awq":
        return None
    if "group_size" in case.quant.fields and case.quant.fields["group_size"] is None:
        return "needs a number as quantization_config.group_size, or none at all; found null"  # config.py:858
    if (model.quant.version or "gemm").lower() != "gemm":
        return f"needs awq weights packed for gemm; found {model.quant.version}"  # the version is never read
    group = model.quant.group_size or 128
    # nn/linear/awq.py:153, 355 splits outputs by whole groups, too.
    for what, size in (
        ("hidden size", model.hidden_size),
        ("intermediate size", model.intermediate_size),
        ("heads x head_dim", model.heads * model.head_dim),
        ("kv heads x head_dim", model.kv_heads * model.head_dim),
    ):
        if group > 0 and size % group:
            return f"needs {what} divisible by {group} for awq; found {size}"
    return None


def _compressed_tensors(case: _Case) -> str | None:
    if case.model.quant.method != "compressed-tensors":
        return None
    groups = case.quant.table("config_groups").tables()
    if set(groups) != {"group_0"}:
        return f"needs config_groups.group_0 alone; found {shown(list(groups))}"
    group = groups["group_0"]
    targets = group.rows("targets")
    if targets != ["Linear"]:
        return f"needs group_0 to target Linear; found {shown(targets)}"
    if group.table("input_activations").fields or group.table("output_activations").fields:
        return "needs quantized weights alone; found quantized activations"
    if (status := case.quant.text("quantization_status", "none")) != "compressed":
        return f"needs quantization_status compressed; found {status}"
    if case.quant.text("format", "none") == "none":
        return "needs the format in quantization_config itself; found none"
    weights = group.table("weights")
    if missing := [name for name in WRITTEN if weights.fields.get(name) is None]:
        return f"needs {missing[0]} in config_groups.group_0.weights; found none"
    if weights.flag("dynamic") or weights.text("type", "int") != "int":
        return "needs integer weights with static scales; found others"
    return None


_LIMITS: tuple[Callable[[_Case], str | None], ...] = (
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
    _declared,
    _awq_experts,
    _awq_layout,
    _compressed_tensors,
)
