"""From a selection to what is launched: weights on the disk, the converted model, and the worker's job."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calibration.backend import Backend, Deployment
from calibration.conversion.convert import Converter, Original, conversion
from calibration.conversion.store import ArtifactStore
from calibration.errors import ArtifactError
from calibration.events import Reporter
from calibration.facts.variant import Variant
from calibration.registry import find
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.launch_spec import LaunchSpec, Limits, Subject
from calibration.supervision.workers import Workers
from selector.answer import Selection
from selector.planning.events import CalibrationEvent
from selector.planning.plan import launch_spec_of, plan
from selector.planning.room import Room
from selector.planning.subject import memory_limit_bytes, subject_of

LOG_LINES = 12
"""Of a conversion that failed, so many of the last lines that it printed are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """All that must be there before a candidate is launched."""

    selection: Selection
    room: Room
    subject: Subject
    """The model; its weights are on the disk."""
    spec: LaunchSpec
    artifact_dir: Path | None
    """The converted model, where the variant is converted."""

    @property
    def backend(self) -> Backend:
        return find(self.selection.backend)

    @property
    def variant(self) -> Variant:
        return self.spec.variant

    @property
    def workers(self) -> Workers:
        """What starts a worker that serves."""
        return Workers(subject=self.subject, max_context_tokens=self.room.context_tokens, max_batch=self.room.slots)

    @property
    def deployment(self) -> Deployment:
        """What an engine's own server is told."""
        return Deployment(
            model=self.selection.spec,
            place=str(self.subject.model_dir),
            artifact_dir=str(self.artifact_dir) if self.artifact_dir else None,
            device=self.selection.host.device,
            demand=self.selection.demand,
        )

    def to_json(self, *, url: str, names: Sequence[str], batching: str, load_s: float) -> dict[str, Any]:
        """What `autobackend serve --json` prints when requests are answered."""
        return {
            "url": url,
            "model": self.selection.model,
            "names": list(names),
            "candidate": self.spec.label,
            "source": str(self.selection.source),
            "workload": self.selection.use.label,
            "slots": self.room.slots,
            "context_tokens": self.room.context_tokens,
            "threads": self.subject.threads,
            "batching": batching,
            "load_s": load_s,
        }


def prepare(
    selection: Selection,
    room: Room,
    *,
    folder: Path,
    reporter: Reporter[CalibrationEvent],
    threads: int | None = None,
    store: ArtifactStore | None = None,
) -> Prepared:
    """Have the weights of a selected candidate, and its converted model, from the store or made now.

    Args:
        folder: takes the log of a conversion.
        threads: of the engine; None: as a calibration gives it.

    Raises:
        ModelError: the model's weights cannot be had.
        ArtifactError: random weights cannot be made, or the conversion fails.
    """
    artifacts = store or ArtifactStore()
    demand = replace(selection.demand, backends=(selection.candidate.label,))
    planned = plan(selection.model, demand, host=selection.host)
    subject = subject_of(planned, artifacts, reporter)
    if threads is not None:
        subject = replace(subject, threads=threads)
    spec = launch_spec_of(selection.candidate, selection.host, selection.spec)
    prepared = Prepared(selection=selection, room=room, subject=subject, spec=spec, artifact_dir=None)
    if not spec.variant.prepares:
        return prepared
    converter = Converter(
        original=Original.of(subject),
        store=artifacts,
        workers=prepared.workers,
        reporter=reporter,
        limit_s=Limits().prepare_s,
        clock=time.monotonic,
    )
    log = folder / "convert.log"
    log.touch()
    try:
        artifact = converter.convert(spec, log, Deadline(at=None, clock=time.monotonic))
    except GivenUp as error:
        printed = "".join(f"\n  {line}" for line in log.read_text(errors="replace").strip().splitlines()[-LOG_LINES:])
        raise ArtifactError(
            f"{selection.model} cannot be converted for {spec.label}: {error.trouble.message}{printed}",
            "name another with --backend, or measure which ones run: --calibrate SECONDS",
        ) from error
    return replace(prepared, artifact_dir=artifact.path)


def made_already(
    running: Prepared, selection: Selection, room: Room, *, threads: int, store: ArtifactStore | None = None
) -> Prepared | None:
    """Another candidate of a model that is served here, where its conversion is in the store; else None.

    Args:
        running: whose weights are on the disk.
        selection: of the other candidate.

    Raises:
        ArtifactError: the store cannot be looked at.
    """
    spec = launch_spec_of(selection.candidate, selection.host, selection.spec)
    subject = replace(running.subject, threads=threads, memory_limit_bytes=memory_limit_bytes(selection.host))
    prepared = Prepared(selection=selection, room=room, subject=subject, spec=spec, artifact_dir=None)
    if not spec.variant.prepares:
        return prepared
    artifacts = store or ArtifactStore()
    artifact = artifacts.get(conversion(spec, Original.of(subject), artifacts.list()).key)
    return None if artifact is None else replace(prepared, artifact_dir=artifact.path)
