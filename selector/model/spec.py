"""ModelSpec: a model as its config.json and the sizes of its weights describe it; no weights opened, no code run."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selector.model import config as configs
from selector.model.config_hash import config_hash
from selector.model.files.shape_library import shape_names
from selector.model.files.sources import Source, find_source
from selector.model.quant.format import QuantFormat
from selector.model.shape.key_values import KeyValues
from selector.model.shape.shape import Shape

__all__ = ["ModelSpec", "shape_names"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What the rules and the cost of a model depend on."""

    name: str
    """As the user wrote it: a folder, a hub id, or `shape:NAME`."""
    folder: Path
    """Where config.json is."""
    architecture: str
    """architectures[0], or what auto_map says where there is none."""
    architectures: tuple[str, ...]
    auto_architecture: str | None
    """auto_map['AutoModelForCausalLM'] without its module."""
    model_type: str
    dtype: str
    quant: QuantFormat
    layers: int
    hidden_size: int
    heads: int
    """0 where no layer attends (mamba)."""
    kv_heads: int
    head_dim: int
    """With MLA the cached latent, kv_lora_rank + qk_rope_head_dim (576 in DeepSeek-V3): what a decode kernel sees."""
    intermediate_size: int
    """0 where every layer is a mixture of experts and the config says nothing."""
    vocab_size: int
    max_position: int
    """0 where the config does not say (ALiBi, mamba)."""
    sliding_window: int | None
    """None also where the config switches it off (use_sliding_window: false)."""
    window_layers: int
    """Layers that use the window; equals `layers` where all do."""
    rope_type: str
    """default, linear, dynamic, yarn, llama3, longrope, mrope ...; `none` where positions are not rotated."""
    rope_theta: float | None
    experts: int
    """0 for a dense model."""
    experts_per_token: int
    expert_intermediate_size: int
    tie_word_embeddings: bool
    vision: bool
    remote_code: bool
    """Only loadable with code of the repository (auto_map)."""
    inner_architecture: str | None
    """architectures[0] of text_config / llm_config where the model wraps another."""
    parameters: int
    """Estimated from the shapes, or the index's total."""
    weight_bytes: int
    """Size of the weight files; from the shapes and dtype where there are none."""
    has_weights: bool
    """There are weight files: in `folder`, or on the hub."""
    weights_identity: str
    """Hash of names, sizes and modification times of the weight files (and of config.json)."""
    config_hash: str
    """Hash of everything in the config that can change what is computed: what is right and what fails goes by it."""
    key_values: tuple[KeyValues, ...] = ()
    """What the KV cache keeps, by kind of layer; empty: `kv_heads` x `head_dim`, twice, in every layer."""
    state_layers: int = 0
    """Layers with a state of fixed size: state space models, linear attention, convolutions; some attend as well."""
    kv_lora_rank: int = 0
    """0 without MLA."""
    expert_parameters: int = 0
    """Of `parameters`, those of the routed experts, of which a token uses only some."""
    unknown: frozenset[str] = frozenset()
    """Fields that the config does not tell: they are 0, and `parameters` and `weight_bytes` count only the others."""

    @property
    def place(self) -> Path:
        """What an engine is told to load: the folder, or the .gguf file."""
        return (
            Path(self.name).expanduser() if self.quant.method == "gguf" and self.name.endswith(".gguf") else self.folder
        )

    @property
    def matrices_of_16_bits(self) -> bool:
        """All weights are: there are neither experts, which are stacked, nor convolutions and states."""
        return self.dtype in {"bfloat16", "float16"} and not self.expert_parameters and not self.state_layers

    @property
    def embeddings(self) -> int:
        """Numbers of the table of embeddings; the output's is another one where they are not tied."""
        return self.vocab_size * self.hidden_size

    @property
    def fingerprint(self) -> str:
        """Hash of the shapes that set the work: times go by it."""
        shapes = (
            *(self.layers, self.hidden_size, self.heads, self.kv_heads, self.head_dim, self.intermediate_size),
            *(self.vocab_size, self.experts, self.experts_per_token, self.expert_intermediate_size),
            *(self.sliding_window, self.window_layers, self.kv_lora_rank),
        )
        return hashlib.sha256(repr(shapes).encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        """A line of `autobackend shapes --json`."""
        return {
            "name": self.name,
            "architecture": self.architecture,
            "parameters": self.parameters,
            "layers": self.layers,
            "experts": self.experts,
            "dtype": self.dtype,
            "max_position": self.max_position,
            "weight_bytes": self.weight_bytes,
        }

    @classmethod
    def read(cls, model: str | Path) -> "ModelSpec":
        """Read a folder, a hub id, a .gguf file or a shape.

        Args:
            model: A Path is a folder or a .gguf file and nothing else.

        Raises:
            ModelError: with the value and the mend.
        """
        source = find_source(model)
        return _build(cls, str(model), source, configs.read(source.config, source.where, beside=source.beside))

    @property
    def kept(self) -> tuple[KeyValues, ...]:
        """`key_values`, also where every layer keeps the same."""
        return self.key_values or (
            *_kept(self.layers - self.window_layers, None, self),
            *_kept(self.window_layers, self.sliding_window, self),
        )

    def kv_bytes(self, tokens: int, batch: int, bits: int = 16) -> int:
        """KV cache of `batch` sequences of `tokens` tokens, windows respected."""
        numbers = sum(alike.layers * alike.width * alike.entries(tokens) for alike in self.kept)
        return -(-numbers * batch * bits // 8)


def window_layers(shape: Shape) -> int:
    """ModelSpec.window_layers of a shape."""
    return shape.layers.mixers.count("window") if shape.layers.window else 0


def state_layers(shape: Shape) -> int:
    """ModelSpec.state_layers of a shape."""
    return sum(mixer in {"linear", "mamba", "conv", "both"} for mixer in shape.layers.mixers)


def _kept(layers: int, window: int | None, spec: ModelSpec) -> tuple[KeyValues, ...]:
    return (KeyValues(layers=layers, width=2 * spec.kv_heads * spec.head_dim, window=window),) if layers > 0 else ()


def _build(cls: type[ModelSpec], name: str, source: Source, config: configs.Config) -> ModelSpec:
    shape, weights = config.shape, source.weights
    measured = {"parameters": weights.parameters, "weight_bytes": weights.total_bytes}
    return cls(
        name=name,
        folder=source.folder,
        architecture=config.architecture,
        architectures=config.architectures,
        auto_architecture=config.auto_architecture,
        model_type=config.model_type,
        dtype=config.dtype,
        quant=config.quant,
        layers=len(shape.layers.mixers),
        hidden_size=shape.hidden,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.intermediate,
        vocab_size=shape.vocab,
        max_position=shape.max_position,
        sliding_window=shape.layers.window,
        window_layers=window_layers(shape),
        state_layers=state_layers(shape),
        rope_type=config.positions.rope_type,
        rope_theta=config.positions.rope_theta,
        experts=shape.experts,
        experts_per_token=shape.experts_per_token,
        expert_intermediate_size=shape.expert_intermediate,
        tie_word_embeddings=config.tied,
        vision=config.vision,
        remote_code=config.remote_code,
        inner_architecture=config.inner_architecture,
        parameters=weights.parameters or config.parameters.total,
        weight_bytes=weights.total_bytes or config.weight_bytes,
        has_weights=weights.total_bytes > 0,
        weights_identity=_weights_identity(source),
        config_hash=config_hash(source.config, *((source.beside[1],) if source.beside else ())),
        key_values=shape.key_values,
        kv_lora_rank=shape.kv_lora_rank,
        expert_parameters=config.parameters.experts,
        unknown=config.unknown - {name for name, value in measured.items() if value},
    )


def _weights_identity(source: Source) -> str:
    # A snapshot is named after its commit: the same before and after its weights are downloaded.
    return source.commit or hashlib.sha256(source.raw + source.weights.identity.encode()).hexdigest()[:32]
