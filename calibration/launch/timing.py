"""Time one cell of a launch: how often, what is warmed up, what counts as disturbed."""

from collections.abc import Sequence

from calibration.cost import Point, fit
from calibration.measurement import Cell, Sample
from calibration.supervision.deadline import Deadline
from calibration.supervision.supervisor import Worker
from calibration.workload import Workload

REPEATS_LEAST, REPEATS_MOST = 2, 5
CELL_SECONDS = 1.5
"""Repeats of a cell go on until it was timed this long, within the two bounds: they only steady a launch's median."""
LONG_CALL_S = 4.0
"""A call this long is timed once: its length steadies it, and slow candidates would eat the budget of the others. Where
the cells before say that a prefill will be as long, it is not warmed up for either."""
WARM_UP_TOKENS = 2
DIRTY_CORES = 0.15
"""Foreign load above this share of a core is a disturbance: one busy loop slows a spinning engine 2 to 4 times."""
DIRTY_SECONDS = 0.03
"""... unless it is so short that the clock ticks of /proc/stat (10 ms each, a few rounded at once) explain it."""


def time_cell(
    worker: Worker, step: Deadline, workload: Workload, run_id: str, timeout_s: float, before: Sequence[Cell] = ()
) -> Cell:
    """Warm up, then repeat; a disturbed sample is repeated once and marked when it stays disturbed.

    Args:
        run_id: of the launch; no two launches get the same prompts.
        timeout_s: of one call.
        before: the cells that this launch has timed already.
    """

    def sample(name: str, output_tokens: int) -> tuple[Sample, float]:
        reply = step.ask(
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
        fields = reply.fields
        taken = Sample(ttft_s=fields["ttft_s"], tpot_s=fields["tpot_s"], foreign_cores=round(foreign, 3), dirty=dirty)
        return taken, reply.seconds

    if not _long(workload, before):
        sample("warm-up", min(WARM_UP_TOKENS, workload.output_tokens))
    samples: list[Sample] = []
    spent = 0.0
    while len(samples) < _least(spent) or (len(samples) < REPEATS_MOST and spent < CELL_SECONDS):
        taken, seconds = sample(str(len(samples)), workload.output_tokens)
        if taken.dirty:
            again, seconds = sample(f"{len(samples)}-again", workload.output_tokens)
            taken = again if not again.dirty or again.foreign_cores < taken.foreign_cores else taken
        samples.append(taken)
        spent += seconds
    return Cell(workload=workload, samples=tuple(samples))


def _least(spent_s: float) -> int:
    """Repeats that a cell must have, once it was timed for so long."""
    return 1 if spent_s >= LONG_CALL_S else REPEATS_LEAST


def _long(workload: Workload, before: Sequence[Cell]) -> bool:
    """Whether a prefill will take LONG_CALL_S, told by the launch's other cells."""
    known = [Point(c.workload, c.ttft_s, c.tpot_s) for c in before if c.ttft_s > 0]
    return bool(known) and fit(known).ttft_s(workload) >= LONG_CALL_S
