"""Launches as a calibration would leave them, numbered: equal numbers are equal launches."""

import random
from dataclasses import fields, replace
from typing import Any

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
from calibration.workload import grid
from tests.calibration.points import C2, C4, point

IDENTITY = Identity(
    architecture="LlamaForCausalLM",
    quant="none",
    device="AMD EPYC 7763, 2 cores",
    fingerprint="0123456789ab",
    dtype="bfloat16",
    device_count=1,
    host="a1b2c3",
    config="89abcdef01234567",
)
CUT = replace(IDENTITY, cut="3/30")
KEY = {"architecture": IDENTITY.architecture, "quant": IDENTITY.quant, "device": IDENTITY.device}


def measured(number: int, **changes: Any) -> Measurement:
    draw = random.Random(number)
    samples = [
        Sample(ttft_s=draw.random(), tpot_s=draw.random(), foreign_cores=draw.random(), dirty=i == 1) for i in range(3)
    ]
    launch = Measurement(
        run_id=f"{number:032x}",
        calibration_id="c" * 32,
        round=1 + number % 3,
        candidate=Candidate(backend="transformers", variant="sdpa"),
        identity=IDENTITY,
        model="shape:smollm2-135m",
        environment={"torch": "2.13.0", "transformers": "5.23.0", "threads": "2"},
        policy="1",
        started_at=1_790_000_000.0 + number,
        cells=tuple(Cell(workload=w, samples=tuple(samples)) for w in grid()),
        load_s=2.5,
        peak_memory_bytes=1 << 30,
        agreement=Agreement(verdict=OutputVerdict.RIGHT, kl=2e-9, top1=1.0, detail="48 positions of 4 prompts"),
        prepare_s=9.25,
        artifact_bytes=10**10,
    )
    return replace(launch, **changes)


def checked(number: int, **changes: Any) -> Check:
    launch = measured(number)
    return replace(Check(**{f.name: getattr(launch, f.name) for f in fields(Check)}), **changes)


def served(number: int, **changes: Any) -> Served:
    launch = checked(number)
    return replace(
        Served(
            **{f.name: getattr(launch, f.name) for f in fields(Check)},
            slots=4,
            threads=2,
            points=(point(C4, tps=100.0 + number), point(C2, tps=60.0, void="other programs used 9% of the cores")),
            as_served=Agreement(verdict=OutputVerdict.RIGHT, top1=1.0, detail="61 of 61 tokens of 12 requests at once"),
        ),
        **changes,
    )


def unserved(number: int, **changes: Any) -> Unserved:
    launch = failed(number, stage="pp16:tg8:c4", message="the server ended")
    return replace(Unserved(**{f.name: getattr(launch, f.name) for f in fields(Failure)}), **changes)


def failed(number: int, **changes: Any) -> Failure:
    launch = Failure(
        run_id=f"{number:032x}",
        calibration_id="c" * 32,
        round=1,
        candidate=Candidate(backend="pytorch", variant="graph"),
        identity=IDENTITY,
        model="shape:smollm2-135m",
        environment={"lmdeploy": "0.18.0"},
        policy="1",
        started_at=1_790_000_000.0 + number,
        kind=FailureKind.OUT_OF_MEMORY,
        stage="load",
        message="CUDA out of memory",
        log_tail="Traceback ...\ntorch.OutOfMemoryError: é\n",
    )
    return replace(launch, **changes)
