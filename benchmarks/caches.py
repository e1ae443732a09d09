"""Caches of many launches: one model's under its true identity, the rest other models' and hosts'."""

import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from calibration.cache import Cache
from calibration.environment import POLICY
from calibration.measurement import Agreement, Cell, Identity, Measurement, OutputVerdict, Sample
from calibration.workload import grid
from selector.planning import Plan

FOLDER = Path("build/benchmarks")
ROUNDS = 3
SIZES = 10
"""Models of other sizes, with rows under the same architecture, quant and device as the one that is asked about."""
_BATCH = 5_000


def stocked(plan: Plan, rows: int) -> Path:
    """A cache of `rows` launches, made once: 12 to 15 of each model, ten models a key, the planned one among them."""
    told = json.dumps([str(plan.identity), [[e.label, dict(e.environment)] for e in plan.entries], POLICY, rows])
    path = FOLDER / f"cache-{rows}-{hashlib.sha256(told.encode()).hexdigest()[:8]}.db"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        with Cache.open(unfinished) as cache:
            stream = islice(_launches(plan), rows)
            while batch := list(islice(stream, _BATCH)):
                cache.add(*batch)
        shutil.move(unfinished, path)
    return path


def _launches(plan: Plan) -> Iterator[Measurement]:
    """The planned model's launches first, then without end those of others."""
    draw = random.Random(0)
    yield from _of(plan, plan.identity, draw)
    key = 0
    while True:
        for size in range(SIZES):
            other = replace(plan.identity, fingerprint=f"{size:012x}")
            if key:
                other = replace(other, architecture=f"Other{key}ForCausalLM")
            yield from _of(plan, other, draw)
        key += 1


def _of(plan: Plan, identity: Identity, draw: random.Random) -> Iterator[Measurement]:
    calibration = f"{draw.getrandbits(128):032x}"
    for number in range(1, ROUNDS + 1):
        for place, entry in enumerate(plan.entries):
            slow = (1 + 0.2 * place) * draw.gauss(1, 0.05)
            yield Measurement(
                run_id=f"{draw.getrandbits(128):032x}",
                calibration_id=calibration,
                round=number,
                candidate=entry.candidate,
                identity=identity,
                model="some model",
                environment=dict(entry.environment),
                policy=POLICY,
                started_at=1_790_000_000.0 + number * 60 + place,
                cells=tuple(
                    Cell(
                        workload=workload,
                        samples=tuple(
                            Sample(
                                ttft_s=slow * 0.002 * workload.prompt_tokens * workload.batch * draw.gauss(1, 0.03),
                                tpot_s=slow * (0.02 + 0.002 * workload.batch) * draw.gauss(1, 0.03),
                            )
                            for _ in range(3)
                        ),
                    )
                    for workload in grid()
                ),
                load_s=slow,
                peak_memory_bytes=1 << 30,
                agreement=Agreement(verdict=OutputVerdict.RIGHT, kl=1e-9, top1=1.0),
            )
