"""What a worker answers: a Reply, or the Trouble in which it failed."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calibration.measurement import FailureKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the worker answered."""

    fields: Mapping[str, Any]
    seconds: float
    foreign_cores: float
    """Mean number of cores that processes outside the worker's tree kept busy while it worked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """How the worker failed; it is dead."""

    kind: FailureKind
    message: str
    at_deadline: bool = False


def event_of(line: bytes) -> Mapping[str, Any] | Trouble:
    """The event of a line with which a worker answers a verb, `done` or `error`; the trouble where it is no answer."""
    with contextlib.suppress(ValueError):
        answer = json.loads(line)
        if isinstance(answer, dict) and answer.get("event") in ("done", "error"):
            return answer
    return no_answer(line)


def no_answer(line: bytes) -> Trouble:
    """The trouble that a line is which nobody sends who is well."""
    shown = line[:80].decode(errors="replace")
    return Trouble(kind=FailureKind.CRASHED, message=f"the worker sent what is no answer: {shown!r}")


def error_told(answer: Mapping[str, Any], kind: FailureKind) -> Trouble:
    """The trouble that an event `error` tells.

    Args:
        kind: of an error that says nothing more.
    """
    if answer.get("out_of_memory"):
        kind = FailureKind.OUT_OF_MEMORY
    elif answer.get("stopped_early"):
        kind = FailureKind.WRONG_OUTPUT
    return Trouble(kind=kind, message=str(answer["message"]))
