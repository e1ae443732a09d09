"""What became of requests while a server's engine was killed, and how long it was away: counts and times."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from calibration.load.client.ask import TOLD_ERROR, Answer
from calibration.load.figures import percentile

REFUSED = 503


class Outcome(StrEnum):
    """How a request ended."""

    WHOLE = "answered whole"
    ERROR_CHUNK = "accepted, ended with an error chunk"
    REFUSED = "refused with 503"
    OTHER_STATUS = "refused with another status"
    LOST = "lost without a word"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A request that is over. Times are seconds since the load began."""

    sent_s: float
    ended_s: float
    outcome: Outcome
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One death of the engine, and when the server told of it."""

    at_s: float
    refused_after_s: float | None
    """From the kill to the first request that was refused with 503; None: none was."""
    answered_after_s: float | None
    """From the kill to the end of the first whole answer to a request that was sent after it; None: none came."""


def outcome_of(answer: Answer) -> Outcome:
    """How a request ended; one that is not done was never told anything."""
    if answer.done and not answer.error:
        return Outcome.WHOLE
    if answer.status == REFUSED:
        return Outcome.REFUSED
    if answer.status not in (0, 200):
        return Outcome.OTHER_STATUS
    return Outcome.ERROR_CHUNK if answer.error.startswith(TOLD_ERROR) else Outcome.LOST


def kills_of(killed_s: Sequence[float], tried: Sequence[Tried]) -> list[Kill]:
    """What followed each kill, until the next one."""
    kills = []
    for at_s, next_s in zip(killed_s, [*killed_s[1:], float("inf")], strict=True):
        after = [each for each in tried if at_s <= each.ended_s < next_s]
        refused = [each.ended_s - at_s for each in after if each.outcome is Outcome.REFUSED]
        answered = [each.ended_s - at_s for each in after if each.outcome is Outcome.WHOLE and each.sent_s >= at_s]
        kills.append(
            Kill(
                at_s=at_s,
                refused_after_s=min(refused, default=None),
                answered_after_s=min(answered, default=None),
            )
        )
    return kills


def counts(tried: Sequence[Tried]) -> dict[Outcome, int]:
    """How many requests ended in each way; ways that none took stand with 0."""
    counted = Counter(each.outcome for each in tried)
    return {outcome: counted[outcome] for outcome in Outcome}


def table(counted: Mapping[Outcome, int], kills: Sequence[Kill], left: Sequence[str]) -> Iterator[str]:
    """A row for each figure."""
    accepted = counted[Outcome.WHOLE] + counted[Outcome.ERROR_CHUNK] + counted[Outcome.LOST]
    yield _row("requests", sum(counted.values()))
    yield _row("accepted", accepted)
    for outcome in Outcome:
        yield _row(outcome, counted[outcome])
    yield _row("kills", len(kills))
    yield _row("from kill to the first 503", _times([kill.refused_after_s for kill in kills]))
    yield _row("from kill to the first answer again", _times([kill.answered_after_s for kill in kills]))
    yield _row("left running", ", ".join(left) or "nothing")


def _row(what: str, figure: object) -> str:
    return f"{what:<37}{figure}"


def _times(seconds: Sequence[float | None]) -> str:
    known = [each for each in seconds if each is not None]
    median = percentile(known, 50)
    if median is None:
        return "never"
    never = f"; not seen after {len(seconds) - len(known)}" if len(known) < len(seconds) else ""
    return f"{median:.2f} s ({min(known):.2f} to {max(known):.2f}){never}"
