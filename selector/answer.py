"""Selection: the answer, where it comes from and how sure it is."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from calibration.load.load import Load
from calibration.load.use import Use, slots_of
from calibration.measurement import Candidate, Failure
from calibration.workload import Workload
from selector.demand.demand import Demand
from selector.demand.objective import Objective
from selector.evidence.evidence import OnLayers
from selector.evidence.inherited import Inherited
from selector.evidence.provenance import Provenance
from selector.evidence.ranking import Ranked
from selector.host.spec import HostSpec
from selector.loading.loaded import LoadedEngine
from selector.model.spec import ModelSpec
from selector.predict.prediction import Predicted, Prediction
from selector.rules.judge import Verdict
from selector.served.ranking import ServedRanked


class Source(StrEnum):
    """Where an answer comes from."""

    FORCED = "forced"
    MEASURED = "measured"
    LAYERS = "layers"
    STALE = "stale"
    TRANSFERRED = "transferred"
    PREDICTED = "predicted"
    RULES = "rules"


class SelectionWarning(UserWarning):
    """What an answer lacks: it was not measured, or with other versions, or its output is unchecked for this model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """A candidate whose launches here ran in another environment than today's."""

    candidate: Candidate
    differences: tuple[str, ...]
    e2e_s: float | None
    """Seconds that the workload took then."""

    def to_json(self) -> dict[str, Any]:
        """As `autobackend select --json` prints it."""
        return {"candidate": self.candidate.label, "differences": list(self.differences), "e2e_s": self.e2e_s}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The answer, where it comes from and how sure it is."""

    model: str
    candidate: Candidate
    demand: Demand
    source: Source
    ranking: tuple[Ranked, ...]
    """What was measured and may answer, the best first; of backends that may be chosen, and of them alone."""
    served: tuple[ServedRanked, ...]
    """Where the answer is for a load and stands on launches under it: the candidates, the choice first. `ranking` is
    then empty."""
    tie: tuple[str, ...]
    """Candidates that cannot be told from the chosen one."""
    extrapolated: bool
    """The workload lies outside the measured cells."""
    verdicts: tuple[Verdict, ...]
    """Of every variant of every backend."""
    failed: tuple[Failure, ...]
    """The newest launch of each candidate that failed here."""
    stale: tuple[Stale, ...]
    layers: tuple[OnLayers, ...]
    """Candidates that were measured here on the first layers of the model; in the static order."""
    prediction: Prediction | None
    """What is expected of the candidates for the whole model, where that is what the answer stands on, or where a
    forced candidate was not measured. For the objective TTFT the order, the intervals, P(best) and the regret are those
    of the first token."""
    unmeasured: tuple[Candidate, ...]
    """Candidates that nothing is known of."""
    warnings: tuple[str, ...]
    """Sentences, each with the command that mends it."""
    notes: tuple[str, ...]
    """Sentences that are good to know."""
    promising: Callable[[], str | None] = field(repr=False, compare=False)
    """The sentence on a candidate that was not measured and may be faster. It is worked out when it is called, since
    what was measured answers without a prediction."""
    inherited: Callable[[], Inherited | None] = field(repr=False, compare=False)
    """What the answer rests on where it is another host's; None of others. It is read when it is called."""
    measured_at: float | None
    """Unix time of the newest launch behind the ranking."""
    provenance: tuple[Provenance, ...]
    """The caches that the launches of the choice were read from, the user's own first; empty where no launch of it
    answers."""
    spec: ModelSpec
    host: HostSpec

    @property
    def use(self) -> Use:
        """What it answers for: a static batch or a load."""
        return self.demand.use

    @property
    def workload(self) -> Workload:
        """The static batch, or the one that is nearest to the load."""
        return self.demand.workload

    @property
    def slots(self) -> int:
        """Requests that a server for it holds at once: as many as were measured, where the choice was."""
        return self._chosen.slots if self._chosen else slots_of(self.use)

    @property
    def threads(self) -> int:
        """With which the engine of a server computes: those that did best under load, else all cores."""
        return self._chosen.threads if self._chosen else self.host.cores

    @property
    def _chosen(self) -> ServedRanked | None:
        return next((ranked for ranked in self.served if ranked.candidate == self.candidate), None)

    @property
    def objective(self) -> Objective:
        return self.demand.objective

    @property
    def rejected(self) -> tuple[Verdict, ...]:
        """Variants that a rule refuses."""
        return tuple(v for v in self.verdicts if v.reasons)

    @property
    def left_out(self) -> tuple[Verdict, ...]:
        """Variants that are legal, but no candidates unless asked for."""
        return tuple(v for v in self.verdicts if v.left_out and not v.reasons)

    @property
    def expected(self) -> Predicted | None:
        """What is expected of the answer; None where nothing is predicted."""
        rows = self.prediction.predicted if self.prediction else ()
        return next((p for p in rows if p.candidate == self.candidate.label), None)

    @property
    def backend(self) -> str:
        return self.candidate.backend

    @property
    def variant(self) -> str:
        return self.candidate.variant

    def to_json(self) -> dict[str, Any]:
        """What `autobackend select --json` prints; seconds. `rejected` has those left out too, with that reason."""
        return {
            "model": self.model,
            "architecture": self.spec.architecture,
            "quant": self.spec.quant.label,
            "device": self.host.device.name,
            "candidate": self.candidate.label,
            "backend": self.backend,
            "variant": self.variant,
            "source": str(self.source),
            "workload": self.use.label,
            "trace": trace_json(self.use),
            "objective": str(self.objective),
            "targets": asdict(self.demand.targets),
            "price_per_hour": self.demand.price_per_hour,
            "tie": list(self.tie),
            "extrapolated": self.extrapolated,
            "ranking": [ranked.to_json() for ranked in self.ranking],
            "served": [ranked.to_json() for ranked in self.served],
            "rejected": [
                {**asdict(v.candidate), "reasons": [r.text for r in v.reasons] or [v.left_out]}
                for v in self.verdicts
                if v.reasons or v.left_out
            ],
            "failed": [
                {"candidate": f.candidate.label, "kind": str(f.kind), "message": f.message} for f in self.failed
            ],
            "stale": [stale.to_json() for stale in self.stale],
            "layers": [on_layers.to_json() for on_layers in self.layers],
            "inherited": None if (inherited := self.inherited()) is None else inherited.to_json(),
            "caches": [part.to_json() for part in self.provenance],
            "prediction": None if self.prediction is None else prediction_json(self.prediction),
            **({} if self.host.what_if is None else {"what_if": self.host.what_if.to_json()}),
        }

    def engine_config(self) -> Any:
        """The engine's own configuration: TurbomindEngineConfig or PytorchEngineConfig of LMDeploy, else a dict.

        Imports the engine where its configuration is a class of its own.
        """
        from selector.loading.command import engine_config

        return engine_config(self)

    def command(self) -> str:
        """The shell command that serves the model with the chosen backend."""
        from selector.loading.command import command

        return command(self)

    def engine_args(self) -> dict[str, Any]:
        """Keyword arguments of vllm.EngineArgs for the chosen variant of vllm; vLLM need not be installed here.

        Raises:
            UsageError: another backend was chosen: select with `backend="vllm"`.
            ModelError: a shape has no weights yet.
        """
        from selector.loading.command import engine_args

        return engine_args(self)

    def llama_server_flags(self) -> list[str]:
        """The words after `llama-server` for the chosen variant of llamacpp, with its GGUF file.

        Raises:
            UsageError: another backend was chosen: select with `backend="llamacpp"`.
            ArtifactError: the model is not converted yet.
        """
        from selector.loading.command import llama_server_flags

        return llama_server_flags(self)

    def load(self, *, max_context_tokens: int | None = None, max_batch: int | None = None) -> LoadedEngine:
        """The engine, ready to generate and to stream; random weights and converted models are found or made.

        Where the backend runs in another interpreter, the engine runs there, in a worker that ends with this program.

        Args:
            max_context_tokens: longest sequence, prompt and output; by default the workload's.
            max_batch: sequences at once; by default the workload's.

        Raises:
            BackendError: the engine cannot be loaded, or its interpreter not be started.
            ArtifactError, ModelError: there are no weights, or they cannot be made or converted.
        """
        from selector.loading.load import load

        return load(self, max_context_tokens=max_context_tokens, max_batch=max_batch)


def trace_json(use: Use) -> dict[str, Any] | None:
    """A trace as `--json` prints it; null of other uses, and of what nobody knows where its label alone was named."""
    if not isinstance(use, Load) or not use.trace:
        return None
    facts = use.facts
    return {
        "hash": use.trace,
        "name": facts.name if facts else None,
        "requests": facts.requests if facts else None,
        "seconds": facts.seconds if facts else None,
    }


def prediction_json(prediction: Prediction) -> dict[str, Any]:
    """As `autobackend select --json` prints it; seconds."""
    return {
        "candidates": [predicted.to_json() for predicted in prediction.predicted],
        "expected_regret": prediction.expected_regret,
        "hosts": list(prediction.hosts),
        "models": list(prediction.models),
    }
