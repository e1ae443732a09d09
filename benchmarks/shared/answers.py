"""How fast `select` answers from a cache: nothing changed, another workload, after a commit, in a fresh process."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from benchmarks.shared.writers import LAUNCH
from calibration.cache.cache import Cache
from calibration.workload import Workload
from selector.context import Context
from selector.selection import choose

ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Seconds of one thing that was done several times."""

    p50_s: float
    p95_s: float
    times: int


def answers(model: str, where: str, *, again: int = 2000, others: int = 500, fresh: int = 15) -> Mapping[str, Spread]:
    """What `select` takes, by what was asked.

    Args:
        where: a path or a URL; the model was measured there.
        again: how often the same is asked; `others`: another workload; `fresh`: after a commit, and in a process.

    Raises:
        ValueError: the model was not measured there, so that something else would be timed.
    """
    workloads = (Workload(prompt_tokens=64 + n % 433, output_tokens=16 + n % 47, batch=1 + n % 4) for n in count())
    with Context() as context, Cache.open(where, fleet="") as cache, Cache.open(where, fleet="") as other:
        if (source := choose(model, cache=cache, context=context).source) != "measured":
            raise ValueError(f"{model} was not measured in {cache.location}: its answer is {source}")
        numbers, prefix = count(), secrets.token_hex(8)

        def ask_again() -> None:
            choose(model, cache=cache, context=context)

        def ask_another() -> None:
            choose(model, cache=cache, context=context, workload=next(workloads))

        def commit() -> None:
            other.add(replace(LAUNCH, run_id=f"{prefix}{next(numbers):016x}"))

        def ask_in_a_process() -> None:
            command = [sys.executable, "-m", "autobackend", "select", model]
            variables = {**os.environ, "AUTOBACKEND_CACHE": where, "AUTOBACKEND_FLEET_CACHE": ""}
            subprocess.run(command, cwd=ROOT, env=variables, check=True, capture_output=True)

        ask_another()
        return {
            "nothing changed": _timed(ask_again, again),
            "another workload each time": _timed(ask_another, others),
            "the first after a commit of another": _timed(ask_again, fresh, before=commit),
            "in a fresh process, all in": _timed(ask_in_a_process, fresh),
        }


def _timed(act: Callable[[], None], times: int, before: Callable[[], None] = lambda: None) -> Spread:
    seconds = []
    for _ in range(times):
        before()
        began = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - began)
    p95_s = quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]
    return Spread(p50_s=median(seconds), p95_s=p95_s, times=times)
