"""Is the output right as served: what requests chose that ran at once, judged by the reference's scores.

A server tells tokens and seldom scores, and computes several requests together. So each request asks for what comes
after a prefix of the reference's own path: there the reference's scores judge every token that it chooses, up to the
first one that leaves the path. The tolerances are those of the check of `generate`.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calibration.check.agreement import NEW_TOKENS, PROMPT_TOKENS, Answers
from calibration.check.divergence import below, rows_of
from calibration.check.tolerance import LOSSY, TOLERANCES, Tolerance, tolerance
from calibration.measurement import Agreement, OutputVerdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Scores = NDArray[np.float32]

GIVEN = (0, 5, 2, 6)
"""So many tokens of its path follow a prompt. All prompts come with the first number, then all with the second: so they
are sequences of many lengths, that end at different steps."""
LEAST = 2
"""Requests at once, also where a server holds one."""
APART = 8
"""Of so many requests one may be answered otherwise at once than alone, and one of fewer: other kernels round
otherwise, and two tokens that nearly tie for an engine may change places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """What a request is asked to continue: a prompt of the check, and the first tokens of the reference's path."""

    prompt: int
    """Its number, from 0 on."""
    given: int = 0

    @property
    def new_tokens(self) -> int:
        """As many as the reference has scores for."""
        return NEW_TOKENS - self.given

    def tokens(self, prompts: Sequence[Sequence[int]], reference: Answers) -> tuple[int, ...]:
        """All of it."""
        return (*prompts[self.prompt], *reference.path(self.prompt)[: self.given])


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Which requests run at once."""

    running: Prefix
    """Begins before all others, and goes on until they have ended."""
    first: tuple[Prefix, ...]
    late: tuple[Prefix, ...]
    """They come when one of the first has ended, and others have not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The tokens that a request got."""

    after: Prefix
    tokens: tuple[int, ...]


def course(prompts: Sequence[int], slots: int) -> Course:
    """Requests for a server that holds so many at once: a few more than that, of different lengths.

    A long prompt comes once, and late: servers read it in pieces, between the steps of the others.

    Args:
        prompts: numbers of those that the server has room for; never empty.
    """
    short = [prompt for prompt in prompts if not _is_long(prompt)] or list(prompts)
    first = [Prefix(prompt=prompt, given=given) for given in GIVEN for prompt in short]
    late = (
        Prefix(prompt=prompts[-1]),
        Prefix(prompt=short[0], given=3),
        Prefix(prompt=short[len(short) // 2], given=1),
    )
    return Course(running=Prefix(prompt=short[0]), first=tuple(first[: max(LEAST, min(slots, len(first)))]), late=late)


def unknown(reference: Answers, chosen: Sequence[Chosen], prompts: Sequence[int]) -> tuple[Prefix, ...]:
    """What is to be asked yet: of each short prompt the first position at which no request has chosen a token."""
    known = {(prompt, step) for one in chosen for prompt, step, _ in _along_the_path(reference, one)}
    due = []
    for prompt in prompts:
        missing = [step for step in range(NEW_TOKENS) if (prompt, step) not in known]
        if missing and not _is_long(prompt):
            due.append(Prefix(prompt=prompt, given=missing[0]))
    return tuple(due)


def judge(reference: Answers, chosen: Sequence[Chosen], prompts: Collection[int], precision: str) -> Agreement:
    """The verdict on the tokens that requests chose at once.

    Of several that chose at one position the worst counts, and a position at which none has chosen yet counts as right.

    Args:
        prompts: numbers of all that are asked.
        precision: key of TOLERANCES.
    """
    expected = rows_of(reference.rows_file, reference.row_shape)
    if expected is None:
        return Agreement(verdict=OutputVerdict.UNCHECKED, detail="the reference gave no scores")
    allowed = tolerance(precision, reference.rounding, reference.precision)
    worst: dict[tuple[int, int], tuple[float, int]] = {}
    troubles, equal, count = list[str](), 0, 0
    for one in chosen:
        for prompt, step, token in _along_the_path(reference, one):
            margin, best = below(expected[prompt, step], token), reference.path(prompt)[step]
            count, equal = count + 1, equal + (token == best)
            worst[prompt, step] = max(worst.get((prompt, step), (-1.0, token)), (margin, token))
            if margin > allowed.margin:
                troubles.append(
                    f"token {step + 1} after prompt {prompt + 1} is {token}, which the reference scores {margin:.2f}"
                    f" deviations below its own choice, {best}"
                )
    if not count:
        return Agreement(verdict=OutputVerdict.UNCHECKED, detail="the server told no token")
    troubles += _on_average(worst, expected, prompts, allowed)
    requests = f"{len(chosen)} request{'s' * (len(chosen) != 1)}"
    detail = f"{equal} of {count} tokens of {requests} at once are the reference's"
    if troubles:
        verdict, detail = OutputVerdict.WRONG, f"{troubles[0]}; {detail}"
    else:
        verdict = OutputVerdict.LOSSY if precision in LOSSY else OutputVerdict.RIGHT
    return Agreement(verdict=verdict, top1=equal / count, detail=detail)


def needs_itself(precision: str) -> bool:
    """Whether an engine of this precision may be so far from the reference that only its own answers can judge it."""
    return not math.isfinite(TOLERANCES[precision].margin)


def beside_itself(together: Sequence[Chosen], alone: Sequence[Chosen]) -> str:
    """What is wrong where requests are answered otherwise at once than each alone; else empty.

    It says nothing of what is wrong in both.
    """
    known = {one.after: one.tokens for one in alone}
    pairs = [(one.tokens, known[one.after]) for one in together if one.after in known]
    apart = sum(any(a != b for a, b in zip(*pair, strict=False)) for pair in pairs)
    if apart <= max(1, len(pairs) // APART):
        return ""
    return f"{apart} of {len(pairs)} requests are answered otherwise at once than alone"


def _along_the_path(reference: Answers, one: Chosen) -> Iterator[tuple[int, int, int]]:
    """(prompt, step, token): each token up to the first that is not the reference's, and that one."""
    prompt, path = one.after.prompt, reference.path(one.after.prompt)
    for step, token in enumerate(one.tokens[: one.after.new_tokens], start=one.after.given):
        yield prompt, step, token
        if token != path[step]:
            return


def _on_average(
    worst: Mapping[tuple[int, int], tuple[float, int]],
    expected: "Scores",
    prompts: Collection[int],
    allowed: Tolerance,
) -> Iterator[str]:
    """Which choices are, together, too far below the reference's.

    Args:
        worst: (prompt, step): how far the worst choice is below the reference's, and which it is.
    """
    for prompt in prompts:
        places = {place: told for place, told in worst.items() if place[0] == prompt}
        mean = sum(margin for margin, _ in places.values()) / NEW_TOKENS
        if mean > allowed.mean_margin and (
            math.isfinite(allowed.margin) or _share_of_strangers(places, expected) > allowed.strangers
        ):
            yield (
                f"the tokens after prompt {prompt + 1} are {mean:.2g} deviations below the reference's own choices on"
                f" average ({allowed.mean_margin:.2g} allowed)"
            )
    mean = sum(margin for margin, _ in worst.values()) / (NEW_TOKENS * len(prompts))
    if mean > allowed.all_margin:
        yield (
            f"the tokens chosen are {mean:.2g} deviations below the reference's own choices on average"
            f" ({allowed.all_margin:.2g} allowed)"
        )


def _share_of_strangers(places: Mapping[tuple[int, int], tuple[float, int]], expected: "Scores") -> float:
    """How far tokens are below the best of their own positions, as a share of what they are at two others.

    An engine in 4 bits may choose far below the best (2 deviations on average were seen, see TOLERANCES). It is right
    as long as its choices are nearer to the best than tokens that have nothing to do with their position.
    """
    prompts, steps = expected.shape[:2]
    own, elsewhere = 0.0, 0.0
    for (prompt, step), (margin, token) in places.items():
        own += margin
        for third in (1, 2):
            other = (prompt * steps + step + prompts * steps * third // 3) % (prompts * steps)
            elsewhere += below(expected[divmod(other, steps)], token) / 2
    return own / elsewhere if elsewhere else math.inf


def _is_long(prompt: int) -> bool:
    """Beyond the first, which are always there."""
    return prompt >= len(PROMPT_TOKENS)
