"""ModelSpec: config.json and weight sizes, no weights opened, no code run."""

from dataclasses import dataclass
from pathlib import Path

from selector.quant import QuantFormat


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
    kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_position: int
    sliding_window: int | None
    """None also where the config switches it off (use_sliding_window: false)."""
    window_layers: int
    """Layers that use the window; equals `layers` where all do."""
    rope_type: str
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
    weights_identity: str
    """Hash of names, sizes and modification times of the weight files (and of config.json)."""

    @property
    def fingerprint(self) -> str:
        """Hash of the shapes that set the work."""
        raise NotImplementedError

    @classmethod
    def read(cls, model: str) -> "ModelSpec":
        """Read a folder, hub id or shape.

        Raises:
            ModelError: with the value and the mend.
        """
        raise NotImplementedError

    def kv_bytes(self, tokens: int, batch: int, bits: int = 16) -> int:
        """KV cache of `batch` sequences of `tokens` tokens, windows respected."""
        raise NotImplementedError
