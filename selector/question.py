"""Question: what is asked of which model and host; and what is known when it is answered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from calibration.cache.cache import Cache
from calibration.measurement import Identity
from calibration.workload import Workload
from selector.demand.demand import Demand
from selector.evidence.evidence import Elsewhere, Evidence
from selector.evidence.identity import identity
from selector.evidence.provenance import Levels
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.predict.prediction import Prediction
from selector.rules.judge import Verdict
from selector.served.evidence import ServedEvidence


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """A model, a host, what is wanted, and the cache that is asked."""

    spec: ModelSpec
    host: HostSpec
    demand: Demand
    cache: Cache
    to_serve: bool = False
    """The answer is to be served, whatever it is asked for: a load always is."""

    @property
    def identity(self) -> Identity:
        """What its launches are kept under."""
        return identity(self.spec, self.host, device_count=self.demand.tensor_parallel)

    def calibrate_command(self, *options: str) -> str:
        """What measures it, on the machine that is asked about."""
        command = " ".join([self.demand.command("calibrate", self.spec.name), *options])
        return command if self.host.what_if is None else f"{command} (on that machine)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Known:
    """What is known when a question is answered."""

    evidence: Evidence
    """From launches of this shape on this host."""
    elsewhere: Callable[[], tuple[Elsewhere, ...]]
    """From launches of other models, or on other hosts; read when it is asked for."""
    predict: Callable[[Sequence[str], Workload], Prediction | None]
    """What to expect of the candidates with these labels by all that is known; None where nothing like it is."""
    verdicts: tuple[Verdict, ...]
    """Of every variant of every backend."""
    levels: Callable[[], Levels]
    """The caches that launches are read from; looked at when it is asked for."""
    served: Callable[[], ServedEvidence] = ServedEvidence
    """From launches under load of this shape on this host; read when it is asked for."""
