"""Is the output right: a candidate's tokens and scores are compared with the reference's; wrong, lossy or right.

Random weights make greedy paths fragile: two right engines part where the two best tokens are nearly equal. So every
choice is judged after a prefix of the reference's own path, teacher-forced, by how much worse the reference scores it;
and where the engine gives scores, they are compared there.

How near is near enough comes from the model: 16-bit engines may be a few times as far from the reference as the
reference is from itself when it is computed in 16 bits. Lossy engines may be far, but must be nearer to the reference's
own scores than to its scores at other positions: what computes something else is near to neither.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
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

CHECK_VERSION = "4"
"""Part of the key of a kept reference. Raise it when the prompts change, or what a reference is."""
NEW_TOKENS = 8
PROMPT_TOKENS = (24, 24, 96)
"""Length of each short prompt; a long one may follow them."""
LONG_TOKENS = 1040
"""Length of the long prompt, where the calibration itself is long enough to afford it."""
LONG_SHARE = 0.5
"""Tokens of the check's long prompt, as a share of the prompt tokens of all cells: the long prompt is computed twice in
one launch, the cells three times and more in each."""
BEYOND_WINDOW = 16
"""A long prompt ends so many tokens beyond a sliding window: there one key too many or too few weighs most."""
GROUPS: tuple[tuple[int, ...], ...] = ((0,), (1,), (1, 0), (2,))
"""The prompts that are generated together. The second comes right after the first, in a call of the same shape, so that
a cache that was not cleared shows; then both in a batch, in the other order, so that swapped rows show."""
LONG_GROUP = (3,)
TOLD_BY_SCORES = 2
"""From this prompt on an engine whose scores are the steps of `generate` gives scores alone. What shows only from one
call to the next, or in a batch, has shown with the prompts before."""

_INEXACT = "the reference has 16 bits, and more is allowed for it"


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
    """How far 16 bits are off, which a reference has where it was computed in 16 bits too."""
    precision: str = "fp32"
    """Key of TOLERANCES that a reference was computed in: `fp32`, or `16-bit` where float32 could not be had."""

    @classmethod
    def of(cls, tokens: Iterable[Iterable[Iterable[int]]], rows_file: Path, shape: Sequence[int] | None) -> "Answers":
        """From what a worker answered.

        Args:
            shape: of a prompt's rows; None where the engine gives no scores.
        """
        return cls(
            tokens=tuple(tuple(tuple(path) for path in paths) for paths in tokens),
            rows_file=rows_file if shape else None,
            row_shape=(shape[0], shape[1]) if shape else None,
        )

    @classmethod
    def of_reference(cls, paths: Sequence[Sequence[int]], rows_file: Path, shape: Sequence[int] | None) -> "Answers":
        """From one path for each prompt, the same in every group."""
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
    if window is not None and longest <= window:
        room = min(room, window - NEW_TOKENS)
    length = min(LONG_TOKENS, room)
    if window is not None and PROMPT_TOKENS[-1] < window + BEYOND_WINDOW <= room:
        length = window + BEYOND_WINDOW
    return length if length > PROMPT_TOKENS[-1] else 0


def rounding_of(reference: Answers, rounded_rows: Path, shape: tuple[int, int]) -> Rounding | None:
    """The reference's own rounding error, from its scores in 16 bits; None where those are no numbers."""
    expected, rounded = rows_of(reference.rows_file, reference.row_shape), rows_of(rounded_rows, shape)
    if expected is None or rounded is None:
        return None
    apart = distances(expected[: len(rounded)], rounded)
    best = rounded[..., : expected.shape[2]].argmax(axis=-1)
    margins = [
        [below(expected[prompt, step], int(token)) for step, token in enumerate(path)]
        for prompt, path in enumerate(best)
    ]
    rounding = Rounding(
        median_kl=float(_medians(apart.kl).max()),
        mean_kl=float(apart.kl.mean(axis=1).max()),
        diff=float(apart.diff.max()),
        mean_margin=max(sum(row) / len(row) for row in margins),
    )
    errors = (rounding.median_kl, rounding.mean_kl, rounding.diff, rounding.mean_margin)
    return rounding if all(map(math.isfinite, errors)) else None


def compare(reference: Answers, candidate: Answers, precision: str, *, mixture: bool = False) -> Agreement:
    """Judge `candidate` against `reference`.

    Args:
        precision: key of TOLERANCES.
        mixture: the model has experts: a token that rounding sends to another one is as far off as an error, so the
            means leave the farthest quarter of the positions after each prompt out.
    """
    allowed = tolerance(precision, reference.rounding, reference.precision)
    expected = rows_of(reference.rows_file, reference.row_shape)
    if expected is None:
        return Agreement(verdict=OutputVerdict.UNCHECKED, detail="the reference gave no scores")
    scores = rows_of(candidate.rows_file, candidate.row_shape)
    kl = top1 = max_diff = None
    troubles: list[str] = []
    if scores is not None:
        if scores.shape[2] < expected.shape[2]:
            troubles.append(f"scores {scores.shape[2]} tokens; the vocabulary has {expected.shape[2]}")
            scores = None
        else:
            apart = distances(expected[: len(scores)], scores)
            kl, top1, max_diff = float(apart.kl.mean()), float(apart.same.mean()), float(apart.diff.max())
            troubles += _wrong_scores(apart, expected[: len(scores)], scores, allowed, mixture=mixture)
    equal_paths, wrong_choices = _choices(reference, candidate, expected, scores, allowed)
    troubles += wrong_choices
    detail = equal_paths if reference.precision == "fp32" else f"{equal_paths}; {_INEXACT}"
    if troubles:
        verdict, detail = OutputVerdict.WRONG, f"{troubles[0]}; {detail}"
    else:
        verdict = OutputVerdict.LOSSY if precision in LOSSY else OutputVerdict.RIGHT
    return Agreement(verdict=verdict, kl=kl, top1=top1, max_diff=max_diff, detail=detail)


def _wrong_scores(
    apart: Distances,
    expected: "NDArray[np.float32]",
    scores: "NDArray[np.float32]",
    allowed: Tolerance,
    *,
    mixture: bool,
) -> list[str]:
    """What is wrong with the scores; the worst prompt is named."""
    medians, means = _medians(apart.kl), _means(apart.kl, without=apart.kl.shape[1] // 4 if mixture else 0)
    worst = int(medians.argmax())
    if not medians[worst] <= allowed.median_kl:
        where = f"after prompt {worst + 1} of {len(medians)}"
        return [f"diverges from the reference by {medians[worst]:.2g} nats {where} ({allowed.median_kl:.2g} allowed)"]
    worst = int(means.argmax())
    if not means[worst] <= allowed.mean_kl:
        where = f"on average after prompt {worst + 1} of {len(means)}"
        return [f"diverges from the reference by {means[worst]:.2g} nats {where} ({allowed.mean_kl:.2g} allowed)"]
    if math.isfinite(allowed.strangers):
        shares = means / strangers(expected, scores).mean(axis=1)
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
    scores: "NDArray[np.float32] | None",
    allowed: Tolerance,
) -> tuple[str, list[str]]:
    """How many paths are equal, and what is wrong with the tokens that were chosen."""
    equal, compared, troubles, all_margins = 0, 0, list[str](), list[float]()
    for group, paths in zip(groups(len(candidate.tokens) > len(GROUPS)), candidate.tokens, strict=True):
        for prompt, chosen in zip(group, paths, strict=True):
            path = reference.path(prompt)
            own_scores = scores[prompt] if scores is not None and prompt < len(scores) else None
            where = f"after prompt {prompt + 1} {'alone' if len(group) == 1 else f'in a batch of {len(group)}'}"
            margins = [below(expected[prompt, step], token) for step, token in enumerate(chosen)]
            compared += 1
            equal += chosen == path
            all_margins += margins
            troubles += _worse_than_the_path(where, chosen, path, margins, allowed, scored=own_scores is not None)
            if own_scores is not None:
                troubles += _worse_than_its_scores(where, chosen, own_scores, allowed)
    mean = sum(all_margins) / len(all_margins)
    if mean > allowed.all_margin:
        troubles.append(
            f"the tokens chosen are {mean:.2g} deviations below the reference's own choices on average"
            f" ({allowed.all_margin:.2g} allowed)"
        )
    return f"{equal} of {compared} greedy paths equal", troubles


def _worse_than_the_path(
    where: str,
    chosen: Sequence[int],
    path: Sequence[int],
    margins: Sequence[float],
    allowed: Tolerance,
    *,
    scored: bool,
) -> Iterator[str]:
    """Which choice the reference scores too far below its own, or that all together are.

    Args:
        margins: of each choice below the reference's, in deviations.
        scored: the candidate gave its scores, which are held to the reference themselves.
    """
    worst = margins.index(max(margins))
    mean = sum(margins) / len(margins)
    if margins[worst] > allowed.margin:
        yield (
            f"token {worst + 1} {where} is {chosen[worst]}, which the reference scores {margins[worst]:.2f}"
            f" deviations below its own choice, {path[worst]}"
        )
    elif (not scored or math.isfinite(allowed.margin)) and mean > allowed.mean_margin:
        yield (
            f"the tokens {where} are {mean:.2g} deviations below the reference's own"
            f" choices on average ({allowed.mean_margin:.2g} allowed)"
        )


def _worse_than_its_scores(
    where: str, chosen: Sequence[int], own_scores: "NDArray[np.float32]", allowed: Tolerance
) -> Iterator[str]:
    """Which choice the candidate's own scores have too far below their best."""
    margins = [below(own_scores[step], token) for step, token in enumerate(chosen)]
    worst = margins.index(max(margins))
    if not margins[worst] <= allowed.own_margin:
        yield (
            f"token {worst + 1} {where} is {chosen[worst]}, which its own scores have {margins[worst]:.2f} deviations"
            " below the best"
        )


def _means(kl: "NDArray[np.float64]", *, without: int) -> "NDArray[np.float64]":
    """Of each prompt, without so many of its farthest positions."""
    import numpy as np

    return np.asarray(np.sort(kl, axis=1)[:, : kl.shape[1] - without].mean(axis=1))


def _medians(kl: "NDArray[np.float64]") -> "NDArray[np.float64]":
    import numpy as np

    # The upper one of the two in the middle: half of all positions at least are as near.
    return np.asarray(np.sort(kl, axis=1)[:, kl.shape[1] // 2])
