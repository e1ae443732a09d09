"""Times one cell of a launch: how often, what is warmed up, what counts as disturbed."""

from collections.abc import Sequence

from calibration.cost import Point, fit
from calibration.measurement import Cell, Sample
from calibration.supervision.deadline import Deadline
from calibration.supervision.supervisor import Worker
from calibration.workload import Workload

REPEATS_LEAST, REPEATS_MOST = 2, 5
CELL_SECONDS = 1.5
"""A cell is repeated until it was timed this long, within the two bounds: repeats only steady a launch's median."""
LONG_CALL_S = 4.0
"""A call this long is timed once: its length steadies it, and slow candidates would eat the budget of the others. It
is not warmed up, either, where the cells before say that its prefill will be as long."""
WARM_UP_TOKENS = 2
DIRTY_CORES = 0.15
"""Other programs that keep more than this share of a core busy disturb a sample: one busy loop slows a spinning engine
2 to 4 times."""
DIRTY_SECONDS = 0.03
"""... unless they were busy for so short a time that the clock ticks of /proc/stat (10 ms each, a few rounded at once)
explain it."""


def time_cell(
    worker: Worker, deadline: Deadline, workload: Workload, run_id: str, timeout_s: float, before: Sequence[Cell] = ()
) -> Cell:
    """Warm up, then repeat; a disturbed sample is taken once more, and marked when that is disturbed, too.

    Args:
        run_id: of the launch; no two launches get the same prompts.
        timeout_s: of one call.
        before: the cells that this launch has timed already.
    """

    def sample(name: str, output_tokens: int) -> tuple[Sample, float]:
        reply = deadline.ask(
            worker,
            workload.label,
            timeout_s,
            "sample",
            seed=f"{run_id}-{workload.label}-{name}",
            prompt_tokens=workload.prompt_tokens,
            output_tokens=output_tokens,
            batch=workload.batch,
        )
        foreign = reply.foreign_cores
        dirty = foreign > DIRTY_CORES and foreign * reply.seconds > DIRTY_SECONDS
        times = reply.fields
        taken = Sample(ttft_s=times["ttft_s"], tpot_s=times["tpot_s"], foreign_cores=round(foreign, 3), dirty=dirty)
        return taken, reply.seconds

    if not _prefill_is_long(workload, before):
        sample("warm-up", min(WARM_UP_TOKENS, workload.output_tokens))
    samples: list[Sample] = []
    spent_s = 0.0
    while _goes_on(len(samples), spent_s):
        taken, seconds = sample(str(len(samples)), workload.output_tokens)
        if taken.dirty:
            again, seconds = sample(f"{len(samples)}-again", workload.output_tokens)
            taken = again if not again.dirty or again.foreign_cores < taken.foreign_cores else taken
        samples.append(taken)
        spent_s += seconds
    return Cell(workload=workload, samples=tuple(samples))


def expected_s(workload: Workload, ttft_s: float, tpot_s: float | None) -> float:
    """What timing a cell takes, its warm-up included, where one call takes so long."""
    step_s = tpot_s or 0.0
    call_s = ttft_s + (workload.output_tokens - 1) * step_s
    repeats = 0
    while _goes_on(repeats, repeats * call_s):
        repeats += 1
    warm_up_s = ttft_s + min(WARM_UP_TOKENS, workload.output_tokens - 1) * step_s if ttft_s < LONG_CALL_S else 0.0
    return warm_up_s + repeats * call_s


def _goes_on(samples: int, spent_s: float) -> bool:
    """Whether a cell is timed once more, when it was timed so often and for so long already."""
    least = 1 if spent_s >= LONG_CALL_S else REPEATS_LEAST
    return samples < least or (samples < REPEATS_MOST and spent_s < CELL_SECONDS)


def _prefill_is_long(workload: Workload, before: Sequence[Cell]) -> bool:
    """Whether a prefill will take LONG_CALL_S, by what the launch's cells before took."""
    known = [Point(c.workload, c.ttft_s, c.tpot_s) for c in before if c.ttft_s > 0]
    return bool(known) and fit(known).ttft_s(workload) >= LONG_CALL_S
