"""What a conversion takes: time, and memory at its peak."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareTime:
    """What a conversion takes on two cores, roughly: the estimate until one was timed."""

    start_s: float = 5.0
    """An interpreter that imports torch and a converter: 3 to 6 s."""
    s_per_gib: float = 30.0
    """For each GiB of weights that is read. The default is that of a backend that does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareMemory:
    """What a conversion holds in memory at its peak; files that it maps are not counted."""

    start_bytes: int = 1 << 30
    """An interpreter that has imported torch and a converter."""
    per_layer_bytes: int = 0
    """For each layer, whatever its width: where a converter traces a graph, its nodes."""
    per_parameter: float = 16.0
    """Bytes. The default, for a backend that does not say: the model in float32, the same as a graph, what is written,
    and as much again."""
    per_embedding: float = 0.0
    """Bytes for each weight of the embeddings: the largest matrix, of which several copies are held at once."""
    per_own_embedding: float = 0.0
    """Bytes more for each weight of an embedding of a class of the model's own (Facts.own_embeddings)."""
    per_expert_parameter: float = 0.0
    """Bytes more for each weight of routed experts, which are stacked to one tensor of a layer while they are read."""

    def weights_bytes(self, parameters: int, embeddings: int, expert_parameters: int = 0, layers: int = 0) -> float:
        """Bytes beyond the start.

        Args:
            embeddings: of the parameters, those of the embedding matrix.
            expert_parameters: of the parameters, those of routed experts.
            layers: of the model.
        """
        of_all = self.per_parameter * parameters + self.per_layer_bytes * layers
        return of_all + self.per_embedding * embeddings + self.per_expert_parameter * expert_parameters
