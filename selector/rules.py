"""The rules, one small function each; RULES; judge() -> Verdicts."""

from dataclasses import dataclass, field

from calibration.measurement import Candidate
from calibration.workload import DEFAULT, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the user wants done with the model."""

    workload: Workload = DEFAULT
    allow_lossy: bool = False
    trust_remote_code: bool = False
    tensor_parallel: int = 1
    kv_cache_bits: int = 16
    requested: frozenset[str] = frozenset()
    """Labels (`transformers`, `transformers:compile`) the user named: they lift `on_request`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why not: `needs X; found Y`, and the mend where there is one."""

    rule: str
    """Name of the rule's function."""
    text: str
    mend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A variant is legal, or every reason why not."""

    candidate: Candidate
    reasons: tuple[Reason, ...] = ()
    left_out: str = ""
    """Legal, but no candidate unless asked for: lossy, or slow to compile; the reason."""
    needed_bytes: int = 0
    """Weights, KV cache and overhead."""
    notes: tuple[str, ...] = field(default=())

    @property
    def legal(self) -> bool:
        return not self.reasons


def judge(model, host, demand=Demand(), backends=None) -> tuple[Verdict, ...]:
    """Judge every variant of every backend, in the static order."""
    raise NotImplementedError
