"""For how long a chosen engine may give nothing, by what is known of its times here."""

from math import isfinite

from calibration.load.use import batch_of
from selector.answer import Selection
from selector.planning.room import Room
from selector.serve.keep.watch import Silence

SLACK = 20.0
"""So many times what is expected. Beside one busy program engines took 1.4 to 3.1 times as long, beside several ten
times and more; and a token of a long prompt costs more than one of the prompts that were timed."""
UNKNOWN_FLOPS, UNKNOWN_BYTES_S = 1e11, 1e10
"""Of a device where nothing is predicted: a fifth of what two cores reach (the probe in results/hosts/ac3e84e793a4)."""


def silence_of(selection: Selection, room: Room, *, comes_whole: bool, hung_after_s: float | None = None) -> Silence:
    """For the selected candidate.

    Args:
        comes_whole: its answers come in one piece.
        hung_after_s: as the user said, whatever the prompts are; None: by what is expected of it.
    """
    if hung_after_s is not None:
        return Silence(least_s=hung_after_s)
    read_s, write_s = _expected(selection)
    return Silence(
        read_s=SLACK * read_s,
        write_s=SLACK * write_s if comes_whole else 0.0,
        slots=room.slots,
        context_tokens=room.context_tokens,
    )


def _expected(selection: Selection) -> tuple[float, float]:
    """Seconds for a token of a prompt and for a new one: as measured here, else as predicted, else a guess."""
    candidate, workload = selection.candidate, selection.workload
    prompts = workload.prompt_tokens * workload.batch
    for ranked in selection.ranking:
        if ranked.candidate == candidate:
            return ranked.ttft_s / prompts, ranked.tpot_s
    for served in selection.served:
        figures = served.figures
        if served.candidate == candidate and isfinite(figures.ttft_p95_s):
            return figures.ttft_p95_s / batch_of(served.load).prompt_tokens, figures.tpot_p95_s
    if expected := selection.expected:
        return expected.ttft_s / prompts, expected.tpot_s
    parameters = selection.spec.parameters
    return 2 * parameters / UNKNOWN_FLOPS, 4 * parameters / UNKNOWN_BYTES_S
