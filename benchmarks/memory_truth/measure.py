"""Measures the memory of every candidate of a model: its conversion, its loading, and a batch of each workload."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import psutil

from benchmarks.memory_truth.cases import name_of
from calibration.conversion.artifact import Artifact
from calibration.conversion.convert import Converter, Original, conversion
from calibration.conversion.store import ArtifactStore
from calibration.events import Silent
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.launch_spec import LaunchSpec, Limits, Subject
from calibration.supervision.workers import Workers
from calibration.workload import Workload
from selector.model.spec import ModelSpec
from selector.planning.plan import Plan, plan
from selector.planning.subject import subject_of

Line = dict[str, Any]
"""`kind` is `serving` or `converting`; the other fields are those of `_common`, `_serve` and `_converted`."""

_NEVER = Deadline(None, time.monotonic)
_LIMITS = Limits(sample_s=3600.0)
"""Nothing is timed here, and on a busy machine a long prompt takes longer than a calibration would wait."""


def measure(
    model: str, labels: Sequence[str], workloads: Sequence[Workload], known: Sequence[Line], *, keep: bool
) -> Iterator[Line]:
    """Lines that are not known yet, each as soon as it is measured; what failed is tried again.

    Args:
        labels: backends or variants; none: all, lossy ones and those on request, too.
        keep: the conversions; otherwise each is deleted when all of its variants were measured.
    """
    longest = ModelSpec.read(model).max_position or max(w.context_tokens for w in workloads)
    workloads = [workload for workload in workloads if workload.context_tokens <= longest]
    planned = plan(model, backends=labels, allow_lossy=True, workloads=workloads)
    store, limits = ArtifactStore(), _LIMITS
    done = {place(line) for line in known if "error" not in line}
    subject: Subject | None = None
    specs = sorted(planned.launch_specs, key=lambda spec: (spec.candidate.backend, spec.variant.prepared_as))
    with tempfile.TemporaryDirectory(prefix="autobackend-") as folder:
        log = Path(folder) / "log"
        for spec, following in zip_longest(specs, specs[1:]):
            common = _common(planned, spec, model)
            lacking = [w for w in workloads if place({**common, "kind": "serving", "workload": w.label}) not in done]
            if not lacking:
                continue
            subject = subject or subject_of(planned, store, Silent(), random_weights=not planned.spec.has_weights)
            artifact = None
            log.write_text("", encoding="utf-8")
            if spec.variant.prepares:
                converter = _converter(subject, store, workloads, limits)
                wanted = conversion(spec, converter.original, ())
                made = store.get(wanted.key) is None
                try:
                    artifact = converter.convert(spec, log, _NEVER)
                except GivenUp as given_up:
                    yield {**common, "kind": "converting", "error": str(given_up)}
                    continue
                if made and artifact.peak_memory_bytes:
                    yield _converted(common, spec, artifact)
            for workload in lacking:
                try:
                    yield {**common, "kind": "serving", **_serve(spec, subject, artifact, workload, log, limits)}
                except GivenUp as given_up:
                    yield {**common, "kind": "serving", "workload": workload.label, "error": str(given_up)}
            if artifact is not None and not keep and not _shares(spec, following):
                _forget(store, artifact.key)


def place(line: Line) -> tuple[str, ...]:
    """What tells a line from all others."""
    return (line["kind"], line["host"], line["model"], line["candidate"], line.get("workload", ""))


def _common(planned: Plan, spec: LaunchSpec, model: str) -> Line:
    return {
        "host": planned.host.identifier,
        "model": name_of(model),
        "candidate": spec.label,
        "versions": dict(spec.environment),
    }


def _serve(
    spec: LaunchSpec, subject: Subject, artifact: Artifact | None, workload: Workload, log: Path, limits: Limits
) -> Line:
    """A worker that loads the model with room for the workload, and answers it twice."""
    workers = Workers(subject=subject, max_context_tokens=workload.context_tokens, max_batch=workload.batch)
    with workers.opened(spec, log, _NEVER, "load", artifact.path if artifact else None) as worker:
        _NEVER.ask(worker, "load", limits.load_s, "load")
        loaded_bytes, resident_bytes = worker.peak_memory_bytes, psutil.Process(worker.pid).memory_info().rss
        for number in range(2):
            _NEVER.ask(
                worker,
                workload.label,
                limits.sample_s,
                "sample",
                seed=f"memory-{number}",
                prompt_tokens=workload.prompt_tokens,
                output_tokens=workload.output_tokens,
                batch=workload.batch,
            )
        return {
            "workload": workload.label,
            "loaded_bytes": loaded_bytes,
            "resident_bytes": resident_bytes,
            "peak_bytes": worker.peak_memory_bytes,
            "peak_unmapped_bytes": worker.peak_unmapped_bytes,
        }


def _converter(subject: Subject, store: ArtifactStore, workloads: Sequence[Workload], limits: Limits) -> Converter:
    most = max(workloads, key=lambda w: w.context_tokens)
    return Converter(
        original=Original.of(subject),
        store=store,
        workers=Workers(subject=subject, max_context_tokens=most.context_tokens, max_batch=1),
        reporter=Silent(),
        limit_s=limits.prepare_s,
        clock=time.monotonic,
    )


def _converted(common: Line, spec: LaunchSpec, artifact: Artifact) -> Line:
    return {
        **common,
        "kind": "converting",
        "converter": spec.converter,
        "peak_bytes": artifact.peak_memory_bytes,
        "bytes": artifact.bytes,
        "seconds": artifact.seconds,
    }


def _forget(store: ArtifactStore, key: Mapping[str, str]) -> None:
    store.prune(only=lambda artifact: artifact.key == key)


def _shares(spec: LaunchSpec, following: LaunchSpec | None) -> bool:
    """The next candidate is made from the same conversion."""
    return (
        following is not None
        and following.candidate.backend == spec.candidate.backend
        and bool(spec.variant.prepared_as)
        and following.variant.prepared_as == spec.variant.prepared_as
    )
