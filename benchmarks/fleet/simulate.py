"""The planner of `autobackend fleet calibrate` on simulated hosts: how long it plans, what it saves, whom it finds.

`python -m benchmarks.fleet.simulate [--hosts 10000] [--types 40] [--models 200] [--verify 8] [--noise 0.025]`

Hosts of a type take the same time but for the noise of a launch and of a host; three of each type are slower by 10 to
50 %. Nothing is launched: a task takes as long as such tasks take, and its times are drawn.
"""

import argparse
import heapq
import json
import math
import random
import resource
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from selector.fleet.board import VERIFY, Board
from selector.fleet.groups import Kin
from selector.fleet.tasks import Calibrate, SpotCheck, Task

CALIBRATION_S: Final = 300.0
"""Of a small model, sure on a few layers (docs/benchmarks.md); large ones take up to three times that."""
CHECK_S: Final = 60.0
"""What a spot check may take at most."""
DEVIANTS: Final = 3
SLOWER: Final = (1.10, 1.50)
HOST_CV: Final = 0.004
"""Hosts of one type that are well differ by so much for good."""
LABELS: Final = ("best", "second")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a simulated fleet cost, and whom the planner found."""

    hosts: int
    types: int
    models: int
    verify: int
    noise: float
    plan_s: float
    """CPU time of all decisions, from the first to the last."""
    first_plan_s: float
    """Until every host has its first task."""
    peak_mib: float
    calibrations: int
    checks: int
    device_hours: float
    everywhere_device_hours: float
    wall_hours: float
    planted: int
    found: int
    false_alarms: int
    unanswered: int
    """Pairs of a host and a model without an answer: neither measured there nor inherited."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet.simulate", description=__doc__)
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--types", type=int, default=40)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--verify", type=int, default=VERIFY, help=f"models on which a host is compared ({VERIFY})")
    parser.add_argument("--noise", type=float, default=0.025, help="CV of a launch (0.025: an accelerator's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args(argv)
    outcome = simulate(
        arguments.hosts, arguments.types, arguments.models, arguments.verify, arguments.noise, arguments.seed
    )
    if arguments.out:
        arguments.out.write_text(json.dumps(asdict(outcome), indent=2) + "\n", encoding="utf-8")
    print("\n".join(table(outcome)))
    return 0


def simulate(hosts: int, types: int, models: int, verify: int, noise: float, seed: int) -> Outcome:
    """Run a fleet to its end in simulated time."""
    draw = random.Random(seed)
    kinds = [_kin(number, on_cpu=noise > 0.05) for number in range(types)]
    groups = {kin: [f"{kin.device}-{i}" for i in range(number, hosts, types)] for number, kin in enumerate(kinds)}
    names = [f"model-{number}" for number in range(models)]
    own = {name: math.exp(draw.gauss(0.0, HOST_CV)) for group in groups.values() for name in group}
    deviants = {name for group in groups.values() for name in draw.sample(group, min(DEVIANTS, len(group)))}
    for name in deviants:
        own[name] *= draw.uniform(*SLOWER)
    size = {model: draw.uniform(1.0, 3.0) for model in names}

    def times(host: str, model: str) -> dict[str, float]:
        return {
            label: own[host] * size[model] * (1.0 + 0.05 * place) * math.exp(draw.gauss(0.0, noise))
            for place, label in enumerate(LABELS)
        }

    board = Board(groups, names, verify=verify)
    tasks = board.begin()
    told: list[tuple[Task, Mapping[str, float]]] = []
    queue: list[tuple[float, int, Task]] = []
    count = calibrations = checks = 0
    now = device_s = everywhere_s = 0.0
    while True:
        for task in tasks:
            seconds = CALIBRATION_S * size[task.model] if isinstance(task, Calibrate) else CHECK_S
            device_s += seconds
            count += 1
            calibrations += isinstance(task, Calibrate)
            checks += isinstance(task, SpotCheck)
            heapq.heappush(queue, (now + seconds, count, task))
        if not queue:
            break
        now, _, task = heapq.heappop(queue)
        told.append((task, times(task.host, task.model)))
        _tell(board, *told[-1])
        tasks = board.begin()
    everywhere_s = sum(size.values()) * CALIBRATION_S * hosts
    standings = board.standings()
    called = {standing.host for standing in standings if standing.likeness and not standing.likeness.alike}
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    first_plan_s, plan_s = _planned(Board(groups, names, verify=verify), told)
    return Outcome(
        hosts=hosts,
        types=types,
        models=models,
        verify=verify,
        noise=noise,
        plan_s=plan_s,
        first_plan_s=first_plan_s,
        peak_mib=peak_mib,
        calibrations=calibrations,
        checks=checks,
        device_hours=device_s / 3600,
        everywhere_device_hours=everywhere_s / 3600,
        wall_hours=now / 3600,
        planted=len(deviants),
        found=len(deviants & called),
        false_alarms=len(called - deviants),
        unanswered=sum(models - len(standing.calibrated) for standing in standings if not standing.inherits),
    )


def _planned(board: Board, told: Iterable[tuple[Task, Mapping[str, float]]]) -> tuple[float, float]:
    """CPU seconds until every host has its first task, and of all decisions, where the same is told once more.

    The clock is asked three times: to ask it before and after each decision takes as long as the decisions do.
    """
    began = time.process_time()
    board.begin()
    first = time.process_time()
    for task, times in told:
        _tell(board, task, times)
        board.begin()
    return first - began, time.process_time() - began


def _tell(board: Board, task: Task, times: Mapping[str, float]) -> None:
    board.measured(task.host, task.model, times, best=LABELS if isinstance(task, Calibrate) else None)


def table(outcome: Outcome) -> list[str]:
    """A line for each figure."""
    share = outcome.device_hours / outcome.everywhere_device_hours
    fleet = f"{outcome.hosts:,} hosts of {outcome.types} types, {outcome.models} models, compared on {outcome.verify}"
    hours = f"{outcome.device_hours:,.0f} of {outcome.everywhere_device_hours:,.0f} everywhere ({share:.1%})"
    planning = f"{outcome.plan_s:.2f} s for all of it, {outcome.first_plan_s:.2f} s for the first tasks"
    odd = f"{outcome.found} of {outcome.planted} found, {outcome.false_alarms} false alarms"
    return [
        f"{fleet}; launches vary by {outcome.noise:.1%}",
        f"device-hours      {hours}; {outcome.wall_hours:.1f} h in all",
        f"tasks             {outcome.calibrations:,} calibrations, {outcome.checks:,} spot checks",
        f"planning          {planning}, {outcome.peak_mib:.0f} MiB",
        f"unlike the others {odd}, {outcome.unanswered} without an answer",
    ]


def _kin(number: int, *, on_cpu: bool) -> Kin:
    return Kin(
        kind="cpu" if on_cpu else "cuda",
        device=f"device-{number:02}",
        devices=1,
        memory_gib=80,
        driver="570",
        power_limit_w=700,
        mig="",
        cpu="x86_64_v4",
        cores=64,
    )


if __name__ == "__main__":
    sys.exit(main())
