"""What an engine holds of a model in memory, by what the model is made of: facts that stand beside the backends."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightBytes:
    """Bytes that are held for each byte of the weights, as the variant computes with them.

    That is 4 in float32, 2 in 16 bits; with int8 and int4, 1: of those these are bytes for each weight.
    """

    layer: float = 1.0
    """For the weights of the layers, experts left out."""
    tied: float = 1.0
    """For an embedding matrix that is the head as well: with copies, where the engine makes two of one."""
    apart: float = 1.0
    """For an embedding matrix, and for a head, where the model has both."""
    expert: float | None = None
    """For the weights of routed experts; None: as `layer`."""

    def of(self, *, layers: float, embedding: float, tied: bool, experts: float) -> float:
        """Bytes held.

        Args:
            layers: bytes of the weights in the layers, without experts.
            embedding: bytes of one embedding matrix.
            tied: it is the head as well.
            experts: bytes of the weights of routed experts.
        """
        ends = embedding * self.tied if tied else 2 * embedding * self.apart
        return layers * self.layer + ends + experts * (self.layer if self.expert is None else self.expert)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingMemory:
    """What a variant holds at its peak on a CPU, while it loads and while it serves.

    Files that it maps count where it reads them all: they leave the memory only at the price of reading them again.
    The figures are fitted to peaks of launches: those of `results/` and of `python -m benchmarks.memory_truth`.
    """

    start_bytes: int
    """An interpreter with the engine, whatever the model."""
    layer_bytes: int = 0
    """For each layer, whatever its width: nodes of a graph, and kernels that are made for them."""
    latent_layer_bytes: int = 0
    """More for each layer with MLA, which has more nodes."""
    check_bytes: int = 0
    """What the check of its output leaves behind: in a calibration alone."""
    check_weights: float = 0.0
    """The same for each byte of the weights that it holds: of those that it loaded for the check alone."""
    held: WeightBytes = field(default_factory=WeightBytes)
    """While it serves."""
    held_uneven: WeightBytes | None = None
    """The same of a model whose hidden_size is no multiple of `row_step`, where that differs."""
    row_step: int = 256
    loading: WeightBytes | None = None
    """At the peak of loading, where that is more than what it holds afterwards."""
    stacked: float = 0.0
    """More at the peak of loading, for each byte of routed experts that stand one by one in their file: they are
    stacked to one tensor of a layer."""
    stacked_in_file: frozenset[str] = frozenset()
    """Model types whose files have them stacked."""
    loading_by_maker: Mapping[str, WeightBytes] = field(default_factory=dict)
    """`loading` on CPUs whose name has this word."""
    widened: float = 1.0
    """How many times as much it holds of weights that it widens (Facts.widened_without)."""
    vocabulary_bytes: int = 0
    """For each token of the vocabulary."""
    file_formats_held_twice: frozenset[str] = frozenset()
    """Formats of .gguf files whose layers are packed anew beside the file that is mapped."""
    unpacks: frozenset[str] = frozenset()
    """Quant methods whose weights it unpacks to the model's dtype while it loads them."""

    key_value: float = 1.0
    """For each byte of the KV cache, of numbers of 16 bits, or of 32 where it computes in float32: with copies."""
    key_value_bits: int = 0
    """Bits of a number in the cache, where that is not so; 0: it is."""
    per_query_head: bool = False
    """Keys and values are kept for each query head, those of a group once for each of its heads."""
    expands_latent: bool = True
    """Of MLA keys and values of every head are kept, not the latent vector."""
    whole_windows: bool = True
    """Layers with a window keep all tokens, too."""
    context_step: int = 1
    """The room of a sequence is a multiple of so many tokens, and holds one more than is asked for."""
    room_ahead: bool = False
    """Room for the longest sequence that may come is made for the whole batch while it loads: in a calibration that may
    be the check's."""

    score: float = 0.0
    """Copies, in float32, of a layer's attention scores: sequences x heads x tokens of the step x tokens so far."""
    latent_score: float = 0.0
    """More such copies with MLA, where keys that are wider than values keep an engine from computing by blocks."""
    mask: float = 0.0
    """Copies, in float32, of the mask that all heads share: sequences x tokens of the step x tokens so far."""
    activation: float = 0.0
    """Copies, in float32, of what a layer's MLP makes of the tokens of a step: sequences x tokens x its width."""
    expert_activation: float = 0.0
    """Copies, in float32, of the tokens of a step for each expert that they choose: sequences x tokens x chosen experts
    x hidden_size."""
    wide_activation: float = 0.0
    """More such copies on a CPU that has none of `narrow_features`, where they are of numbers twice as wide."""
    narrow_features: frozenset[str] = frozenset()
    """CPU features with any of which the variant computes in 16 bits; empty: that makes no difference."""
    step_tokens: int = 0
    """Tokens that a step computes at most; 0: all prompts of a batch at once."""

    margin: float = 0.0
    """On top of all parts, a share of their sum: so much that no launch which the parts were fitted to held more than
    5 % more than is said. It stands for what varies from CPU to CPU and from run to run."""
