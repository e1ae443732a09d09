"""What a launch is given: the model and the device, a candidate, the limits of time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from calibration.backend import Variant
from calibration.facts.conversions import PrepareMemory, PrepareTime
from calibration.measurement import Candidate, Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds after which a step is given up."""

    prepare_s: float = 1800.0
    load_s: float = 900.0
    sample_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The model and the device, as a worker must know them."""

    name: str
    model_dir: Path
    """Its Hugging Face folder, or a .gguf file."""
    weights_identity: str
    identity: Identity
    dtype: str
    vocab_size: int
    device: str
    """Device kind."""
    threads: int
    memory_limit_bytes: int
    cpus: tuple[int, ...] = ()
    """Cores that a worker is bound to; empty: it is not bound."""
    trust_remote_code: bool = False
    tensor_parallel: int = 1
    max_position: int = 0
    """Longest context; 0 where the model names none."""
    parameters: int = 0
    """0 where it is not known."""
    embeddings: int = 0
    """Of the parameters, those of the embedding matrix."""
    expert_parameters: int = 0
    """Of the parameters, those of routed experts."""
    layers: int = 0
    experts: int = 0
    """0: a dense model."""
    sliding_window: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """A candidate with all that its worker needs."""

    candidate: Candidate
    variant: Variant
    python: Path
    environment: Mapping[str, str]
    converter: str = ""
    """Names and versions of all that `prepare` converts with."""
    prepare_time: PrepareTime = field(default_factory=PrepareTime)
    prepare_memory: PrepareMemory = field(default_factory=PrepareMemory)
    source: str = ""
    """File of a backend that is not ours; the worker's interpreter need not have it installed."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the worker."""
    overflows: bool = False
    """The sums of products of this precision overflow on this CPU: see Facts.overflows_without."""
    device: str = ""
    """Device kind, where the candidate runs on another than the subject's."""
    model_dir: Path | None = None
    """Folder of the model, where the candidate loads another than the subject's."""

    @property
    def label(self) -> str:
        return self.candidate.label


class Skipped:
    """The budget, or the launch's share of it, ended before a cell was timed; nothing is stored."""
