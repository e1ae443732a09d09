"""Launches as a calibration leaves them, with times that are told in one number."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

from calibration.environments.versions import POLICY
from calibration.load.load import Load
from calibration.measurement import (
    Agreement,
    Candidate,
    Cell,
    Check,
    Failure,
    FailureKind,
    Identity,
    Measurement,
    OutputVerdict,
    Sample,
    Served,
    Unserved,
)
from calibration.registry import all_backends
from calibration.workload import Workload, grid
from selector.evidence.identity import environment_of, identity
from selector.host.spec import Device, HostSpec, Installation
from selector.model.spec import ModelSpec
from tests.calibration.points import point

DAY = 1_789_000_000.0
"""2026-09-10, when the first launch began."""

RIGHT = Agreement(verdict=OutputVerdict.RIGHT, kl=1e-9, top1=1.0, detail="5 of 5 greedy paths equal")
RIGHT_AS_SERVED = Agreement(
    verdict=OutputVerdict.RIGHT, top1=1.0, detail="61 of 61 tokens of 12 requests at once are the reference's"
)
LOSSY = Agreement(verdict=OutputVerdict.LOSSY, kl=0.012, top1=0.97, detail="3 of 5 greedy paths equal")

VERSIONS = MappingProxyType({
    "accelerate": "1.12.0", "ctranslate2": "4.8.5", "onnx": "1.20.0", "onnx-ir": "0.1.10", "onnxruntime": "1.23.0",
    "onnxruntime-genai": "0.11.0", "sentencepiece": "0.2.1", "torch": "2.13.0", "transformers": "5.23.0",
})  # fmt: skip

_runs = count()


def cpu_host(identifier: str = "aaaaaaaaaaaa", versions: Mapping[str, str] = VERSIONS) -> HostSpec:
    """A host with a CPU of two cores and every CPU engine."""
    device = Device(kind="cpu", name="AMD EPYC 7763 (zen3), 2 cores", memory_bytes=24 << 30, free_bytes=20 << 30)
    return HostSpec(
        identifier=identifier,
        cpu_name="zen3",
        cpu_model="AMD EPYC 7763",
        cpu_features=frozenset({"avx2"}),
        cores=2,
        memory_bytes=24 << 30,
        devices=(device,),
        installations={
            name: Installation(python=Path("/usr/bin/python3.11"), versions=dict(versions), site_packages=())
            for name in all_backends()
        },
    )


def measurement(
    candidate: str,
    identity: Identity,
    host: HostSpec,
    *,
    slow: float = 1.0,
    decode: float | None = None,
    round_: int = 1,
    calibration: str = "c1",
    cells: Sequence[Workload] = grid(),
    model: str = "shape:smollm2-135m",
    environment: Mapping[str, str] | None = None,
    policy: str = POLICY,
    at: float = DAY,
    agreement: Agreement = RIGHT,
    memory: int = 1 << 30,
) -> Measurement:
    """A launch whose prefill costs 10 ms + 2 ms a token and whose decode step 20 ms + 2 ms a sequence, times `slow`.

    Args:
        decode: of the decode steps alone; by default as slow as the prefill.
    """
    backend, _, variant = candidate.partition(":")
    steps = slow if decode is None else decode
    return Measurement(
        run_id=f"{next(_runs):032x}",
        calibration_id=calibration,
        round=round_,
        candidate=Candidate(backend=backend, variant=variant),
        identity=identity,
        model=model,
        environment=dict(environment_of(all_backends()[backend], host) if environment is None else environment),
        policy=policy,
        started_at=at + 60 * round_,
        cells=tuple(
            Cell(
                workload=w,
                samples=tuple(
                    Sample(
                        ttft_s=slow * (0.010 + 0.002 * w.prompt_tokens * w.batch) * drift,
                        tpot_s=steps * (0.020 + 0.002 * w.batch) * drift,
                    )
                    for drift in (1.0, 1.01, 0.99)
                ),
            )
            for w in cells
        ),
        load_s=0.6 * slow,
        peak_memory_bytes=memory,
        agreement=agreement,
    )


def check(
    candidate: str,
    identity: Identity,
    host: HostSpec,
    *,
    agreement: Agreement = RIGHT,
    environment: Mapping[str, str] | None = None,
    model: str = "shape:smollm2-135m",
    at: float = DAY,
) -> Check:
    """A launch that compared the output and timed nothing."""
    launch = measurement(
        candidate, identity, host, agreement=agreement, environment=environment, model=model, at=at, calibration="c2"
    )
    return Check(**{f.name: getattr(launch, f.name) for f in fields(Check)})


def served(
    candidate: str,
    identity: Identity,
    host: HostSpec,
    tps: Mapping[str, float],
    *,
    threads: int = 2,
    slots: int = 8,
    round_: int = 1,
    calibration: str = "s1",
    ttft_s: float = 0.1,
    agreement: Agreement = RIGHT,
    as_served: Agreement = RIGHT_AS_SERVED,
    environment: Mapping[str, str] | None = None,
    model: str = "shape:smollm2-135m",
    at: float = DAY,
    memory: int = 1 << 30,
    void: str = "",
) -> Served:
    """A launch under load that had so many tokens a second, by the label of each load."""
    launch = check(candidate, identity, host, agreement=agreement, environment=environment, model=model, at=at)
    shared = {f.name: getattr(launch, f.name) for f in fields(Check)}
    points = (
        point(Load.parse(label), tps=value, ttft_s=ttft_s, peak_memory_bytes=memory, void=void)
        for label, value in tps.items()
    )
    return Served(
        **{**shared, "calibration_id": calibration, "round": round_, "started_at": at + 60 * round_},
        slots=slots,
        threads=threads,
        points=tuple(points),
        as_served=as_served,
    )


def unserved(candidate: str, identity: Identity, host: HostSpec, **fields_: Any) -> Unserved:
    """A launch whose server ended under load."""
    launch = failure(candidate, identity, host, **{"stage": "pp64:tg32:c8", **fields_})
    return Unserved(**{f.name: getattr(launch, f.name) for f in fields(Failure)})


def failure(
    candidate: str,
    identity: Identity,
    host: HostSpec,
    *,
    kind: FailureKind = FailureKind.CRASHED,
    stage: str = "load",
    message: str = "the worker was killed by signal 11",
    round_: int = 1,
    environment: Mapping[str, str] | None = None,
    model: str = "shape:smollm2-135m",
    at: float = DAY,
) -> Failure:
    """A launch that failed."""
    backend, _, variant = candidate.partition(":")
    return Failure(
        run_id=f"{next(_runs):032x}",
        calibration_id="c1",
        round=round_,
        candidate=Candidate(backend=backend, variant=variant),
        identity=identity,
        model=model,
        environment=dict(environment_of(all_backends()[backend], host) if environment is None else environment),
        policy=POLICY,
        started_at=at + 60 * round_,
        kind=kind,
        stage=stage,
        message=message,
        log_tail="Segmentation fault",
    )


def rounds(
    candidate: str, identity: Identity, host: HostSpec, times: Sequence[float], **fields: object
) -> list[Measurement]:
    """One launch for each of `times`, in rounds 1, 2 ...; 0 for a round that the candidate was not in."""
    return [
        measurement(candidate, identity, host, slow=slow, round_=number, **fields)  # type: ignore[arg-type]
        for number, slow in enumerate(times, start=1)
        if slow
    ]


def model_and_host(name: str = "shape:smollm2-135m") -> tuple[ModelSpec, HostSpec, Identity]:
    """A small shape on a CPU host, and the key of its launches."""
    spec, host = ModelSpec.read(name), cpu_host()
    return spec, host, identity(spec, host)


def other_size(key: Identity, fingerprint: str = "0" * 12) -> Identity:
    """The key of another model of the same architecture."""
    return replace(key, fingerprint=fingerprint, config="f" * 16)
