"""Parameters: how many numbers a model has, estimated from its shape.

Within 1 % of what transformers allocates for nine classes in ten; tests/selector/model/transformers/truths.py has those
that are more than 5 % off.
"""

from dataclasses import dataclass
from typing import Final

from selector.model.fields import Fields
from selector.model.shape.limits import MOST, MOST_LAYERS
from selector.model.shape.mixer_parameters import BIASED, SHARED_BLOCKS, mixer_parameters, shared_blocks
from selector.model.shape.shape import Shape

_BERTS: Final = frozenset({
    "bert", "bert-generation", "big_bird", "blip_text_model", "camembert", "data2vec-text", "electra", "ernie", "git",
    "megatron-bert", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta",
    "xlm-roberta-xl", "xmod",
})  # fmt: skip
_DECODERS: Final = frozenset({
    "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "marian", "mbart", "musicgen_decoder",
    "musicgen_melody_decoder", "mvp", "pegasus", "plbart", "pp_formulanet_text", "prophetnet", "trocr", "whisper",
})  # fmt: skip
"""Decoders of models that have an encoder as well."""

_PLAIN_MLP: Final = _BERTS | _DECODERS | {
    "apertus", "arcee", "biogpt", "bloom", "codegen", "cosmos3_edge_text", "ctrl", "falcon", "gpt2", "gpt_bigcode",
    "gpt_neo", "gpt_neox", "gpt_neox_japanese", "gptj", "jais2", "kosmos_2_5_text_model", "kosmos_2_text_model", "mpt",
    "nanochat", "nemotron", "nemotron_h", "openai-gpt", "opt", "persimmon", "phi", "reformer", "rwkv", "starcoder2",
    "xglm", "xlm", "xlnet",
}  # fmt: skip
"""Model types whose MLP has two matrices; all others have a gate as well (transformers 5.23)."""

_HALVED_MLP: Final = frozenset({"kyutai_speech_to_text", "moshi", "recurrent_gemma"})
"""Model types whose intermediate_size counts the gate and what it is multiplied with."""

_POSITIONED: Final = _BERTS | _DECODERS - {"blenderbot-small"} | {
    "biogpt", "gpt2", "gpt_bigcode", "gpt_neo", "openai-gpt", "opt", "xglm", "xlm"
}  # fmt: skip
"""Model types with a learned embedding per position."""

_HEADED: Final = _BERTS - {"bert-generation", "git", "xlm-roberta-xl"}
"""Model types with a square matrix before the output embedding."""


_GATED_VISION: Final = frozenset({"glm_ocr_vision", "kosmos_2_5_vision_model", "pixtral"})
"""Vision parts whose MLP has a gate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Numbers in the parts of a model, which quantization treats differently."""

    embedding: int
    """Input and output embeddings, positions, norms, vision."""
    attention: int
    mlp: int
    """Dense MLPs, shared experts, routers."""
    experts: int

    @property
    def total(self) -> int:
        return self.embedding + self.attention + self.mlp + self.experts


def estimate(config: Fields, model_type: str, shape: Shape, *, tied: bool, vision: Fields | None) -> Parameters:
    """Estimate the parameters of a model.

    Args:
        config: The fields of the language model.
        model_type: Of the language model.
        shape: Its shape.
        tied: The output embedding is the input embedding.
        vision: The fields of the vision part where there is one.

    Raises:
        ModelError: a field that only the estimate reads is absurd.
    """
    mlps = shape.layers.mlps
    dense, moe, experts = _mlp(config, model_type, shape)
    per_mlp = {"dense": dense, "moe": moe, "both": dense + moe, "matrix": shape.hidden**2, "none": 0}
    mlp = sum(per_mlp[kind] for kind in mlps)
    if shape.intermediate_by_layer and shape.intermediate:
        widths = zip(shape.intermediate_by_layer, mlps, strict=True)
        narrower = [shape.intermediate - width for width, kind in widths if kind in {"dense", "both"}]
        mlp -= dense * sum(narrower) // shape.intermediate
    if model_type in SHARED_BLOCKS:
        mlp = dense * shared_blocks(config)
    attention = mixer_parameters(config, model_type, shape)
    if model_type == "hrm_text":  # two stacks of layers that run several times
        stored, layers = 2 * config.whole("num_layers_per_stack", most=MOST_LAYERS, default=16), len(mlps)
        attention, mlp = attention * stored // layers, mlp * stored // layers
    return Parameters(
        embedding=_embedding(config, model_type, shape, tied=tied) + (_vision(vision, shape.hidden) if vision else 0),
        attention=attention,
        mlp=mlp,
        experts=sum(kind in {"moe", "both"} for kind in mlps) * experts,
    )


def _embedding(config: Fields, model_type: str, shape: Shape, *, tied: bool) -> int:
    """Embeddings of words and positions, those that single layers have, and norms."""
    layers = len(shape.layers.mixers)
    # ELECTRA, RemBERT and OPT embed words in fewer numbers than the layers compute in.
    width = config.whole(
        "embedding_size", "input_embedding_size", "word_embed_proj_dim", most=MOST, default=shape.hidden
    )
    output = config.whole("output_embedding_size", most=MOST, default=width)
    embedding = shape.vocab * (width if tied else width + output)
    embedding += shape.hidden * (width + output) if width != shape.hidden else 0
    if model_type in _POSITIONED:
        embedding += shape.max_position * width
    if model_type in _HEADED:
        embedding += shape.hidden**2
    per_layer = config.whole("hidden_size_per_layer_input", least=0, most=MOST, default=0)  # Gemma 3n, 4
    if per_layer:
        words = config.whole("vocab_size_per_layer_input", most=MOST, default=shape.vocab)
        embedding += layers * per_layer * (words + 3 * shape.hidden)
    return embedding + (2 * layers + 1) * shape.hidden * (2 if model_type in BIASED else 1)


def _mlp(config: Fields, model_type: str, shape: Shape) -> tuple[int, int, int]:
    """Of one layer: a dense MLP; the router and shared experts of a mixture; its other experts."""
    hidden = shape.hidden
    matrices = 2 if model_type in _PLAIN_MLP else 3
    dense_width = _dense_width(config, model_type, shape)
    dense = matrices * hidden * dense_width
    if model_type in BIASED:
        dense += dense_width + hidden
    if not shape.experts:
        return dense, 0, 0
    inside = config.whole(
        "moe_latent_size", "routed_expert_hidden_size", "moe_hidden_size", least=0, most=MOST, default=0
    )
    shared = config.whole(
        "moe_shared_expert_intermediate_size",
        "shared_expert_intermediate_size",
        "share_expert_dim",
        "shared_intermediate_size",
        least=0,
        most=MOST,
        default=None,
    )
    names = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
    number = config.whole(*names, least=0, most=MOST, default=0)
    if shared is None or model_type == "nemotron_h":
        shared = (shared or shape.expert_intermediate) * number
    if model_type.startswith("llama4"):
        shared = shape.expert_intermediate
    beside = matrices * hidden * shared + shape.experts * hidden + 2 * hidden * inside
    expert = matrices * (inside or hidden) * shape.expert_intermediate
    if model_type == "gpt_oss":
        expert += 2 * shape.expert_intermediate + hidden
    return dense, beside, shape.experts * expert


def _dense_width(config: Fields, model_type: str, shape: Shape) -> int:
    """How wide the matrices of a dense MLP are, which is not intermediate_size in every class."""
    if config.flag("block_auto_adjust_ff_dim"):  # LFM2: two thirds, rounded up
        return _rounded(2 * shape.intermediate // 3, config.whole("block_multiple_of", most=MOST, default=256))
    if model_type == "xlstm":
        width = int(shape.hidden * min(config.number("ffn_proj_factor", default=2.667), MOST))
        return _rounded(width, config.whole("ffn_round_up_to_multiple_of", most=MOST, default=64))
    if model_type in _HALVED_MLP:
        return shape.intermediate // 2
    if model_type == "longcat_flash":  # two attentions and two MLPs a layer
        return 2 * shape.intermediate
    return config.whole("intermediate_size_mlp", most=MOST, default=shape.intermediate)  # Llama 4


def _rounded(width: int, multiple: int) -> int:
    return -(-width // multiple) * multiple


def _vision(vision: Fields, hidden: int) -> int:
    """A vision transformer and its projection; what its config leaves out counts as nothing."""
    names = ("depth", "num_hidden_layers", "vt_num_hidden_layers", "layers")
    layers = vision.whole(*names, most=MOST_LAYERS, default=0)
    width = vision.whole("embed_dim", "hidden_size", "vt_hidden_size", "width", most=MOST, default=0)
    inner = vision.whole("intermediate_size", "vt_intermediate_size", most=MOST, default=4 * width or 1)
    matrices = 3 if vision.first().find("model_type") in [("model_type", gated) for gated in _GATED_VISION] else 2
    merge = vision.whole("spatial_merge_size", most=64, default=1) ** 2
    return layers * (4 * width * width + matrices * width * inner) + merge * width * (merge * width + hidden)
