"""Is the output right: a candidate's tokens and scores beside the reference's; wrong, lossy or right.

Random weights make greedy paths fragile: two right engines part where the two best tokens are nearly equal. So a path
is judged at the first token at which it leaves the reference's, by how much worse the reference scores that token, and
the distributions are compared along the reference's own path, teacher-forced.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.measurement import Agreement, OutputVerdict
from calibration.worker import prompts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHECK_VERSION = "1"
NEW_TOKENS = 8
PROMPT_TOKENS = (24, 24, 96)
"""Length of each fixed prompt."""
GROUPS: tuple[tuple[int, ...], ...] = ((0,), (1, 0), (2,))
"""The prompts that are generated together: the first alone, then second in a batch, so that swapped rows show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far an engine of one precision may be from the reference."""

    kl: float
    """Mean Kullback-Leibler divergence, nats."""
    margin: float
    """How much worse, in standard deviations of the reference's scores, a token may be that is chosen for the best."""


TOLERANCES: dict[str, Tolerance] = {
    # float32 engines differ by 2e-5 of logits with a deviation of 2 (ONNX Runtime, CTranslate2 against transformers).
    "fp32": Tolerance(kl=1e-4, margin=0.02),
    # bfloat16 rounds logits by up to 0.15 at that deviation: 0.075 deviations each way, and a divergence near 1e-3.
    "16-bit": Tolerance(kl=0.02, margin=0.3),
    # A lossy engine is not wrong for being lossy; an engine that computes something else stands near 4 nats.
    "lossy": Tolerance(kl=1.5, margin=3.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Tokens and scores of one engine on the fixed prompts."""

    tokens: tuple[tuple[tuple[int, ...], ...], ...]
    """[group][prompt of the group][NEW_TOKENS]"""
    rows_file: Path | None
    """float32 [prompt, NEW_TOKENS, vocab] logits or log-probabilities along the reference's path; None where the engine
    gives no scores."""
    row_shape: tuple[int, int] | None
    """(NEW_TOKENS, vocab)"""

    def path(self, prompt: int) -> tuple[int, ...]:
        """The tokens after a prompt, where it first occurs."""
        return next(self.tokens[g][group.index(prompt)] for g, group in enumerate(GROUPS) if prompt in group)


def fixed_prompts(vocab_size: int, max_context_tokens: int) -> list[list[int]]:
    """The prompts of the check, [prompt][token]; a model with a short context gets shorter ones."""
    room = max(1, max_context_tokens - NEW_TOKENS)
    return [
        prompts(f"check-{number}", vocab_size, min(length, room), 1)[0] for number, length in enumerate(PROMPT_TOKENS)
    ]


def precision_class(precision: str, dtype: str, *, lossy: bool) -> str:
    """The key of TOLERANCES for a variant's precision on a model of this dtype."""
    if lossy:
        return "lossy"
    return "fp32" if precision == "fp32" or (precision == "model" and dtype == "float32") else "16-bit"


def compare(reference: Answers, candidate: Answers, precision: str) -> Agreement:
    """Judge `candidate` against `reference`.

    Args:
        precision: key of TOLERANCES.
    """
    tolerance = TOLERANCES[precision]
    expected = _rows(reference)
    if expected is None:
        return Agreement(verdict=OutputVerdict.UNCHECKED, detail="the reference gave no scores")
    found = _rows(candidate)
    kl = top1 = None
    if found is not None:
        if found.shape[2] < expected.shape[2]:
            return _wrong(f"scores {found.shape[2]} tokens; the vocabulary has {expected.shape[2]}")
        divergence, top1 = _divergence(expected, found)
        kl = sum(divergence) / len(divergence)
        if not kl <= tolerance.kl:
            worst = divergence.index(max(divergence)) + 1
            return _wrong(
                f"diverges from the reference by {kl:.2g} nats on average ({tolerance.kl:g} allowed), most after prompt"
                f" {worst} of {len(divergence)}",
                kl=kl,
                top1=top1,
            )
    detail, worst_margin = _first_departures(reference, candidate, expected)
    if worst_margin > tolerance.margin:
        return _wrong(detail, kl=kl, top1=top1)
    verdict = OutputVerdict.LOSSY if precision == "lossy" else OutputVerdict.RIGHT
    return Agreement(verdict=verdict, kl=kl, top1=top1, detail=detail)


def _wrong(detail: str, *, kl: float | None = None, top1: float | None = None) -> Agreement:
    return Agreement(verdict=OutputVerdict.WRONG, kl=kl, top1=top1, detail=detail)


def _rows(answers: Answers) -> "NDArray[np.float32] | None":
    """Scores [prompt, NEW_TOKENS, vocab], left on the disk: a calibration's parent stays small."""
    import numpy as np

    if answers.rows_file is None or answers.row_shape is None:
        return None
    return np.memmap(answers.rows_file, dtype=np.float32, mode="r").reshape(-1, *answers.row_shape)


def _divergence(expected: "NDArray[np.float32]", found: "NDArray[np.float32]") -> tuple[list[float], float]:
    """Mean KL(expected || found) of each prompt, in nats, and the share of positions with the same best token.

    An engine that gives only its best k scores leaves the rest at -inf (or below FLOOR): both sides are then
    renormalised over the tokens that it scored.
    """
    import numpy as np

    divergence, same, count = [], 0, 0
    for ours, theirs in zip(expected, found, strict=True):
        total = 0.0
        for right, wide in zip(ours, theirs, strict=True):
            got = wide[: len(right)].astype(np.float64)
            scored = np.isfinite(got) & (got > FLOOR)
            count += 1
            if not scored.any():
                total = math.inf
                continue
            p, q = _log_softmax(right.astype(np.float64)[scored]), _log_softmax(got[scored])
            total += float((np.exp(p) * (p - q)).sum())
            same += int(right.argmax() == np.where(scored, got, -np.inf).argmax())
        divergence.append(total / len(ours))
    return divergence, same / count


def _log_softmax(row: "NDArray[np.float64]") -> "NDArray[np.float64]":
    import numpy as np

    shifted = row - row.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


FLOOR = -1e30
"""Scores at or below it mean: not among those the engine gives."""


def _first_departures(reference: Answers, candidate: Answers, expected: "NDArray[np.float32]") -> tuple[str, float]:
    """What was compared, and the worst margin in deviations by which a path leaves the reference's.

    Up to its first departure a path is the reference's, so the reference's rows along its own path judge it.
    """
    worst, sentence, equal, count = 0.0, "", 0, 0
    for group, paths in zip(GROUPS, candidate.tokens, strict=True):
        for prompt, got in zip(group, paths, strict=True):
            right = reference.path(prompt)
            count += 1
            step = _first_difference(right, got)
            if step is None:
                equal += 1
                continue
            row = expected[prompt, step].astype("float64")
            chosen = row[got[step]] if got[step] < len(row) else row.min()
            margin = float((row[right[step]] - chosen) / row.std())
            if margin > worst:
                worst = margin
                where = "alone" if len(group) == 1 else f"in a batch of {len(group)}"
                sentence = (
                    f"token {step + 1} after prompt {prompt + 1} {where} is {got[step]}, which the reference scores"
                    f" {margin:.2f} deviations below its own choice, {right[step]}"
                )
    same = f"{equal} of {count} greedy paths equal"
    return (f"{sentence}; {same}" if sentence else same), worst


def _first_difference(a: Sequence[int], b: Sequence[int]) -> int | None:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), None)
