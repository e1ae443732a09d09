"""kill -9 at random moments: no orphan, no lost row, and the next calibration goes on."""

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from calibration.cache.cache import Cache
from calibration.measurement import Failure, FailureKind, Outcome
from tests.calibration.tiny_engines.racing import entry, race

PROGRAM = Path(__file__).parents[1] / "tiny_engines" / "racing.py"
KILLS = 20


def marked(mark: str) -> list[psutil.Process]:
    """Every living process that was started with this mark among its variables."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SURVIVES_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def nothing_left(mark: str, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not marked(mark):
            return True
        time.sleep(0.05)
    return False


def kept(folder: Path) -> dict[str, Outcome]:
    if not (folder / "cache.db").exists():
        return {}
    with Cache.open(folder / "cache.db") as cache:
        return {o.run_id: o for o in cache.all()}


@pytest.mark.slow
def test_kill_9_at_random_moments_loses_nothing(tmp_path: Path) -> None:
    draw = random.Random(20)
    mark = uuid.uuid4().hex
    seen: dict[str, Outcome] = {}
    for attempt in range(KILLS):
        environment = {**os.environ, "SURVIVES_MARK": mark, "PYTHONPATH": os.pathsep.join(sys.path)}
        parent = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(tmp_path)], env=environment, stderr=subprocess.PIPE
        )
        time.sleep(draw.uniform(0.1, 1.2))
        workers = [p for p in marked(mark) if p.pid != parent.pid]
        if attempt % 2 and workers:
            draw.choice(workers).send_signal(signal.SIGKILL)
        else:
            parent.send_signal(signal.SIGKILL)
        _, errors = parent.communicate(timeout=120)
        assert parent.returncode in (0, -signal.SIGKILL), errors.decode()
        assert nothing_left(mark)
        now = kept(tmp_path)
        assert {run_id: now.get(run_id) for run_id in seen} == seen
        seen = now
    crashes = [o for o in seen.values() if isinstance(o, Failure)]
    assert {o.kind for o in crashes} <= {FailureKind.CRASHED}
    tally = race(tmp_path, entry("a", step_s=0.004), entry("b", step_s=0.006), entry("c", step_s=0.005))
    assert {o.candidate.variant for o in tally.outcomes} == {"a", "b", "c"}
    assert set(seen) <= set(kept(tmp_path))
