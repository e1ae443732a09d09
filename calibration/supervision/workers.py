"""Starts the workers of one calibration and tells each its job."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from calibration.backend import Job
from calibration.measurement import FailureKind
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.launch_spec import LaunchSpec, Subject
from calibration.supervision.replies import Trouble
from calibration.supervision.supervisor import Worker
from calibration.worker.opening import Opening

OPEN_S = 60.0
"""A worker that is told its job imports nothing of its engine yet."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Starts workers for candidates, each in its candidate's interpreter."""

    subject: Subject
    max_context_tokens: int
    """Longest sequence that a worker will be asked for."""
    max_batch: int

    def start(self, spec: LaunchSpec, log: Path) -> Worker:
        """A worker without a job; it is ended by leaving its context.

        Raises:
            GivenUp: the interpreter cannot be started.
        """
        return start_worker(
            spec.python,
            log=log,
            watch_gpu=self.subject.device == "cuda",
            memory_limit_bytes=self.subject.memory_limit_bytes,
            variables={**worker_variables(self.subject.threads), **spec.variables},
        )

    @contextmanager
    def opened(
        self, spec: LaunchSpec, log: Path, deadline: Deadline, stage: str, artifact_dir: Path | None = None
    ) -> Iterator[Worker]:
        """A worker that knows its job.

        Args:
            stage: of the launch, for a failure.
            artifact_dir: the converted model.

        Raises:
            GivenUp: the interpreter cannot be started, or the worker does not take the job.
        """
        with self.start(spec, log) as worker:
            opening = Opening(backend=spec.candidate.backend, job=self.job(spec, artifact_dir), source=spec.source)
            deadline.ask(worker, stage, OPEN_S, "open", **opening.request())
            yield worker

    def job(self, spec: LaunchSpec, artifact_dir: Path | None) -> Job:
        """What a worker is told about the model that it loads."""
        return Job(
            model_dir=spec.model_dir or self.subject.model_dir,
            variant=spec.variant,
            artifact_dir=artifact_dir,
            dtype=self.subject.dtype,
            vocab_size=self.subject.vocab_size,
            device=spec.device or self.subject.device,
            threads=self.subject.threads,
            cpus=self.subject.cpus,
            max_context_tokens=self.max_context_tokens,
            max_batch=self.max_batch,
            trust_remote_code=self.subject.trust_remote_code,
            tensor_parallel=self.subject.tensor_parallel,
        )


def start_worker(
    python: Path, *, log: Path, memory_limit_bytes: int, variables: Mapping[str, str], watch_gpu: bool = False
) -> Worker:
    """A worker in an interpreter; see Worker.

    Raises:
        GivenUp: the interpreter cannot be started.
    """
    try:
        return Worker(python, log=log, memory_limit_bytes=memory_limit_bytes, variables=variables, watch_gpu=watch_gpu)
    except OSError as error:
        trouble = Trouble(kind=FailureKind.REFUSED, message=f"{python} cannot be started: {error.strerror}")
        raise GivenUp("load", trouble) from error


def worker_variables(threads: int) -> dict[str, str]:
    """Environment variables of every worker: as many threads for each engine, and no network."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
