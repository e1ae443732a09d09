"""Use: what a model is to be used for, a static batch or a load: one parser, and what both forms have in common."""

from calibration.errors import UsageError
from calibration.load import load as loads
from calibration.load.load import Load
from calibration.workload import STANDARD, Workload

Use = Workload | Load

OPEN_SLOTS = 8
"""Requests that a server holds at once where the load does not say how many there will be; as ServerPlace has it."""

_MEND = (
    f"a batch is written as pp512:tg128:b1 or is one of {', '.join(STANDARD)}; a load as pp512:tg128:c8 (eight"
    " streams), pp512:tg128:r0.5 (half a request a second) or pp200-800:tg64-256:c4,"
    f" or is one of {', '.join(loads.STANDARD)}"
)


def parse_use(text: str) -> Use:
    """Read the label or the standard name of a static batch or of a load.

    Raises:
        UsageError: the text is none of them, or has a number that cannot be.

    >>> parse_use("pp512:tg128:b4").label, parse_use("pp512:tg128:c8").label, parse_use("serve-few").label
    ('pp512:tg128:b4', 'pp512:tg128:c8', 'pp256-768:tg64-192:c2')
    """
    if Workload.knows(text):
        return Workload.parse(text)
    if Load.knows(text):
        return Load.parse(text)
    raise UsageError(f"unknown workload {text!r}", _MEND)


def title_of(use: Use) -> str:
    """What screens call it: a label, or the name of a trace."""
    match use:
        case Workload():
            return use.label
        case Load():
            return use.title


def most_tokens_of(use: Use) -> int:
    """New tokens of its longest answer."""
    match use:
        case Workload():
            return use.output_tokens
        case Load():
            return use.answers.high


def slots_of(use: Use) -> int:
    """Requests that a server for this use holds at once."""
    match use:
        case Workload():
            return use.batch
        case Load():
            return use.streams or OPEN_SLOTS


def batch_of(use: Use) -> Workload:
    """The static batch that is nearest: its own lengths, or the mean ones of a load, for as many sequences at once.

    Of an open loop nobody knows beforehand how many requests run at once: one.

    >>> batch_of(Load.parse("pp200-800:tg64:c4")).label
    'pp500:tg64:b4'
    """
    match use:
        case Workload():
            return use
        case Load():
            return Workload(
                prompt_tokens=max(1, round(use.prompt_mean)),
                output_tokens=max(1, round(use.output_mean)),
                batch=use.streams or 1,
            )


def largest_of(use: Use) -> Workload:
    """The static batch that memory and context must hold: the longest sequences of a load, in all slots.

    >>> largest_of(Load.parse("pp200-800:tg64:c4")).label
    'pp800:tg96:b4'
    """
    match use:
        case Workload():
            return use
        case Load():
            return Workload(
                prompt_tokens=use.prompt.high, output_tokens=use.context_tokens - use.prompt.high, batch=slots_of(use)
            )
