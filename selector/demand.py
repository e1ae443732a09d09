"""Demand: what the user wants done with a model."""

from dataclasses import dataclass

from calibration.workload import DEFAULT, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the user wants done with the model."""

    workload: Workload = DEFAULT
    allow_lossy: bool = False
    max_kl: float | None = None
    """Largest measured divergence of a lossy candidate, nats; where given, lossy ones are allowed up to it."""
    trust_remote_code: bool = False
    tensor_parallel: int = 1
    kv_cache_bits: int = 16
    requested: frozenset[str] = frozenset()
    """Labels (`transformers`, `transformers:compile`) the user named. A variant's own label lifts `on_request`."""

    @property
    def lossy(self) -> bool:
        """Lossy variants may be candidates."""
        return self.allow_lossy or self.max_kl is not None
