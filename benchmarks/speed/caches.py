"""Caches of many launches: of one model under its true identity, and of other models and hosts."""

import hashlib
import json
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

from calibration.cache.cache import Cache
from calibration.cache.rows.launch_rows import COLUMNS
from calibration.environments.versions import POLICY
from calibration.measurement import Agreement, Cell, Identity, Measurement, OutputVerdict, Sample
from calibration.workload import grid
from selector.planning.plan import Plan

FOLDER = Path("build/benchmarks")
LEAST = 100_000
"""Launches in the smallest cache."""
ROUNDS = 3
SIZES = 10
"""Models of other sizes, with rows under the same architecture, quant and device as the one that is asked about."""
_BATCH = 5_000


def stocked(plan: Plan, rows: int, folder: Path = FOLDER) -> Path:
    """A cache of `rows` launches, made once; ten models share each key, the planned model is one of them.

    Args:
        rows: LEAST, or a multiple of it.
        folder: where it stays.
    """
    contents = json.dumps(
        [
            str(plan.identity),
            [[spec.label, dict(spec.environment)] for spec in plan.launch_specs],
            POLICY,
            COLUMNS,
            rows,
        ]
    )
    path = folder / f"cache-{rows}-{hashlib.sha256(contents.encode()).hexdigest()[:8]}.db"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        if rows > LEAST:
            shutil.copyfile(stocked(plan, LEAST, folder), unfinished)
            _multiply(unfinished, rows // LEAST)
        else:
            with Cache.open(unfinished) as cache:
                stream = islice(_launches(plan), LEAST)
                while batch := list(islice(stream, _BATCH)):
                    cache.add(*batch)
        unfinished.rename(path)
    return path


def _multiply(path: Path, times: int) -> None:
    """Copy every row times - 1 times, under another run_id and architecture: quicker than writing launches."""
    changed = {"run_id": ":copy || '-' || run_id", "architecture": "architecture || :copy"}
    columns, values = ", ".join(COLUMNS), ", ".join(changed.get(name, name) for name in COLUMNS)
    statement = f"INSERT INTO launches ({columns}) SELECT {values} FROM launches WHERE rowid <= :last"  # noqa: S608
    with closing(sqlite3.connect(path)) as connection, connection:
        last = connection.execute("SELECT max(rowid) FROM launches").fetchone()[0]
        for copy in range(1, times):
            connection.execute(statement, {"copy": copy, "last": last})


def _launches(plan: Plan) -> Iterator[Measurement]:
    """First the launches of the planned model, then those of other models, without end."""
    draw = random.Random(0)
    yield from _of(plan, plan.identity, draw)
    key = 0
    while True:
        for size in range(SIZES):
            identity = replace(plan.identity, fingerprint=f"{size:012x}")
            if key:
                identity = replace(identity, architecture=f"Other{key}ForCausalLM")
            yield from _of(plan, identity, draw)
        key += 1


def _of(plan: Plan, identity: Identity, draw: random.Random) -> Iterator[Measurement]:
    calibration = f"{draw.getrandbits(128):032x}"
    for number in range(1, ROUNDS + 1):
        for place, spec in enumerate(plan.launch_specs):
            slow = (1 + 0.2 * place) * draw.gauss(1, 0.05)
            yield Measurement(
                run_id=f"{draw.getrandbits(128):032x}",
                calibration_id=calibration,
                round=number,
                candidate=spec.candidate,
                identity=identity,
                model="some model",
                environment=dict(spec.environment),
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
