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
    per_parameter: float = 16.0
    """Bytes. The default, for a backend that does not say: the model in float32, the same as a graph, what is written,
    and as much again."""
    per_embedding: float = 0.0
    """Bytes for each weight of the embeddings: the largest matrix, of which several copies are held at once."""
    per_expert_parameter: float = 0.0
    """Bytes more for each weight of routed experts, which are stacked to one tensor of a layer while they are read."""

    def weights_bytes(self, parameters: int, embeddings: int, expert_parameters: int = 0) -> float:
        """Bytes beyond the start.

        Args:
            embeddings: of the parameters, those of the embedding matrix.
            expert_parameters: of the parameters, those of routed experts.
        """
        routed = self.per_expert_parameter * expert_parameters
        return self.per_parameter * parameters + self.per_embedding * embeddings + routed
