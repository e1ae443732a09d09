"""Work: what sets how long a model takes, of the whole model or of its first layers."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from selector.model.spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The numbers of a model's shape that its times depend on."""

    fingerprint: str
    """ModelSpec.fingerprint of the whole model."""
    dtype: str
    parameters: int
    read_parameters: int
    """Read for one token of one sequence: without the input embedding, with the experts that the token chooses."""
    head_parameters: int
    """Of the output embedding, which is read for every token whatever the depth."""
    layers: int
    hidden: int
    vocab: int
    kv_numbers: int
    """Numbers that the KV cache keeps for a token."""
    experts: int
    experts_per_token: int

    @property
    def body_parameters(self) -> int:
        """Of the layers, as far as a token needs them: what a token of a prompt is multiplied with."""
        return max(self.read_parameters - self.head_parameters, 1)

    @classmethod
    def of(cls, spec: ModelSpec) -> Self:
        """The work of a whole model."""
        head = spec.embeddings
        read = spec.parameters - (0 if spec.tie_word_embeddings else head)
        if spec.experts:
            # Three matrices an expert: gate, up, down.
            experts = spec.layers * spec.experts * 3 * spec.hidden_size * spec.expert_intermediate_size
            idle = experts * (spec.experts - spec.experts_per_token) // spec.experts
            read -= min(idle, read // 2 if idle > read else idle)
        return cls(
            fingerprint=spec.fingerprint,
            dtype=spec.dtype,
            parameters=spec.parameters,
            read_parameters=max(read, head, 1),
            head_parameters=head,
            layers=spec.layers,
            hidden=spec.hidden_size,
            vocab=spec.vocab_size,
            kv_numbers=spec.kv_bytes(1, 1) // 2,
            experts=spec.experts,
            experts_per_token=spec.experts_per_token,
        )

    def cut(self, layers: int) -> Self:
        """The work of its first `layers` layers: embeddings and output stay as they are."""
        share = layers / self.layers
        embeddings = min(self.parameters, self.head_parameters)
        return replace(
            self,
            parameters=embeddings + round((self.parameters - embeddings) * share),
            read_parameters=self.head_parameters + round((self.read_parameters - self.head_parameters) * share),
            layers=layers,
            kv_numbers=round(self.kv_numbers * share),
        )

    def to_json(self) -> dict[str, Any]:
        """As the shipped file keeps it."""
        return asdict(self)
