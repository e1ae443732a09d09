"""A worker that serves what was selected, in the backend's own interpreter: weights, conversion, start and load."""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from calibration.backend import Backend
from calibration.conversion.convert import Converter, Original
from calibration.conversion.store import ArtifactStore
from calibration.engine.streams import Ability, Delta
from calibration.errors import BackendError
from calibration.events import ConversionEvent
from calibration.registry import find, foreign_source
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.launch_spec import LaunchSpec, Limits, Subject
from calibration.supervision.replies import Trouble
from calibration.supervision.serving import ServingWorker
from calibration.supervision.workers import Workers
from selector.evidence.identity import identity
from selector.loading.choice import Choice, calibrate_it
from selector.loading.converted import converted, converter
from selector.loading.weights import weights_identity, weights_made_elsewhere
from selector.model.spec import ModelSpec

END_S = 5.0
"""A worker that was told to end is killed after this long: its engine has nothing to save."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A worker that serves; `end` leaves nothing of it."""

    serving: ServingWorker
    abilities: frozenset[Ability]
    end: Callable[[], None]


class _Silent:
    def report(self, event: ConversionEvent) -> None:
        """Whoever loads an engine is told nothing but that it is there."""


def serve(
    choice: Choice,
    *,
    max_context_tokens: int,
    max_batch: int,
    on_deltas: Callable[[Sequence[Delta]], None],
    on_end: Callable[[Trouble], None],
) -> Served:
    """Start a worker, convert the model where nothing is converted yet, load it, and serve.

    Raises:
        BackendError: the interpreter cannot be started, or its engine not be loaded.
        ArtifactError, ModelError: there are no weights, or they cannot be made or converted.
    """
    spec = ModelSpec.read(choice.model)  # anew: the identity of its weights is of now
    backend = find(choice.candidate.backend)
    launch, limits = _launch_spec(choice, backend, spec), Limits()
    never = Deadline(at=None, clock=time.monotonic)
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="autobackend-")))
        log = folder / "worker.log"
        log.touch()
        try:
            subject = _subject(choice, spec, weights_made_elsewhere(spec, choice.demand, choice.host, log))
            workers = Workers(subject=subject, max_context_tokens=max_context_tokens, max_batch=max_batch)
            artifact = converted(choice, backend) if launch.variant.prepares else None
            if launch.variant.prepares and artifact is None:
                artifact = _converter(subject, workers, limits).convert(launch, log, never)
            worker = opened.enter_context(
                workers.opened(launch, log, never, "load", artifact.path if artifact else None)
            )
            loaded = never.ask(worker, "load", limits.load_s, "load_streams").fields
            serving = ServingWorker(worker, on_deltas=on_deltas, on_end=on_end)
            if trouble := serving.start():
                raise GivenUp("load", trouble)
        except GivenUp as given_up:
            raise BackendError(
                f"{launch.label} cannot load {choice.model} in {launch.python}: {given_up}",
                f"see its log: {calibrate_it(choice)} --again",
            ) from given_up
        stack = opened.pop_all()

    def end() -> None:
        with suppress(BrokenPipeError):  # it has ended by itself
            serving.close()
        serving.join(END_S)
        serving.kill()
        stack.close()

    return Served(serving=serving, abilities=frozenset(map(Ability, loaded["abilities"])), end=end)


def _launch_spec(choice: Choice, backend: Backend, spec: ModelSpec) -> LaunchSpec:
    variant = backend.variant(choice.candidate.variant)
    return LaunchSpec(
        candidate=choice.candidate,
        variant=variant,
        python=choice.host.installations[backend.name].python,
        environment={},
        converter=converter(choice, backend),
        prepare_time=backend.facts.prepare_time,
        prepare_memory=backend.facts.prepare_memory_of(
            variant, matrices_of_16_bits=spec.matrices_of_16_bits, model_type=spec.model_type
        ),
        source=foreign_source(backend),
    )


def _subject(choice: Choice, spec: ModelSpec, model_dir: Path) -> Subject:
    host, demand = choice.host, choice.demand
    return Subject(
        name=spec.name,
        model_dir=model_dir,
        weights_identity=weights_identity(spec),
        identity=identity(spec, host, device_count=demand.tensor_parallel),
        dtype=spec.dtype,
        vocab_size=spec.vocab_size,
        device=host.device.kind,
        threads=choice.threads,
        cpus=host.bound_cpus,
        memory_limit_bytes=host.memory_bytes,
        trust_remote_code=demand.trust_remote_code,
        tensor_parallel=demand.tensor_parallel,
        parameters=spec.parameters,
        embeddings=spec.embeddings,
        expert_parameters=spec.expert_parameters,
        layers=spec.layers,
    )


def _converter(subject: Subject, workers: Workers, limits: Limits) -> Converter:
    return Converter(
        original=Original.of(subject),
        store=ArtifactStore(),
        workers=workers,
        reporter=_Silent(),
        limit_s=limits.prepare_s,
        clock=time.monotonic,
    )
