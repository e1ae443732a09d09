"""What a calibration makes before it measures: weights and conversions; what they will take, said first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from calibration.conversion.convert import missing, too_large
from calibration.conversion.disk import disk_of
from calibration.conversion.estimate import Estimate
from calibration.conversion.store import ArtifactStore
from calibration.rung import Rung
from calibration.supervision.launch_spec import LaunchSpec
from selector.model.spec import ModelSpec
from selector.planning.weights import weights_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparations:
    """What is not in the store yet and will be made, each once."""

    checkpoint: Estimate | None
    """None where the weights are there."""
    conversions: tuple[tuple[str, Estimate], ...]
    """Label of the first candidate that needs it; candidates that share one are not named again."""
    free_bytes: int
    disk: Path
    too_large: Mapping[str, str] = field(default_factory=dict)
    """Label of each candidate whose conversion memory will not hold, and the reason: it is not begun."""

    @property
    def seconds(self) -> float:
        return sum(e.seconds for e in self._all())

    @property
    def bytes(self) -> int:
        return sum(e.bytes for e in self._all())

    @property
    def most_needed_bytes(self) -> int:
        """Free space that must be there for all of it, scratch of the largest included."""
        return self.bytes + max((e.scratch_bytes for e in self._all()), default=0)

    def _all(self) -> list[Estimate]:
        return [*([self.checkpoint] if self.checkpoint else []), *(e for _, e in self.conversions)]


def preparations(
    spec: ModelSpec,
    candidates: Sequence[LaunchSpec],
    store: ArtifactStore,
    *,
    random_weights: bool,
    memory_bytes: int,
    rung: Rung | None = None,
) -> Preparations:
    """What these candidates need that the store has not.

    Args:
        rung: on which they are launched; by default the whole model.
        memory_bytes: that a conversion may take.

    Raises:
        ArtifactError: the store's disk cannot be looked at.
    """
    weights = weights_of(spec, rung, random_weights=random_weights)
    original = weights.original
    beyond_memory = too_large(candidates, original, store, memory_bytes)
    feasible = [candidate for candidate in candidates if candidate.label not in beyond_memory]
    return Preparations(
        checkpoint=weights.lacking(store),
        conversions=tuple(missing(feasible, original, store).items()),
        too_large=beyond_memory,
        free_bytes=store.free_bytes(),
        disk=disk_of(store.root),
    )
