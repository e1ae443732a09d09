"""What ONNX Runtime GenAI's model builder does not build, or builds as something else (onnxruntime-genai 0.18.0)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from calibration.backend import Model, QuantFact
from calibration.config_json import ConfigJson

TRIED = frozenset({
    "Ernie4_5ForCausalLM", "Gemma2ForCausalLM", "GemmaForCausalLM", "GraniteForCausalLM", "HunYuanDenseV1ForCausalLM",
    "Lfm2ForCausalLM", "LlamaForCausalLM", "MistralForCausalLM", "NemotronForCausalLM", "Phi3ForCausalLM",
    "PhiForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM",
})  # fmt: skip
"""Decoders whose scores were compared with those of transformers 5.23.0, on small random models."""

WRONG = {
    "Gemma3ForCausalLM": "its builder reads one rope_type for all layers, where transformers 5 has one for each kind"
    " (KeyError, onnxruntime-genai 0.18.0)",
    "Lfm2AudioForConditionalGeneration": "its decoder takes speech as well as text",
    "OlmoForCausalLM": "its builder writes RMS norms for OLMo's layer norms, and scores are off by more than their"
    " deviation (onnxruntime-genai 0.18.0)",
    "PhiMoEForCausalLM": "its builder writes a graph for CUDA alone (onnxruntime-genai 0.18.0)",
    "WhisperForConditionalGeneration": "it writes down speech, and continues no text",
}
"""The builder has them, but what comes out is not the model, or nothing comes out."""

QUANTS = (
    # Of gptq_v2 the zero points are one less than it takes them for: scores are those of another model.
    QuantFact(
        method="gptq",
        bits=frozenset({2, 4, 8}),
        versions=frozenset({"gptq"}),
        source="onnxruntime-genai 0.18.0 models/loaders/gptq.py",
    ),
    QuantFact(method="awq", bits=frozenset({4}), source="onnxruntime-genai 0.18.0 models/loaders/awq.py"),
    # The experts alone, and no others are so published. transformers decodes them for fp32, the builder for the rest.
    QuantFact(
        method="mxfp4",
        architectures=frozenset({"GptOssForCausalLM"}),
        packages=("accelerate>=1.1",),
        source="onnxruntime-genai 0.18.0 models/builders/gptoss.py (make_moe_preprocessing), models/loaders/gptoss.py",
    ),
)
OWN_CODES = frozenset({"gptq", "awq"})
"""Methods of checkpoints whose codes the builder takes over in int4: compared of Llama, Qwen 2, Qwen 3 and Gemma 2."""

WINDOWED = frozenset({"Gemma2ForCausalLM", "GptOssForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})
"""Architectures whose config tells by layer_types which layers have the window: the builder follows that. Mistral and
Phi3 have it in all layers: it writes the window into the cache's size alone, and a longer prompt fails."""

_ROTATIONS = {
    "HunYuanDenseV1ForCausalLM": frozenset({"default", "dynamic"}),
    "LlamaForCausalLM": frozenset({"default", "dynamic", "llama3"}),
    "NemotronForCausalLM": frozenset({"default", "dynamic", "llama3"}),
    "SmolLM3ForCausalLM": frozenset({"default", "dynamic", "llama3"}),
}
"""Builders that read these kinds of rotation alone, and compute every other as the default (make_rope_init), which
`dynamic` is up to the model's positions."""
_USUAL_ROTATIONS = frozenset({"default", "linear", "yarn"})
"""Of all others; `mrope` belongs to models that see."""
_PART_ROTATED = {"NemotronForCausalLM": 0.5, "Phi3ForCausalLM": 1.0, "PhiForCausalLM": 0.5}
"""Architectures that rotate a part of each head, and the part that transformers takes where config.json tells none. The
builder does it for any architecture; transformers only for these."""
_ROTATED_APART = frozenset({"HunYuanDenseV1ForCausalLM"})
"""Architectures whose heads are rotated by an operator of its own; others in GroupQueryAttention."""

_ACTIVATIONS = frozenset({
    "gegelu", "geglu", "gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "relu", "relu2", "silu", "swiglu", "swish",
})  # fmt: skip
"""builders/base.py, make_activation."""

_TAKEN_EPSILON = 1e-6
_LARGEST_EPSILON = 1e-4
"""Beside the variance of hidden states an epsilon below it makes no difference; published models have 1e-5 or less."""
_EPSILONS = {"NemotronForCausalLM": "norm_eps", "PhiForCausalLM": "layer_norm_eps"}
"""Architectures whose epsilon the builder does not read: it reads rms_norm_eps."""

_UNREAD_FLAGS = {"NemotronForCausalLM": "mlp_bias", "PhiForCausalLM": "qk_layernorm"}
"""Flags that must be false, since the builder leaves out what they add."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What a limit looks at."""

    model: Model
    config: ConfigJson

    @property
    def rotation(self) -> ConfigJson:
        """The parameters of the rotation, in either style of config.json."""
        parameters = self.config.table("rope_parameters")
        return parameters if parameters.fields else self.config.table("rope_scaling")

    @property
    def part(self) -> float:
        """Of a head, that is rotated."""
        usual = _PART_ROTATED.get(self.model.architecture, 1.0)
        return self.rotation.number("partial_rotary_factor", self.config.number("partial_rotary_factor", usual))


def limits(model: Model) -> list[str]:
    """`needs X; found Y`, once for each limit that a model is beyond."""
    case = _Case(model=model, config=ConfigJson.read(model.folder))
    return [reason for limit in _LIMITS if (reason := limit(case))]


def _rotation(case: _Case) -> str | None:
    name, kind = case.model.architecture, case.model.rope_type
    if name == "Phi3ForCausalLM" or kind == "none":
        return None
    read = _ROTATIONS.get(name, _USUAL_ROTATIONS)
    if kind in read:
        return None
    return f"needs rope type {' or '.join(sorted(read))} in {name}; found {kind}"


def _long_rotation(case: _Case) -> str | None:
    """Phi3's builder takes the one rotation where both lengths are equal, and the other where they are not."""
    model = case.model
    if model.architecture != "Phi3ForCausalLM" or model.max_position <= 0:
        return None
    original = case.config.whole("original_max_position_embeddings", 4096)
    is_long = model.max_position != original
    if is_long is (model.rope_type == "longrope"):
        return None
    needed = "longrope" if is_long else "default"
    return (
        f"needs rope type {needed} where max_position_embeddings is {model.max_position} and"
        f" original_max_position_embeddings {original}; found {model.rope_type}"
    )


def _long_scale(case: _Case) -> str | None:
    """Phi3's builder multiplies cosines and sines by what the two lengths give, and reads no factor."""
    model, rotation = case.model, case.rotation
    original = case.config.whole("original_max_position_embeddings", 4096)
    if model.rope_type != "longrope" or model.max_position <= 0 or original <= 1:
        return None
    ratio = model.max_position / original
    factor = rotation.number("factor", None) or ratio
    taken, usual = (math.sqrt(1 + math.log(each) / math.log(original)) if each > 1 else 1.0 for each in (ratio, factor))
    right = rotation.number("attention_factor", None) or usual
    if math.isclose(taken, right, rel_tol=1e-4):
        return None
    return f"needs an attention factor of {taken:.4g}, which it takes for this longrope; found {right:.4g}"


def _yarn(case: _Case) -> str | None:
    """The builder computes YaRN's range of dimensions without rounding it, and reads no attention_factor."""
    rotation, model = case.rotation, case.model
    if model.rope_type != "yarn" or model.architecture in _ROTATIONS:
        return None
    factor = rotation.number("factor", None)
    fast, slow = rotation.number("beta_fast", None), rotation.number("beta_slow", None)
    if not factor or not fast or not slow or min(factor, fast, slow) < 0:
        return "needs factor, beta_fast and beta_slow of YaRN, since it has no defaults for them; found not all of them"
    if rotation.fields.get("truncate") is None or rotation.flag("truncate"):
        return "needs a YaRN with truncate false, since it does not round the range of dimensions; found true"
    if (scale := _yarn_scale(rotation, factor)) is not None:
        return scale
    original = rotation.number("original_max_position_embeddings", model.max_position)
    original = case.config.number("original_max_position_embeddings", original)
    theta, half = model.rope_theta or 1e4, model.head_dim / 2
    if original <= 0 or theta <= 1 or half <= 0:
        return None
    low, high = (half * math.log(original / (beta * 2 * math.pi)) / math.log(theta) for beta in (fast, slow))
    if 0 < low < high < half - 1:
        return None
    return f"needs a YaRN whose range of dimensions lies within 0 to {half - 1:g}; found {low:.3g} to {high:.3g}"


def _yarn_scale(rotation: ConfigJson, factor: float) -> str | None:
    """What cosines and sines are multiplied by, where the builder takes another than transformers."""
    mscale, of_all = rotation.number("mscale", 0) or 0, rotation.number("mscale_all_dim", 0) or 0
    usual = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
    both = mscale > 0 and of_all > 0 and factor > 1
    right = (0.1 * mscale * math.log(factor) + 1) / (0.1 * of_all * math.log(factor) + 1) if both else usual
    taken = mscale if mscale > 0 and of_all <= 0 else right
    right = rotation.number("attention_factor", right)
    if math.isclose(taken, right, rel_tol=1e-4):
        return None
    return f"needs an attention factor of {taken:.4g}, which it takes for this YaRN; found {right:.4g}"


def _rotated_part(case: _Case) -> str | None:
    name = case.model.architecture
    by_yarn = case.model.rope_type == "yarn" and name not in _ROTATIONS
    if case.part == 1 or (name in _PART_ROTATED and not by_yarn):
        return None
    return f"needs partial_rotary_factor 1 in {name}; found {case.part:g}"


def _rotated_numbers(case: _Case) -> str | None:
    """GroupQueryAttention: "head_size shall be a multiple of 16", "cos_cache dimension 1 must be a multiple of 8"."""
    model = case.model
    if "head_dim" in model.unknown:
        return None
    if model.head_dim % 16:
        return f"needs a head_dim that 16 divides; found {model.head_dim}"
    rotated = int(model.head_dim * case.part)
    if rotated % 16 == 0 or model.rope_type == "none" or model.architecture in _ROTATED_APART:
        return None
    return f"needs a multiple of 16 rotated numbers a head; found {rotated}"


def _unrotated_layers(case: _Case) -> str | None:
    """A layer without rotation asks for positions, which the graph is not given (KeyError: position_ids)."""
    if case.model.architecture != "SmolLM3ForCausalLM":
        return None
    told = case.config.rows("no_rope_layers")
    interval = case.config.whole("no_rope_layer_interval", 4)
    if all(told) if told else interval > case.model.layers:
        return None
    return "needs rotation in every layer; found layers without it (no_rope_layers)"


def _hybrid(case: _Case) -> str | None:
    """Of GraniteMoeHybrid the builder writes attention and the shared MLP, and nothing else."""
    if case.model.architecture != "GraniteMoeHybridForCausalLM":
        return None
    if case.config.whole("num_local_experts", 8):
        return "needs num_local_experts 0, since it writes the shared MLP alone; found experts"
    if case.config.text("position_embedding_type", "nope") != "rope":
        return "needs position_embedding_type rope, which it writes for all; found another or none"
    kinds = {str(kind) for kind in case.config.rows("layer_types")} or {"mamba"}
    if kinds <= {"attention", "full_attention"}:
        return None
    return "needs attention in every layer; found other kinds"


def _routing(case: _Case) -> str | None:
    if case.model.architecture != "Lfm2MoeForCausalLM" or case.config.fields.get("norm_topk_prob") is not False:
        return None
    return "needs norm_topk_prob true, since the routing weights are always normalised; found false"


def _activation(case: _Case) -> str | None:
    if case.model.architecture.startswith("Lfm2"):
        return None  # silu, whatever the config says
    activation = case.config.text("hidden_activation", case.config.text("hidden_act", None))
    if activation is None or activation in _ACTIVATIONS:
        return None
    return f"needs an activation of {', '.join(sorted(_ACTIVATIONS))}; found {activation}"


def _epsilon(case: _Case) -> str | None:
    name = _EPSILONS.get(case.model.architecture)
    epsilon = case.config.number(name, None) if name else None
    if epsilon is None or epsilon <= _LARGEST_EPSILON:
        return None
    return f"needs {name} {_TAKEN_EPSILON:g}, which the builder takes; found {epsilon:g}"


def _unread(case: _Case) -> str | None:
    name = _UNREAD_FLAGS.get(case.model.architecture)
    if name and case.config.flag(name):
        return f"needs {name} false, since the builder leaves out what it adds; found true"
    return None


def _group_size(case: _Case) -> str | None:
    """models/loaders/base.py:254 reads it as it stands, and divides by it; -1 is a whole column."""
    quant = case.config.table("quantization_config")
    if case.model.quant.method not in OWN_CODES or not quant.fields or quant.whole("group_size", None) is not None:
        return None
    return "needs a number as quantization_config.group_size; found none"


_LIMITS: tuple[Callable[[_Case], str | None], ...] = (
    _group_size,
    _rotation,
    _long_rotation,
    _long_scale,
    _yarn,
    _rotated_part,
    _rotated_numbers,
    _unrotated_layers,
    _hybrid,
    _routing,
    _activation,
    _epsilon,
    _unread,
)
