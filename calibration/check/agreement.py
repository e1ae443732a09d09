"""Is the output right: a candidate's tokens and scores beside the reference's; wrong, lossy or right.

Random weights make greedy paths fragile: two right engines part where the two best tokens are nearly equal. So every
choice is judged after a prefix of the reference's own path, teacher-forced, by how much worse the reference scores it;
and where the engine gives scores, they are compared there.

How near is near enough comes from the model: 16-bit engines may be a few times as far from the reference as the
reference is from itself when it is computed in 16 bits. Lossy engines may be far, but must be nearer to the reference's
own scores than to its scores at other positions: what computes something else is near to neither.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.check.divergence import Distances, below, distances, rows_of, strangers
from calibration.check.tolerance import LOSSY, TOLERANCES, Rounding, Tolerance, tolerance
from calibration.measurement import Agreement, OutputVerdict
from calibration.worker.prompts import prompts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHECK_VERSION = "2"
NEW_TOKENS = 8
PROMPT_TOKENS = (24, 24, 96)
"""Length of each short prompt; a long one may follow them."""
LONG_TOKENS = 1040
"""Length of the long prompt, where the calibration itself is long enough to afford it."""
BEYOND_WINDOW = 16
"""A long prompt ends so many tokens beyond a sliding window: there a window off by one still weighs most."""
GROUPS: tuple[tuple[int, ...], ...] = ((0,), (1,), (1, 0), (2,))
"""The prompts that are generated together. The second comes right after the first, in a call of the same shape, so that
a cache that was not cleared shows; then both in a batch, in the other order, so that swapped rows show."""
LONG_GROUP = (3,)
TOLD_BY_SCORES = 2
"""From this prompt on an engine whose scores are the steps of `generate` is asked for scores alone: what only shows
from one call to the next, or in a batch, shows with the prompts before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Tokens and scores of one engine on the fixed prompts."""

    tokens: tuple[tuple[tuple[int, ...], ...], ...]
    """[group][prompt of the group][step]: of the reference its path, of a candidate what it chooses after each prefix
    of that path; those of the long prompt end where they leave it."""
    rows_file: Path | None
    """float32 [prompt, NEW_TOKENS, vocab] logits or log-probabilities along the reference's path, without those of the
    long prompt where the engine does not score it; None where it gives no scores."""
    row_shape: tuple[int, int] | None
    """(NEW_TOKENS, vocab)"""
    rounding: Rounding | None = None
    """Of a reference, where it was found."""

    @classmethod
    def of(cls, tokens: Iterable[Iterable[Iterable[int]]], rows_file: Path, shape: Sequence[int] | None) -> "Answers":
        """What a worker told.

        Args:
            shape: of a prompt's rows; None where there are none.
        """
        return cls(
            tokens=tuple(tuple(tuple(path) for path in paths) for paths in tokens),
            rows_file=rows_file if shape else None,
            row_shape=(shape[0], shape[1]) if shape else None,
        )

    @classmethod
    def of_reference(cls, paths: Sequence[Sequence[int]], rows_file: Path, shape: Sequence[int] | None) -> "Answers":
        """Of one path a prompt, which it has in every group."""
        return cls.of(
            [[paths[i] for i in group] for group in groups(len(paths) > len(PROMPT_TOKENS))], rows_file, shape
        )

    def path(self, prompt: int) -> tuple[int, ...]:
        """The tokens after a prompt, where it first occurs."""
        known = zip(groups(len(self.tokens) > len(GROUPS)), self.tokens, strict=True)
        return next(paths[group.index(prompt)] for group, paths in known if prompt in group)


def groups(long: bool) -> tuple[tuple[int, ...], ...]:
    """The prompts that are generated together, with or without the long one."""
    return (*GROUPS, LONG_GROUP) if long else GROUPS


def fixed_prompts(vocab_size: int, max_context_tokens: int, long_tokens: int = 0) -> list[list[int]]:
    """The prompts of the check, [prompt][token]; a model with a short context gets shorter ones.

    Args:
        long_tokens: length of the long prompt; 0: there is none.
    """
    room = max(1, max_context_tokens - NEW_TOKENS)
    lengths = [*PROMPT_TOKENS, *([long_tokens] if long_tokens else [])]
    return [prompts(f"check-{number}", vocab_size, min(length, room), 1)[0] for number, length in enumerate(lengths)]


def long_prompt(affordable: int, longest: int, max_position: int, window: int | None) -> int:
    """Length of the long prompt; 0 where it would be no longer than the others.

    Args:
        affordable: tokens that it may have, for its cost.
        longest: tokens of the longest sequence that will be timed. Up to there candidates are legal that do not honour
            a sliding window of `window` tokens.
        max_position: the model's; 0 where it names none.
    """
    room = min(affordable, (max_position or 1 << 30) - NEW_TOKENS)
    if window is not None and window < room and longest <= window:
        room = window - NEW_TOKENS
    length = min(LONG_TOKENS, room)
    if window is not None and PROMPT_TOKENS[-1] < window + BEYOND_WINDOW <= room:
        length = window + BEYOND_WINDOW
    return length if length > PROMPT_TOKENS[-1] else 0


def rounding_of(reference: Answers, rounded_rows: Path, shape: tuple[int, int]) -> Rounding | None:
    """The reference's own rounding error, from its scores in 16 bits; None where those are no numbers."""
    expected, found = rows_of(reference.rows_file, reference.row_shape), rows_of(rounded_rows, shape)
    if expected is None or found is None:
        return None
    of = distances(expected[: len(found)], found)
    best = found[..., : expected.shape[2]].argmax(axis=-1)
    margins = [[below(expected[p, s], int(token)) for s, token in enumerate(row)] for p, row in enumerate(best)]
    rounding = Rounding(
        median_kl=float(_medians(of.kl).max()),
        mean_kl=float(of.kl.mean(axis=1).max()),
        diff=float(of.diff.max()),
        mean_margin=max(sum(row) / len(row) for row in margins),
    )
    told = (rounding.median_kl, rounding.mean_kl, rounding.diff, rounding.mean_margin)
    return rounding if all(map(math.isfinite, told)) else None


def compare(reference: Answers, candidate: Answers, precision: str) -> Agreement:
    """Judge `candidate` against `reference`.

    Args:
        precision: key of TOLERANCES.
    """
    allowed = tolerance(precision, reference.rounding)
    expected = rows_of(reference.rows_file, reference.row_shape)
    if expected is None:
        return Agreement(verdict=OutputVerdict.UNCHECKED, detail="the reference gave no scores")
    found = rows_of(candidate.rows_file, candidate.row_shape)
    kl = top1 = max_diff = None
    troubles: list[str] = []
    if found is not None:
        if found.shape[2] < expected.shape[2]:
            troubles.append(f"scores {found.shape[2]} tokens; the vocabulary has {expected.shape[2]}")
            found = None
        else:
            scored = expected[: len(found)]
            of = distances(scored, found)
            kl, top1, max_diff = float(of.kl.mean()), float(of.same.mean()), float(of.diff.max())
            troubles += _far(of, scored, found, allowed)
    told, more = _choices(reference, candidate, expected, found, allowed)
    troubles += more
    if troubles:
        verdict, detail = OutputVerdict.WRONG, f"{troubles[0]}; {told}"
    else:
        verdict, detail = (OutputVerdict.LOSSY if precision in LOSSY else OutputVerdict.RIGHT), told
    return Agreement(verdict=verdict, kl=kl, top1=top1, max_diff=max_diff, detail=detail)


def _far(of: Distances, expected: "NDArray[np.float32]", found: "NDArray[np.float32]", allowed: Tolerance) -> list[str]:
    """What is wrong with the scores; the worst prompt is named."""
    medians, means = _medians(of.kl), of.kl.mean(axis=1)
    worst = int(medians.argmax())
    if not medians[worst] <= allowed.median_kl:
        of_all = f"after prompt {worst + 1} of {len(medians)}"
        return [f"diverges from the reference by {medians[worst]:.2g} nats {of_all} ({allowed.median_kl:.2g} allowed)"]
    worst = int(means.argmax())
    if not means[worst] <= allowed.mean_kl:
        of_all = f"on average after prompt {worst + 1} of {len(means)}"
        return [f"diverges from the reference by {means[worst]:.2g} nats {of_all} ({allowed.mean_kl:.2g} allowed)"]
    if math.isfinite(allowed.strangers):
        shares = means / strangers(expected, found).mean(axis=1)
        worst = int(shares.argmax())
        if not (shares[worst] <= allowed.strangers or means[worst] <= TOLERANCES["16-bit"].mean_kl):
            sentence = (
                f"diverges from the reference by {means[worst]:.2g} nats after prompt {worst + 1} of {len(means)},"
                f" {shares[worst]:.2g} of what scores of other positions do ({allowed.strangers:g} allowed)"
            )
            return [sentence]
    return []


def _choices(
    reference: Answers,
    candidate: Answers,
    expected: "NDArray[np.float32]",
    found: "NDArray[np.float32] | None",
    allowed: Tolerance,
) -> tuple[str, list[str]]:
    """What was compared, and what is wrong with the tokens that were chosen."""
    equal, count, troubles, every = 0, 0, list[str](), list[float]()
    for group, paths in zip(groups(len(candidate.tokens) > len(GROUPS)), candidate.tokens, strict=True):
        for prompt, got in zip(group, paths, strict=True):
            right = reference.path(prompt)
            mine = found[prompt] if found is not None and prompt < len(found) else None
            where = f"after prompt {prompt + 1} {'alone' if len(group) == 1 else f'in a batch of {len(group)}'}"
            margins = [below(expected[prompt, step], token) for step, token in enumerate(got)]
            count += 1
            every += margins
            equal += got == right
            worst = margins.index(max(margins))
            if margins[worst] > allowed.margin:
                troubles.append(
                    f"token {worst + 1} {where} is {got[worst]}, which the reference scores {margins[worst]:.2f}"
                    f" deviations below its own choice, {right[worst]}"
                )
            elif (mine is None or math.isfinite(allowed.margin)) and sum(margins) / len(margins) > allowed.mean_margin:
                troubles.append(
                    f"the tokens {where} are {sum(margins) / len(margins):.2g} deviations below the reference's own"
                    f" choices on average ({allowed.mean_margin:.2g} allowed)"
                )
            if mine is None:
                continue
            own = [below(mine[step], token) for step, token in enumerate(got)]
            worst = own.index(max(own))
            if not own[worst] <= allowed.own_margin:
                troubles.append(
                    f"token {worst + 1} {where} is {got[worst]}, which its own scores have {own[worst]:.2f} deviations"
                    " below the best"
                )
    mean = sum(every) / len(every)
    if mean > allowed.all_margin:
        troubles.append(
            f"the tokens chosen are {mean:.2g} deviations below the reference's own choices on average"
            f" ({allowed.all_margin:.2g} allowed)"
        )
    return f"{equal} of {count} greedy paths equal", troubles


def _medians(kl: "NDArray[np.float64]") -> "NDArray[np.float64]":
    import numpy as np

    # The upper one of the two in the middle: half of all positions at least are as near.
    return np.asarray(np.sort(kl, axis=1)[:, kl.shape[1] // 2])
