"""Room: how many requests a server takes at once and how long they may be, as asked for and as memory allows."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from calibration.errors import IllegalBackend, UsageError
from calibration.registry import find
from calibration.workload import Workload
from selector.answer import Selection
from selector.rules.judge import Verdict, judge

SLOTS = (4, 2, 1)
"""Requests at once where nobody said how many, the most that memory allows: one user's programs ask for several."""
CONTEXTS = (8192, 4096, 2048)
"""Tokens of a sequence where nobody said how many, the most that memory allows: with fewer, a chat of a few turns or a
question about a few pages is refused."""
SHARE = 0.8
"""Of the free memory, so much is taken at most for more room than was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a server holds."""

    slots: int
    """Requests at once."""
    context_tokens: int
    """Longest sequence of each, prompt and answer."""
    needed_bytes: int
    """As the rules count them: where the engine queues, the KV cache of those that it holds at once."""
    free_bytes: int
    """Of the device; 0 where its driver does not tell."""


def room_for(selection: Selection, *, slots: int | None = None, context_tokens: int | None = None) -> Room:
    """The room of a selected candidate.

    Args:
        slots: as the user asked for; None: as the load was measured with, or the workload's sequences where it has
            several, else SLOTS.
        context_tokens: as the user asked for; None: as many as CONTEXTS, the model and the memory allow, and as the
            workload needs.

    Raises:
        UsageError: the model has fewer positions than the context that is asked for.
        IllegalBackend: what is asked for does not fit.
    """
    spec, workload = selection.spec, selection.demand.largest
    if context_tokens is not None and 0 < spec.max_position < context_tokens:
        raise UsageError(f"{spec.name} has {spec.max_position:,} positions; found --context {context_tokens}")
    asked = slots or (selection.slots if selection.demand.loads or workload.batch > 1 else None)
    counts = (asked,) if asked else SLOTS
    contexts = (context_tokens,) if context_tokens else _contexts(workload.context_tokens, spec.max_position)
    pairs = sorted(product(counts, contexts), key=lambda pair: pair[1] < CONTEXTS[-1])
    free = selection.host.device.free_bytes
    for count, context in pairs:
        verdict = _verdict(selection, count, context)
        share = 1.0 if (count, context) == pairs[-1] else SHARE
        if verdict.legal and (not free or verdict.needed_bytes <= share * free):
            return Room(slots=count, context_tokens=context, needed_bytes=verdict.needed_bytes, free_bytes=free)
    reasons = "".join(f"\n  {reason.text}" for reason in verdict.reasons)
    raise IllegalBackend(
        f"{selection.candidate.label} has no room for {count} requests of {context:,} tokens at once{reasons}",
        "ask for less: --slots N --context N",
    )


def _contexts(needed: int, longest: int) -> Sequence[int]:
    """Lengths to try, the longest first; the last is what the workload needs, as far as the positions reach.

    Args:
        longest: positions of the model; 0 where the config names none.
    """
    within = [min(tokens, longest or tokens) for tokens in (*CONTEXTS, needed)]
    return tuple(dict.fromkeys(tokens for tokens in within if tokens >= within[-1]))


def _verdict(selection: Selection, slots: int, context_tokens: int) -> Verdict:
    """The rules' on so many sequences of that length."""
    backend = find(selection.backend)
    workload = Workload(prompt_tokens=max(1, context_tokens - 2), output_tokens=2, batch=slots)
    demand = selection.demand.for_one(workload)
    verdicts = judge(selection.spec, selection.host, demand, {backend.name: backend}, served=True)
    return next(verdict for verdict in verdicts if verdict.candidate == selection.candidate)
