"""What measuring again costs: the launches by what the recorded ones took, the conversions that are made anew."""

from calibration.measurement import Cell, Measurement
from calibration.workload import Workload, grid

LAUNCH_S = 0.5
"""Of a launch, beside its load and its samples: the median over 177 launches of later rounds in results/. The check of
a first launch is not recorded and not counted: 9 to 25 % of a calibration (docs/measuring.md)."""


def launch_s(launch: Measurement) -> float:
    """Seconds that a launch took, by its load, its samples and a warm-up for each cell."""
    return LAUNCH_S + launch.load_s + sum(map(_cell_s, launch.cells))


def asked_for(cells: tuple[Workload, ...], *, gpu: bool) -> tuple[Workload, ...]:
    """The workloads for which a calibration measures these cells: none for its default ones, else two corners."""
    if set(cells) == {*grid(gpu=gpu)} or not cells:
        return ()
    prompts, batches = sorted(c.prompt_tokens for c in cells), sorted(c.batch for c in cells)
    output_tokens = cells[0].output_tokens
    corners = (Workload(prompt_tokens=prompts[i], output_tokens=output_tokens, batch=batches[i]) for i in (0, -1))
    return tuple(dict.fromkeys(corners))


def _cell_s(cell: Cell) -> float:
    steps = cell.workload.output_tokens - 1
    warm_up_s = cell.ttft_s + (cell.tpot_s or 0.0)
    return warm_up_s + sum(sample.ttft_s + steps * (sample.tpot_s or 0.0) for sample in cell.samples)
