"""The measured batch that gives the most tokens a second, for a user who asks for throughput and names no workload."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median

from selector.demand.demand import Demand
from selector.demand.objective import Objective
from selector.evidence.ranking import Ranked


def larger_batch(demand: Demand, model: str, ranking: Sequence[Ranked], answer: Ranked) -> Iterable[str]:
    """A sentence with the command that asks for it; nothing where the answer's own batch gives the most.

    Only batches that were measured count, at the answer's prompt and output; beyond them nobody knows when an engine
    runs out of memory or slots.
    """
    if demand.objective is not Objective.THROUGHPUT or demand.workloads:
        return
    fastest = answer.output_tps, answer.candidate.label, answer.workload
    for ranked in ranking:
        if demand.names(ranked.candidate.label):
            for batch in {cell.batch for launch in ranked.launches for cell in launch.cells}:
                workload = replace(answer.workload, batch=batch)
                e2e_s = median(launch.cost.e2e_s(workload) for launch in ranked.launches)
                tps = batch * workload.output_tokens / e2e_s
                fastest = max(fastest, (tps, ranked.candidate.label, workload))
    tps, label, workload = fastest
    if workload.batch > answer.workload.batch:
        command = demand.for_one(workload).command("select", model)
        rate = f"{tps:.3g}" if tps < 999.5 else f"{tps:.0f}"
        yield f"larger batches give more: {label} generates {rate} tok/s of {workload.label}. Ask for it: {command}"
