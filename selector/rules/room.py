"""How much fits beside a model: the longest context and the largest batch that a variant has memory for."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from selector.rules.combination import Combination
from selector.rules.held import memory_of

MOST_TOKENS = 1 << 20
"""A context beyond this is not looked for, where the model names no limit."""
MOST_SEQUENCES = 1 << 12
"""A batch beyond this is not looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Most:
    """What fits into the memory that is free."""

    context_tokens: int
    """Prompt and output of each of the workload's sequences, as far as the model's positions reach; 0: not one fits."""
    batch: int
    """Sequences as long as the workload's; 0: not one fits. At most MOST_SEQUENCES are looked for."""


def most_of(case: Combination) -> Most | None:
    """The longest context and the largest batch; None where the device does not tell how much is free."""
    workload, free = case.demand.workload, case.device.free_bytes
    if case.device.memory_bytes <= 0:
        return None

    def fits_context(tokens: int) -> bool:
        prompt = max(1, tokens - workload.output_tokens)
        longer = replace(workload, prompt_tokens=prompt, output_tokens=max(1, tokens - prompt))
        return memory_of(case, longer).needed_bytes <= free

    def fits_batch(sequences: int) -> bool:
        return memory_of(case, replace(workload, batch=sequences)).needed_bytes <= free

    longest = case.model.max_position or MOST_TOKENS
    # Two tokens are the shortest: a prompt and an answer of one each.
    return Most(context_tokens=_largest(fits_context, 2, longest), batch=_largest(fits_batch, 1, MOST_SEQUENCES))


def largest_batch(case: Combination) -> int:
    """Of the workload's sequences, as many as fit and fewer than it asks for; 0: not one fits."""
    workload = case.demand.workload

    def fits(sequences: int) -> bool:
        return memory_of(case, replace(workload, batch=sequences)).needed_bytes <= case.device.free_bytes

    return _largest(fits, 1, workload.batch - 1)


def _largest(fits: Callable[[int], bool], least: int, most: int) -> int:
    """The largest number that fits, where all smaller ones fit, too; 0: not even the least does."""
    if most < least or not fits(least):
        return 0
    if fits(most):
        return most
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if fits(middle) else (least, middle)
    return least
